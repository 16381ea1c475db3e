"""What an averaging is: the weight w_t that the parameters have when they enter their average at step t.

    θ̄_t = θ̄_{t−1} + w_t (θ_t − θ̄_{t−1})

An averaging is a frozen dataclass of static options with one pure function, ``weight(t)``; :func:`averaged` is the
elementwise part. Both serve a model in Python floats and K lanes, each with a step count of its own, alike.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self

import torch
from torch import Tensor

from thalweg.tensors.ranges import is_whole, is_within

Scalar = Any  # a number, or a tensor that broadcasts, as (K, 1) for K lanes
Array = Any  # a Tensor, or a list of tensors that answers to the same operators


@dataclass(frozen=True)
class Averaging(ABC):
    """Contract of every averaging.

    Arguments:
        start: steps that come before the average: up to there θ̄ is θ itself. What is learned early, far from the
            bottom of the valley, is then left out.
    """

    start: int = field(default=0, kw_only=True)

    def __post_init__(self) -> None:
        if not (is_within(self.start, 0) and float(self.start).is_integer()):
            raise ValueError(f"start must be a whole number of steps, at least 0, not {self.start}")

    def weight(self, t: Scalar) -> Scalar:
        """Returns w_t, in double precision; 1 up to ``start``.

        Arguments:
            t: steps taken, 1 after the first: a number, or a tensor of any shape, whose values decide no branch.
        """
        if isinstance(t, Tensor):
            n = t.double() - self.start
            return torch.where(n > 0, self.weight_of(n.clamp(min=1)), torch.ones_like(n))
        return self.weight_of(t - self.start) if t > self.start else 1.0

    @abstractmethod
    def weight_of(self, n: Scalar) -> Scalar:
        """Returns the weight of the n-th point averaged, n ≥ 1: a number, or a float64 tensor where n is one."""

    def tail(self, share: float, steps: int) -> Self:
        """Returns the same averaging over the last ``share``, in (0, 1], of a run of so many steps."""
        if not is_within(share, 0, 1) or share == 0:
            raise ValueError(f"share must be in (0, 1], not {share!r}: it is the part of the run that is averaged")
        if not is_whole(steps, 0):
            raise ValueError(f"steps must be the whole number of steps of the run, not {steps}")
        return replace(self, start=steps - round(share * steps))


def averaged(mean: Array, value: Array, weight: Scalar) -> Array:
    """Returns θ̄ + w (θ − θ̄), the average with one more point in it.

    It uses operators alone, so that one text serves a tensor, lanes ``(K, n)`` with weights ``(K, 1)`` of their type,
    a list of tensors, and a compiled kernel that has just worked θ out.

    >>> averaged(torch.tensor([0.0, 2.0]), torch.tensor([1.0, 1.0]), 0.5).tolist()
    [0.5, 1.5]
    """
    return mean + (value - mean) * weight


@dataclass(frozen=True)
class Polyak(Averaging):
    """Arithmetic average, θ̄_t = (1/t) Σ θ_i, by w_t = 1/t; with ``start`` s of θ_{s+1} … θ_t alone.

    On convex costs it converges at the best rate that there is, with a learning rate that falls more slowly than
    1/t. Once t is large an increment is easily below half a unit in the last place of θ̄, and lost: for more than
    some 100 000 points keep a float32 model's average in float64.

    Arguments:
        start: steps before the average, 0 by default; ``Polyak().tail(0.5, steps)`` averages the last half of a run.

    >>> [round(Polyak().weight(t), 3) for t in (1, 2, 3)]
    [1.0, 0.5, 0.333]
    >>> Polyak().tail(0.25, steps=1000)
    Polyak(start=750)

    Source: Deep Learning, §8.7.3; Polyak & Juditsky 1992; tails: Jain et al. 2018; with a high constant learning
    rate and deep networks: Izmailov et al. 2018 (SWA).
    """

    def weight_of(self, n: Scalar) -> Scalar:
        return 1 / n


@dataclass(frozen=True)
class EMA(Averaging):
    """Exponential average, θ̄_t = α θ̄_{t−1} + (1 − α) θ_t, with a correction for its start by default.

    Without correction θ̄_t is αᵗ θ₀ + (1 − α) Σ αᵗ⁻ⁱ θ_i: where the run began counts for αᵗ, which fades over some
    1/(1 − α) steps. A correction is another w_t, that tends to 1 − α as t passes that:

    ============ =================================== =====================================================
    ``"bias"``   w_t = (1 − α)/(1 − αᵗ)              θ₀ left out and the weights αᵗ⁻ⁱ made to sum to 1: exact
                                                     from the first step on, as Adam's moments
    ``"warmup"`` w_t = 1 − min(α, (1 + t)/(10 + t))  a short memory at first; begins at θ₀
    ``"none"``   w_t = 1 − α                         the equation as it stands; begins at θ₀
    ============ =================================== =====================================================

    Arguments:
        decay: α in [0, 1); :meth:`over` takes the number of steps that the memory spans, 1/(1 − α).
        correction: ``"bias"``, ``"warmup"`` or ``"none"``.
        start: steps before the average, up to which θ̄ is θ; t above, and θ₀, are counted from there.

    Raises:
        ValueError: a decay or a start out of range, an unknown correction.

    >>> [round(EMA(0.9).weight(t), 3) for t in (1, 2, 100)]
    [1.0, 0.526, 0.1]
    >>> EMA.over(1000)
    EMA(start=0, decay=0.999, correction='bias')

    Source: Deep Learning, §8.7.3; the correction: Kingma & Ba 2014, §3.
    """

    decay: float = 0.999
    correction: Literal["bias", "warmup", "none"] = "bias"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not is_within(self.decay, 0, 1) or self.decay == 1:
            raise ValueError(f"decay must be in [0, 1), not {self.decay!r}: EMA.over(steps) takes a number of steps")
        if self.correction not in ("bias", "warmup", "none"):
            raise ValueError(f"unknown correction {self.correction!r}: choose bias, warmup or none")

    @classmethod
    def over(cls, horizon: float, correction: Literal["bias", "warmup", "none"] = "bias", *, start: int = 0) -> "EMA":
        """Returns the average whose memory spans ``horizon`` steps: α = 1 − 1/horizon."""
        if not is_within(horizon, 1):
            raise ValueError(f"horizon must be at least 1 step, not {horizon!r}")
        return cls(1 - 1 / horizon, correction, start=start)

    def weight_of(self, n: Scalar) -> Scalar:
        if self.correction == "bias":
            return (1 - self.decay) / (1 - self.decay**n)
        if self.correction == "warmup":
            least, early = 1 - self.decay, 9 / (10 + n)  # 1 − (1 + n)/(10 + n)
            return early.clamp(min=least) if isinstance(early, Tensor) else max(least, early)
        return 1 - self.decay
