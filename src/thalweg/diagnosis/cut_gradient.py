"""Gradients that are cut: layers that run, and whose output no gradient comes back through."""

from collections.abc import Mapping

from thalweg.diagnosis.findings import Finding
from thalweg.diagnosis.forward_recorder import Layer
from thalweg.diagnosis.observe import Seen


def cut_gradient(seen: Seen) -> list[Finding]:
    """Finds trained layers that no gradient comes to because of a function after them, and all before these.

    Such functions are a detach, ``torch.no_grad``, comparisons and arguments of maxima, whose values have no graph, and
    rounding and signs, whose derivative is 0.

    >>> import torch
    >>> from torch import nn
    >>> from thalweg.diagnosis.observe import observe
    >>> class Net(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.a, self.b = nn.Linear(3, 4), nn.Linear(4, 1)
    ...     def forward(self, x):
    ...         return self.b(self.a(x).round())
    >>> found = cut_gradient(observe(Net(), (torch.randn(9, 3), torch.randn(9, 1)), nn.functional.mse_loss))
    >>> [(f.kind, f.layer, f.figure) for f in found]
    [('cut gradient', 'a', 2.0)]

    Source: Deep Learning, §6.5 (a gradient goes back through every function of the graph), §20.9.
    """
    found = []
    behind = behind_cuts(seen)
    for name in behind:
        cuts = sorted(seen.layers[name].cuts)
        if cuts:
            own = sum(n.startswith(f"{name}.") for n in seen.gradients)
            before = len(behind) - 1
            meaning = (
                f"no gradient comes back through {' or '.join(cuts)} after it"
                f"{f', nor to {before} other layers' if before else ''}: take that out of forward, or, if it is on "
                "purpose, freeze what is before it"
            )
            found.append(Finding("cut gradient", "warning", name, float(own), meaning, threshold=0.0))
    return found


def behind_cuts(seen: Seen) -> list[str]:
    """Returns trained layers without a gradient after which it is cut, or that come only to such layers."""
    found: Mapping[str, Layer] = {}
    for name, layer in reversed(seen.layers.items()):
        trained = any(p.requires_grad for p in layer.module.parameters())
        without = layer.gradient is None or not layer.gradient.any()
        if trained and without and (layer.cuts or (layer.feeds and layer.feeds <= found.keys())):
            found = {name: layer, **found}
    return list(found)
