"""Learning-rate schedules: the factor on the learning rate at each step of a run.

Step t counts from 0, T is the length of the run; with warm-up over the first w steps the factor rises
linearly, (t + 1)/w, and the shape below spans what is left (t and T counted from the end of the warm-up). The one
cycle alone rises in its own way: it is that of ``torch.optim.lr_scheduler.OneCycleLR``, of the learning rate alone.

============ ===========================================================================
constant     1
linear       (1 − α) + α·floor with α = min(1, t/τ): falls to the floor at τ, then stays (book 8.14)
step         ``drop`` to the power of ⌊t / (T · every)⌋
cosine       floor + (1 − floor)(1 + cos(π t/T))/2
one-cycle    from 1/25 to 1 over the warm-up and on to 4·10⁻⁶ at the last step, both along half a cosine
inverse-time 1 / (1 + decay · t/T)
wsd          1, and over the last share ``cooldown`` of the run floor + (1 − floor)(1 − √u), u from 0 to 1
============ ===========================================================================

Source: Deep Learning, §8.3.1, equation 8.14; Loshchilov & Hutter 2016 (cosine); Smith & Topin 2017 (one cycle);
Hu et al. 2024, arXiv 2404.06395 (warm-up, stable, decay), with the cooldown of Hägele et al. 2024, arXiv 2405.18392.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from thalweg.tensors.ranges import is_within

Shape = Literal["constant", "linear", "step", "cosine", "inverse-time", "one-cycle", "wsd"]
SETTINGS: Mapping[str, tuple[str, ...]] = {  # what changes each shape
    "constant": ("warmup",),
    "linear": ("warmup", "floor", "until"),
    "step": ("warmup", "drop", "every"),
    "cosine": ("warmup", "floor"),
    "inverse-time": ("warmup", "decay"),
    "one-cycle": ("warmup",),
    "wsd": ("warmup", "floor", "cooldown"),
}
SHAPES = tuple(SETTINGS)
FIRST, LAST = 1 / 25, 1 / 25e4  # factors with which one cycle begins and ends


@dataclass(frozen=True)
class Schedule:
    """The factor on the learning rate as a function of the step and the length of the run.

    Arguments:
        shape: see the table at the top of the module.
        warmup: share of the run that warms up, in [0, 1).
        floor: the least factor of ``linear``, ``cosine`` and ``wsd``, in [0, 1]; the book suggests about 1 %.
        until: τ as a share of the run, for ``linear``; above 0.
        drop, every: factor, in [0, 1], and spacing (share of the run, above 0) of ``step``.
        decay: how strongly ``inverse-time`` falls, at least 0: the last factor is 1/(1 + decay).
        cooldown: share of the run over which ``wsd`` falls, in [0, 1].

    Raises:
        ValueError: an unknown shape; a number out of its range; when called, a step below 0.

    >>> [round(Schedule("linear")(t, 5), 3) for t in range(5)]
    [1.0, 0.802, 0.604, 0.406, 0.208]
    """

    shape: Shape = "constant"
    warmup: float = 0.0
    floor: float = 0.01
    until: float = 1.0
    drop: float = 0.1
    every: float = 1 / 3
    decay: float = 9.0
    cooldown: float = 0.2

    def __post_init__(self) -> None:
        if self.shape not in SHAPES:
            raise ValueError(f"unknown shape {self.shape!r}: choose among {', '.join(SHAPES)}")
        for name, ranges, inside in (
            ("warmup", "[0, 1)", is_within(self.warmup, 0, 1) and self.warmup < 1),
            ("floor", "[0, 1]", is_within(self.floor, 0, 1)),
            ("until", "(0, ∞)", is_within(self.until, 0) and self.until > 0),
            ("drop", "[0, 1]", is_within(self.drop, 0, 1)),
            ("every", "(0, ∞)", is_within(self.every, 0) and self.every > 0),
            ("decay", "[0, ∞)", is_within(self.decay, 0)),
            ("cooldown", "[0, 1]", is_within(self.cooldown, 0, 1)),
        ):
            if not inside:
                raise ValueError(f"{name} must be a number in {ranges}, not {getattr(self, name)!r}")

    def warmup_steps(self, total: int) -> int:
        """Returns the number of steps that warm up."""
        return round(self.warmup * total)

    def __call__(self, t: int, total: int) -> float:
        """Returns the factor at step ``t`` (0 for the first) of a run of ``total`` steps."""
        if not t >= 0:
            raise ValueError(f"step {t} of a schedule: steps count from 0")
        if self.shape == "one-cycle":
            return self._one_cycle(t, total)
        w = self.warmup_steps(total)
        if t < w:
            return (t + 1) / w
        share = (t - w) / max(1, total - w)
        if self.shape == "linear":
            alpha = min(1.0, share / self.until)
            return (1 - alpha) + alpha * self.floor
        if self.shape == "step":
            return self.drop ** math.floor(share / self.every + 1e-9)
        if self.shape == "cosine":
            return self.floor + (1 - self.floor) * (1 + math.cos(math.pi * min(1.0, share))) / 2
        if self.shape == "inverse-time":
            return 1 / (1 + self.decay * share)
        if self.shape == "wsd":
            left = max(0, total - t) / max(1.0, min(self.cooldown * total, total - w))
            return self.floor + (1 - self.floor) * (1 - math.sqrt(max(0.0, 1 - left)))
        return 1.0

    def _one_cycle(self, t: int, total: int) -> float:
        """Returns the factor of one cycle, whose peak may lie between two steps."""
        peak, end = self.warmup * total - 1, total - 1
        if t <= peak:
            return _half_cosine(FIRST, 1.0, t / peak if peak > 0 else 1.0)
        return _half_cosine(1.0, LAST, min(1.0, (t - peak) / (end - peak)))


def _half_cosine(first: float, last: float, share: float) -> float:
    """Returns the value at a share of the way from the first to the last."""
    return last + (first - last) * (1 + math.cos(math.pi * share)) / 2


SCHEDULES: dict[str, Schedule] = {
    "constant": Schedule(),
    "linear": Schedule("linear"),
    "step": Schedule("step"),
    "cosine": Schedule("cosine"),
    "inverse-time": Schedule("inverse-time"),
    "one-cycle": Schedule("one-cycle", warmup=0.3),
    "wsd": Schedule("wsd", warmup=0.1),
    "warmup-constant": Schedule(warmup=0.1),
    "warmup-linear": Schedule("linear", warmup=0.1),
    "warmup-cosine": Schedule("cosine", warmup=0.1),
}
