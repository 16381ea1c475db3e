"""A target of another shape than the output, which broadcasts: each output is then compared with every target."""

import torch
from torch import Tensor

from thalweg.diagnosis.findings import Finding
from thalweg.diagnosis.loss_form import Trial, trial
from thalweg.diagnosis.observe import Seen


def broadcast_target(seen: Seen) -> list[Finding]:
    """Finds outputs and targets of one size whose shapes broadcast to a larger one, where the loss lets them.

    That it does shows in that the loss stays the same as the targets change places.

    >>> from torch import nn
    >>> from thalweg.diagnosis.observe import observe
    >>> def loss(y, t):
    ...     return (y - t).square().mean()
    >>> found = broadcast_target(observe(nn.Linear(3, 1), (torch.randn(9, 3), torch.randn(9)), loss))
    >>> [(f.kind, f.figure, f.fix_code) for f in found]
    [('broadcast target', 81.0, 'target = target.reshape(-1, 1)')]
    """
    y, target = seen.scores, seen.target
    if y is None or not isinstance(target, Tensor) or y.shape == target.shape or y.numel() != target.numel():
        return []
    try:
        size = torch.broadcast_shapes(y.shape, target.shape).numel()
    except RuntimeError:
        return []
    test = trial(seen)
    if size <= y.numel() or test is None or not _pairs_all(test):
        return []
    shapes = f"{tuple(y.shape)} and targets of shape {tuple(target.shape)}"
    meaning = f"outputs of shape {shapes} give {size} differences instead of {y.numel()}: each output meets each target"
    fix = f"target = target.reshape({', '.join(map(str, (-1, *y.shape[1:])))})"
    return [Finding("broadcast target", "error", "", float(size), meaning, fix, threshold=float(y.numel()))]


def _pairs_all(test: Trial) -> bool:
    """Returns whether the loss stays the same as the targets change places, which no loss of pairs does."""
    target: Tensor = test.target
    if bool((target == target[:1]).all()):
        return False
    order = torch.arange(len(target), device=target.device).roll(1)
    moved = test.at(test.scores, target[order])
    fitted = test.at(target.to(test.scores.dtype).reshape(test.scores.shape))
    apart = test.at(target[order].to(test.scores.dtype).reshape(test.scores.shape))
    if test.start is None or moved is None or fitted is None or apart is None:
        return False
    return abs(moved - test.start) <= test.near and abs(fitted - apart) <= test.near
