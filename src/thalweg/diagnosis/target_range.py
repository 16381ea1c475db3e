"""Targets outside the range that the loss takes, such as masks of 0 and 255 for binary cross-entropy."""

import math

import torch
from torch import Tensor

from thalweg.diagnosis.findings import Finding
from thalweg.diagnosis.loss_form import Trial, trial
from thalweg.diagnosis.observe import Seen

FAR = 30.0  # scores at which a sigmoid is 0 or 1 to rounding
NEAR = 1e-6  # and probabilities
BELOW = 1e-3


def target_range(seen: Seen) -> list[Finding]:
    """Finds targets outside [0, 1] with which a loss of probabilities or their scores falls below 0.

    Every such loss, as binary cross-entropy, a Dice loss, and their sums, is 0 or more where targets are in [0, 1].
    With others it falls below as outputs grow, so that nothing is learned but to grow. What is tried is therefore the
    loss at large outputs: below 0 with the targets as they are, and not below with the same targets in [0, 1].

    >>> from torch import nn
    >>> from thalweg.diagnosis.observe import observe
    >>> x, masks = torch.randn(16, 4), (torch.rand(16, 2) < 0.5) * 255.0
    >>> found = target_range(observe(nn.Linear(4, 2), (x, masks), nn.functional.binary_cross_entropy_with_logits))
    >>> [(f.kind, f.figure, f.threshold, f.fix_code) for f in found]
    [('target range', 255.0, 1.0, 'target = target / 255')]

    Source: Deep Learning, §6.2.2.2 (the target of a sigmoid is a probability).
    """
    target = seen.target
    test = trial(seen) if is_beyond(target) else None
    if test is None or test.scores.numel() != target.numel():
        return []
    ends = (-FAR, FAR)
    if bool(((test.scores >= 0) & (test.scores <= 1)).all()):
        ends = (NEAR, 1 - NEAR)
    if not _falls_below(test, *ends):
        return []
    low, high = _ends(target)
    meaning = (
        f"targets range from {low:g} to {high:g}, and the loss expects them in [0, 1]: with others it falls below 0 as "
        "outputs grow"
    )
    figure = high if high > 1 else low
    threshold = 1.0 if high > 1 else 0.0
    return [Finding("target range", "error", "", figure, meaning, into_unit_range(target), threshold=threshold)]


def is_beyond(target: object) -> bool:
    """Returns whether it is one tensor of floating-point numbers, all finite, some of them outside [0, 1]."""
    if not isinstance(target, Tensor) or not target.is_floating_point() or not target.numel():
        return False
    low, high = _ends(target)
    return bool(target.isfinite().all()) and (low < 0 or high > 1) and low < high


def into_unit_range(target: Tensor) -> str:
    """Returns the line that has targets lie in [0, 1]: bytes over 255, others from their least to their largest.

    >>> into_unit_range(torch.tensor([0.0, 91, 200])), into_unit_range(torch.tensor([-1.0, 1]))
    ('target = target / 255', 'target = (target + 1) / 2')
    """
    low, high = _ends(target)
    if looks_like_bytes(target):
        low, high = 0.0, 255.0
    shifted = "target" if low == 0 else f"(target {'-' if low > 0 else '+'} {abs(low):g})"
    return f"target = {shifted}" + (f" / {high - low:g}" if high - low != 1 else "")


def looks_like_bytes(target: Tensor) -> bool:
    """Returns whether numbers are those of 8 bits: none below 0, and the largest in the upper half of 255."""
    low, high = _ends(target)
    return low >= 0 and 128 <= high <= 255


def _ends(target: Tensor) -> tuple[float, float]:
    return float(target.min()), float(target.max())


def _falls_below(test: Trial, least: float, most: float) -> bool:
    """Returns whether the loss is below 0 at outputs at either end, and is not with the same targets in [0, 1]."""
    low, high = _ends(test.target)
    inside = (test.target - low) / (high - low)
    zero = -BELOW * max(abs(test.start or 0.0), BELOW)

    def at(wanted: Tensor, target: Tensor) -> float:
        outputs = torch.where(wanted.reshape(test.scores.shape), most, least)
        value = test.at(outputs.to(test.scores.dtype), target)
        return math.nan if value is None else value

    far = test.target > 0.5
    return at(far, test.target) < zero and all(at(w, inside) >= zero for w in (far, inside > 0.5, inside >= 0))
