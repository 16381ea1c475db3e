"""What an averaging is: the weight w_t that the parameters have when they enter their average at step t.

    θ̄_t = θ̄_{t−1} + w_t (θ_t − θ̄_{t−1})

An averaging is a frozen dataclass of static options with one pure function, ``weight(t)``; :func:`averaged` is the
elementwise part. Both serve a model in Python floats and K lanes, each with a step count of its own, alike.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from typing import Any, Self

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
            valley's floor, is then left out.
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
        if not 0 < share <= 1:
            raise ValueError(f"share must be in (0, 1], not {share}: the part of the run that is averaged")
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
