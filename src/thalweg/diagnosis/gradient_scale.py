"""Gradients over depth: whether they vanish or explode on their way back to the first layers."""

from thalweg.diagnosis.cut_gradient import behind_cuts
from thalweg.diagnosis.findings import Finding
from thalweg.diagnosis.fixes import rescale
from thalweg.diagnosis.forward_recorder import Layer
from thalweg.diagnosis.observe import Seen
from thalweg.diagnosis.passes import stepped
from thalweg.diagnosis.scale import LARGE, SMALL, levels, runs_off, severity


def gradient_scale(seen: Seen) -> list[Finding]:
    """Finds the layer before which gradients are < 1e-3 or > 1e3 times the last's.

        g_l = ‖∂J/∂a_l‖ over the whole output: a mean over positions spreads it, and leaves ‖·‖ nearly as it is

    or, of first layers, by what they read where that is larger, to which shortcuts bring a gradient too.

    An error past 1e-6 or 1e6. Layers that no gradient comes to are a matter of the checks of unused parameters and of
    cut gradients. What starts at zero, such as an output layer or a branch, lets none through at the first step: a
    gradient of 0 counts where it is 0 after that too.

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
    found = _runs_off(seen)
    if found is None or (found[1] == 0 and _starts_at_zero(seen)):
        return []
    name, ratio = found
    kind = "vanishing gradient" if ratio < SMALL else "exploding gradient"
    meaning = (
        f"from this layer back to the first, gradients are {'below 1e-3' if ratio < SMALL else 'above 1e3'} times "
        "those "
        f"of the last layer; at the first layer {ratio:.2g} times"
    )
    bound = SMALL if ratio < SMALL else LARGE
    choices = rescale(seen, seen.layers[name])
    return [Finding(kind, severity(ratio), name, ratio, meaning, threshold=bound, choices=choices)]


def _starts_at_zero(seen: Seen) -> bool:
    with stepped(seen) as later:
        found = _runs_off(later)
    return found is None or found[1] > 0


def _runs_off(seen: Seen) -> tuple[str, float] | None:
    """Returns the layer before which gradients run off, and the first layer's as a multiple of the last's."""
    cut = behind_cuts(seen)
    names, sizes = levels(seen, _size)
    shown = [
        (name, size)
        for name, size in zip(names, sizes, strict=True)
        if seen.layers[name].gradient is not None and name not in cut
    ]
    shown.reverse()
    found = runs_off([size for _, size in shown])
    return None if found is None else (shown[found[0]][0], found[1])


def _size(layer: Layer) -> float:
    """Returns the norm of the gradient that comes to a layer, or past it by a shortcut to what it reads."""
    return max(0.0 if g is None else float(g.float().norm()) for g in (layer.gradient, layer.handed_on))
