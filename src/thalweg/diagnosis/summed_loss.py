"""A loss that is summed over the examples, so that the step grows with the batch."""

import torch
from torch import Tensor

from thalweg.diagnosis.findings import Finding
from thalweg.diagnosis.loss_form import trial
from thalweg.diagnosis.observe import Seen
from thalweg.tensors.private import tree_map

RATIO = 1.5


def summed_loss(seen: Seen) -> list[Finding]:
    """Finds a loss that more than 1.5 times itself, and so twice, comes to on the batch taken twice.

    >>> from torch import nn
    >>> from thalweg.diagnosis.observe import observe
    >>> total = nn.MSELoss(reduction="sum")
    >>> [f.figure for f in summed_loss(observe(nn.Linear(3, 1), (torch.randn(9, 3), torch.randn(9, 1)), total))]
    [2.0]

    Source: Deep Learning, §8.1.3 (the mean over a minibatch estimates the expected loss).
    """
    test = trial(seen)
    if test is None or test.start is None or abs(test.start) < 1e-9 or len(test.scores) != seen.examples:
        return []
    double = test.at(*tree_map(lambda t: _twice(t, seen.examples), (test.scores, test.target)))
    if double is None or abs(double / test.start - 2) > 1e-3:
        return []
    ratio = round(double / test.start, 3)
    meaning = "the loss of the batch taken twice is twice as large: it is a sum, so the best learning rate depends on N"
    fix = f"loss = lambda output, target, loss=loss: loss(output, target) / {_count(seen)}"
    return [Finding("summed loss", "warning", "", ratio, meaning, fix, threshold=RATIO)]


def _count(seen: Seen) -> str:
    if isinstance(seen.target, Tensor) and seen.target.dim():
        return "len(target)"
    return "len(output)" if isinstance(seen.output, Tensor) else str(seen.examples)


def _twice(value: object, examples: int) -> object:
    if isinstance(value, Tensor) and value.dim() and len(value) == examples:
        return torch.cat([value, value])
    return value
