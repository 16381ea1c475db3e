"""Dead units: rectifiers that give zero for every example pass no gradient on."""

from torch import Tensor

from thalweg.diagnosis.findings import Finding, Severity
from thalweg.diagnosis.fixes import rescale
from thalweg.diagnosis.forward_recorder import Layer
from thalweg.diagnosis.observe import FEWEST, Seen, by_unit

SHARE, NARROW, WIDE, ALIKE = 0.5, 0.9, 16, 2.0
RECTIFIERS = ("relu", "relu6", "hardswish")


def dead_units(seen: Seen) -> list[Finding]:
    """Finds layers half of whose rectifiers, or all, are zero for every example; none is judged by fewer than 8.

    Of layers with fewer than 16 units or inputs, as in the middle of autoencoders, and of those whose inputs are much
    the same for all examples, as means over a set are, it must be nine in ten: they have more by chance.

    >>> import torch
    >>> from torch import nn
    >>> from thalweg.diagnosis.observe import observe
    >>> net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))
    >>> _ = nn.init.constant_(net[0].bias, -100.0)
    >>> found = dead_units(observe(net, (torch.randn(9, 3), torch.randn(9, 1)), nn.functional.mse_loss))
    >>> [(f.severity, f.layer, f.figure) for f in found]
    [('error', '0', 1.0)]

    Source: Deep Learning, §6.3.1, §8.4 (p. 305: a bias of 0.1 for rectifiers).
    """
    found = []
    for layer in seen.layers.values() if seen.examples >= FEWEST else ():
        for name in layer.activations.keys() & set(RECTIFIERS):
            share, bound = float(dead(layer, name).float().mean()), _bound(layer)
            if share >= bound:
                part = "all" if share == 1 else f"{share:.0%} of"
                meaning = f"{part} the rectifiers are 0 for every example of the batch and receive no gradient"
                severity: Severity = "error" if share == 1 else "warning"
                choices = rescale(seen, layer, center=True)
                found.append(
                    Finding("dead units", severity, layer.name, share, meaning, threshold=bound, choices=choices)
                )
    return found


def _bound(layer: Layer) -> float:
    """Returns the share of dead units that is warned of."""
    units = by_unit(layer, layer.output).shape[1]
    read = units
    if layer.received is not None and layer.received.dim() == layer.output.dim():
        cases = layer.received.movedim(layer.unit_dim, -1).flatten(0, -2)
        read = int((cases != cases[:1]).any(0).sum())
        if float(cases.mean(0).square().sum()) > ALIKE**2 * float(cases.var(0, correction=0).sum()):
            return NARROW
    return SHARE if min(units, read) >= WIDE else NARROW


def dead(layer: Layer, name: str) -> Tensor:
    """Returns which units ``(units,)`` the rectifier of this name gives as zero for every example."""
    return (by_unit(layer, layer.activations[name]) == 0).all(0)
