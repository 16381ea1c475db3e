"""Pacing: the share of the examples, the easiest first, that are admitted at each step or epoch of a run.

With s = min(1, t/over), t counted from 0, and λ₀ the share at the start:

=========== ==========================================================================================
linear      λ = λ₀ + (1 − λ₀) s
root        λ = (λ₀ᵖ + (1 − λ₀ᵖ) s)^{1/p}: each example, once admitted, has as long before new ones come
exponential λ = λ₀^{1−s}: the share grows by the same factor every step
step        λ = λ₀ + (1 − λ₀) ⌊k s⌋/k: k jumps, the last of them at the end
=========== ==========================================================================================

Source: Deep Learning, §8.7.6; Bengio et al. 2009 (one jump); Platanios et al. 2019 (root, p = 2); Hacohen &
Weinshall 2019 (exponential).
"""

import math
from dataclasses import dataclass
from typing import Literal

from thalweg.tensors.ranges import is_whole, is_within

Shape = Literal["linear", "root", "exponential", "step"]
SHAPES = ("linear", "root", "exponential", "step")


@dataclass(frozen=True)
class Pacing:
    """λ(t), which never falls, as a pure function of the step or the epoch.

    Arguments:
        shape: see the table at the top of the module.
        start: λ₀ in (0, 1].
        over: steps or epochs after which all examples are admitted.
        by: what t counts, ``"step"`` or ``"epoch"``; by epoch the share stays the same within one.
        power: p of ``root``.
        jumps: k of ``step``.

    Raises:
        ValueError: an unknown shape, a start at which no example is admitted, a length of less than one step.

    >>> [round(Pacing("linear", start=0.2, over=4)(t), 2) for t in range(6)]
    [0.2, 0.4, 0.6, 0.8, 1.0, 1.0]
    >>> [round(Pacing("step", start=0.5, over=4, jumps=1)(t), 2) for t in range(6)]
    [0.5, 0.5, 0.5, 0.5, 1.0, 1.0]
    """

    shape: Shape = "linear"
    start: float = 0.1
    over: int = 1000
    by: Literal["step", "epoch"] = "step"
    power: float = 2.0
    jumps: int = 4

    def __post_init__(self) -> None:
        if self.shape not in SHAPES:
            raise ValueError(f"unknown shape {self.shape!r}: choose among {', '.join(SHAPES)}")
        if not (is_within(self.start, 0, 1) and self.start > 0):
            raise ValueError(
                f"start must be in (0, 1], not {self.start}: it is the share of examples admitted at first"
            )
        if self.by not in ("step", "epoch"):
            raise ValueError(f"by must be step or epoch, not {self.by!r}")
        if not (is_within(self.over, 1) and is_within(self.power, 0) and self.power > 0 and is_whole(self.jumps)):
            raise ValueError(
                f"over {self.over}, power {self.power}, jumps {self.jumps}: give over >= 1, power > 0, and a whole "
                "number of jumps >= 1"
            )

    def __call__(self, t: int) -> float:
        """Returns the share in (0, 1] at step or epoch ``t``, 0 for the first."""
        if t >= self.over:
            return 1.0
        s, first = t / self.over, self.start
        if self.shape == "root":
            return float((first**self.power + (1 - first**self.power) * s) ** (1 / self.power))
        if self.shape == "exponential":
            return float(first ** (1 - s))
        if self.shape == "step":
            s = math.floor(self.jumps * t / self.over) / self.jumps
        return first + (1 - first) * s
