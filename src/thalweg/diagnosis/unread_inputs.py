"""Inputs that the model does not read: an argument that forward leaves out, features or places that no layer takes."""

from typing import Any

import torch
from torch import Tensor

from thalweg.diagnosis.findings import Finding
from thalweg.diagnosis.input_scale import CONVOLUTIONS, which
from thalweg.diagnosis.observe import FEWEST, Seen
from thalweg.diagnosis.passes import along, stepped
from thalweg.tensors.as_trained import as_trained
from thalweg.tensors.private import tree_flatten

SHARE = 0.5


def unread_inputs(seen: Seen) -> list[Finding]:
    """Finds inputs, features of ``(N, features)``, or more than half of the numbers of an example, that change nothing.

        f(x') = f(x),   x' is x with another example's numbers in these places

    Where ∂f/∂x is 0 for all examples tells which to try. The model is run as in training, at the start and, since a
    branch may begin at 0, after one step. An argument must also come to no function.

    >>> from torch import nn
    >>> from thalweg.diagnosis.observe import observe
    >>> class Net(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.out = nn.Linear(2, 1)
    ...     def forward(self, x):
    ...         return self.out(x[:, 1:])
    >>> found = unread_inputs(observe(Net(), (torch.randn(9, 3), torch.randn(9, 1)), nn.functional.mse_loss))
    >>> [(f.layer, f.figure, f.meaning) for f in found]
    [('inputs', 1.0, 'the model does not read feature 0 of inputs: forward leaves it out')]
    """
    if seen.examples < FEWEST:
        return []
    found = []
    for at, x in enumerate(seen.inputs):
        if not isinstance(x, Tensor) or x.layout != torch.strided or not (dims := along(x, seen.examples)):
            continue
        name, dim = "inputs" if len(seen.inputs) == 1 else f"inputs[{at}]", dims[0]
        if at in seen.unused:
            if _changes_nothing(seen, at, torch.ones_like(x, dtype=torch.bool), dim):
                meaning = f"the model does not read {name}: forward leaves it out"
                found.append(Finding("unread inputs", "warning", name, 1.0, meaning, threshold=0.0))
            continue
        still = _still(seen, at, dim)
        share = float(still.double().mean())
        if share in (0, 1) or (x.dim() > 2 and share <= SHARE):
            continue
        with stepped(seen) as later:  # what only starts at 0 is read there
            still &= _still(later, at, dim)
            if not bool(still.any()) or not _changes_nothing(later, at, still, dim):
                continue
        share, features = float(still.double().mean()), still.flatten().nonzero().flatten().tolist()
        if x.dim() == 2:
            meaning = f"the model does not read {which(features)} of {name}: forward leaves it out"
            found.append(Finding("unread inputs", "warning", name, float(len(features)), meaning, threshold=0.0))
        elif share > SHARE:
            meaning = f"the model does not read {share:.0%} of the numbers of an example of {name}"
            found.append(Finding("unread inputs", "warning", name, share, meaning, _wider(seen), threshold=SHARE))
    return found


def _still(seen: Seen, at: int, dim: int) -> Tensor:
    """Returns the places of an input by which the output has no gradient for any example; none of one of integers."""
    x = seen.inputs[at].detach()
    none = torch.zeros_like(x.narrow(dim, 0, 1), dtype=torch.bool)
    if not x.is_floating_point():
        return none
    x = x.clone().requires_grad_()
    try:
        with as_trained(seen.model):
            output = seen.model(*seen.inputs[:at], x, *seen.inputs[at + 1 :])
            parts = [t for t in tree_flatten(output)[0] if isinstance(t, Tensor) and t.requires_grad]
            draws = [torch.randn_like(t) for t in parts]
            (slope,) = torch.autograd.grad(parts, [x], draws)
    except (RuntimeError, ValueError, TypeError):  # it may change its input in place, or leave torch
        return none
    return (slope == 0).all(dim, keepdim=True)


def _changes_nothing(seen: Seen, at: int, places: Tensor, dim: int) -> bool:
    """Returns whether the output is the same with another example's numbers in some places of an input."""
    x = seen.inputs[at].detach()
    other = torch.where(places, x.roll(1, dim), x)
    if torch.equal(other, x):
        return False
    try:
        with as_trained(seen.model), torch.no_grad():
            after = seen.model(*seen.inputs[:at], other, *seen.inputs[at + 1 :])
    except Exception:  # a model may take only what it was trained on
        return False
    pairs = zip(tree_flatten(after)[0], tree_flatten(seen.output)[0], strict=False)
    return all(torch.equal(a, b) for a, b in pairs if isinstance(a, Tensor))


def _wider(seen: Seen) -> str:
    """Returns the line that makes the first convolution as wide as its stride, where that keeps its output's size."""
    name, layer = next(iter(seen.layers.items()), ("", None))
    module: Any = None if layer is None else layer.module
    if not name or not isinstance(module, CONVOLUTIONS) or layer is None or layer.received is None:
        return ""
    steps: Any = zip(layer.received.shape[2:], module.stride, module.kernel_size, module.padding, strict=True)
    if not all(k < s and (n + 2 * p) % s == 0 for n, s, k, p in steps):
        return ""
    kind = type(module).__name__
    place = f"model.get_submodule({name!r})"
    sizes = (
        f"m.in_channels, m.out_channels, m.stride, m.stride, m.padding, groups=m.groups, bias={module.bias is not None}"
    )
    return f"m = {place}; model.set_submodule({name!r}, torch.nn.{kind}({sizes}))"
