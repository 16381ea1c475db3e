"""Gradients over depth: whether they vanish or explode on their way back to the first layers."""

from thalweg.diagnosis.findings import Finding
from thalweg.diagnosis.mends import rescale
from thalweg.diagnosis.observe import Seen
from thalweg.diagnosis.scale import SMALL, runs_off, severity


def gradient_scale(seen: Seen) -> list[Finding]:
    """Finds the layer before which gradients are < 1e-3 or > 1e3 times the last's.

        g_l = ‖∂J/∂a_l‖ over the whole output: a mean over positions spreads it, and leaves ‖·‖ nearly as it is

    An error past 1e-6 or 1e6. Layers that no gradient comes to are a matter of the check of unused parameters; an
    output layer of zeros lets none through at the first step, and is left out.

    >>> import torch
    >>> from torch import nn
    >>> from thalweg.diagnosis.observe import observe
    >>> net = nn.Sequential(nn.Linear(3, 8), nn.Linear(8, 8), nn.Linear(8, 1))
    >>> with torch.no_grad():
    ...     _ = net[1].weight.mul_(1e-5)
    >>> found = gradient_scale(observe(net, (torch.randn(9, 3), torch.randn(9, 1)), nn.functional.mse_loss))
    >>> [(f.kind, f.layer) for f in found]
    [('vanishing gradient', '0')]

    Source: Deep Learning, §8.2.5, §8.4 (p. 302).
    """
    layers = [layer for layer in seen.layers.values() if layer.gradient is not None]
    if len(layers) < 2:
        return []
    weight = getattr(layers[-1].module, "weight", None)
    if weight is not None and not weight.detach().any():
        return []
    layers.reverse()
    found = runs_off([float(layer.gradient.float().norm()) for layer in layers if layer.gradient is not None])
    if found is None:
        return []
    at, ratio = found
    kind = "vanishing gradient" if ratio < SMALL else "exploding gradient"
    meaning = (
        f"from here back to the first layer gradients are {'below 1e-3' if ratio < SMALL else 'above 1e3'} times the "
        f"last layer's; at the first {ratio:.2g} times"
    )
    return [Finding(kind, severity(ratio), layers[at].name, ratio, meaning, *rescale(seen))]
