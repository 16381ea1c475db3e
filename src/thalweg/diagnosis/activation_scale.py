"""Activations over depth: whether the signal, what differs between examples, vanishes or explodes."""

from thalweg.diagnosis.findings import Finding
from thalweg.diagnosis.fixes import redraw, rescale
from thalweg.diagnosis.observe import Seen, deviation
from thalweg.diagnosis.scale import LARGE, SMALL, levels, runs_off, severity


def activation_scale(seen: Seen) -> list[Finding]:
    """Finds the layer from which on outputs vary between examples < 1e-3 or > 1e3 times as much as the first's.

        σ_l = √ mean_units Var_examples(a_l)

    An error where the end is past 1e-6 or 1e6, or where the output of every layer is the same for every example; first
    layers of which that holds alone are branches that start at zero. An output layer of zeros is a way to start and
    gives a note.

    >>> import torch
    >>> from torch import nn
    >>> from thalweg.diagnosis.observe import observe
    >>> net = nn.Sequential(nn.Linear(3, 8), nn.Linear(8, 8), nn.Linear(8, 1))
    >>> with torch.no_grad():
    ...     _ = net[1].weight.mul_(1e-5)
    >>> found = activation_scale(observe(net, (torch.randn(9, 3), torch.randn(9, 1)), nn.functional.mse_loss))
    >>> [(f.kind, f.layer) for f in found]
    [('vanishing signal', '1')]

    Source: Deep Learning, §8.4 (p. 302, 305).
    """
    if seen.examples < 2 or not seen.layers:
        return []
    names, sizes = levels(seen, lambda layer: deviation(layer.output, seen.examples))
    if not any(size > 0 for size in sizes):
        meaning = "the output is the same for every example: the inputs do not differ, or the weights are 0"
        first = seen.layers[names[0]]
        empty = not any(p.detach().any() for p in first.module.parameters() if p.dim() > 1)
        choices = (*redraw(first, safe=empty), *rescale(seen, first))
        return [Finding("vanishing signal", "error", names[0], 0.0, meaning, threshold=0.0, choices=choices)]
    start = next(i for i, size in enumerate(sizes) if size > 0)
    names, sizes = names[start:], sizes[start:]
    found = runs_off(sizes)
    if found is None:
        return []
    at, ratio = found
    weight = getattr(seen.layers[names[-1]].module, "weight", None)
    if at == len(names) - 1 and weight is not None and not weight.detach().any():
        meaning = "the output layer gives the same output for every example: the first step trains only that layer"
        return [Finding("constant output", "note", names[at], 0.0, meaning)]
    kind = "vanishing signal" if ratio < SMALL else "exploding signal"
    meaning = (
        f"from this layer on, outputs vary between examples {'less' if ratio < SMALL else 'more'} than "
        f"{'1e-3' if ratio < SMALL else '1e3'} times as much as in the first layer; at the last layer {ratio:.2g} times"
    )
    bound = SMALL if ratio < SMALL else LARGE
    choices = rescale(seen, seen.layers[names[at]])
    return [Finding(kind, severity(ratio), names[at], ratio, meaning, threshold=bound, choices=choices)]
