"""Where a descent is, and when it ends: said once, for every driver."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from thalweg.second_order.objective import Evaluation, Objective
from thalweg.second_order.ranks import ALONE, Ranks

Ending = Literal[
    "gradient",  # ‖∇f‖∞ is small enough
    "change",  # f changed too little in the last step
    "iterations",  # as many as allowed
    "evaluations",  # as many as allowed
    "no progress",  # neither value nor gradient can be lowered in this precision
    "singular",  # the Hessian is, and nothing damps it
    "not finite",  # value or gradient is not finite at the start, or wherever a step could go
    "unbounded",  # f falls without end along a line
    "callback",  # asked for
]
ROUNDING = 200.0  # units in the last place by which a value may be off: it is a sum of larger terms
MESSAGES: dict[Ending, str] = {
    "gradient": "The gradient is small enough.",
    "change": "The value changes too little.",
    "iterations": "The number of iterations was reached.",
    "evaluations": "The number of evaluations was reached.",
    "no progress": "No progress can be made in this precision.",
    "singular": "The Hessian is zero or singular here: damp it, or choose a method that needs no Hessian.",
    "not finite": "The value or the gradient is not finite where it starts or wherever it could go.",
    "unbounded": "The function falls without end along a line.",
    "callback": "The callback ended it.",
}
LONG = 10_000  # numbers from which aminmax is faster than vector_norm, in the end twenty times
PATIENCE = 12  # iterations without a lower value or a smaller gradient before it is said that nothing moves any more


@dataclass(frozen=True)
class Limits:
    """When to stop.

    Arguments:
        gradient: ‖∇f‖∞ at most this share of ``first``.
        iterations, evaluations: caps.
        change: |f(x₊) − f(x)| at most this share of the larger of both.
        first: the ‖∇f‖∞ that ``gradient`` is a share of; the start's by default.
    """

    gradient: float = 1e-5
    iterations: int | None = None
    evaluations: int | None = None
    change: float = 0.0
    first: float | None = None


class Place(NamedTuple):
    """A point with its value, gradient and ‖∇f‖∞, and the part of the value that is reported; numbers of all ranks."""

    x: Tensor
    value: float
    gradient: Tensor
    norm: float
    loss: float

    @classmethod
    def of(cls, x: Tensor, at: Evaluation, ranks: Ranks = ALONE) -> "Place":
        """Returns the place at ``x`` where ``at`` was found; one transfer to the host."""
        return cls.along(x, at, (), ranks)[0]

    @classmethod
    def along(cls, x: Tensor, at: Evaluation, lines: Sequence[Tensor], ranks: Ranks) -> "tuple[Place, list[float]]":
        """Returns the place, and its slopes along lines; one transfer to the host."""
        value = at.value.to(x.dtype).reshape(())
        found = [value, value if at.loss is None else at.loss, norm(at.gradient), *(at.gradient @ d for d in lines)]
        f, loss, size, *slopes = ranks.agreed(torch.stack(found))
        return cls(x, f, at.gradient, size, loss), slopes

    @property
    def finite(self) -> bool:
        """Whether value and gradient are."""
        return math.isfinite(self.value) and math.isfinite(self.norm)


Callback = Callable[[Place], bool | None]


class Report(NamedTuple):
    """Where a descent ended and why, and the ‖∇f‖∞ that others were measured by."""

    place: Place
    ending: Ending
    iterations: int
    first: float


class Watch:
    """Follows a descent from its start and says when it ends.

    Attributes: ``place`` the newest place, ``iterations`` so far, ``first`` the ‖∇f‖∞ that others are measured by.
    """

    def __init__(self, objective: Objective, start: Place, limits: Limits, callback: Callback | None) -> None:
        self.objective, self.place, self.limits, self.callback = objective, start, limits, callback
        self.iterations, self.first = 0, start.norm if limits.first is None else limits.first
        self._best, self._still, self._changed = (start.value, start.norm), 0, True

    @property
    def left(self) -> int | None:
        """Evaluations left, None where there is no cap."""
        cap = self.limits.evaluations
        return None if cap is None else cap - self.objective.evaluations

    def ended(self) -> Ending | None:
        """Returns why no further step is to be taken, or None."""
        limits, left = self.limits, self.left
        if not self.place.finite:
            return "not finite"
        if self.place.norm <= limits.gradient * self.first:
            return "gradient"
        if not self._changed:
            return "change"
        if limits.iterations is not None and self.iterations >= limits.iterations:
            return "iterations"
        if left is not None and left <= 0:
            return "evaluations"
        return "no progress" if self._still >= PATIENCE else None

    def move(self, place: Place) -> Ending | None:
        """Takes in a new place; returns "callback" where that ends it, "not finite" where it is none to go to."""
        if not place.finite:
            return "not finite"
        change, size = abs(place.value - self.place.value), max(abs(place.value), abs(self.place.value))
        self._changed = not self.limits.change or change > self.limits.change * size
        self.iterations, self.place = self.iterations + 1, place
        better = place.value < self._best[0] or place.norm < self._best[1]
        self._still = 0 if better else self._still + 1
        self._best = min(self._best[0], place.value), min(self._best[1], place.norm)
        return "callback" if self.callback is not None and self.callback(place) else None

    def report(self, ending: Ending) -> Report:
        """Returns the report of a descent that ends here."""
        return Report(self.place, ending, self.iterations, self.first)


def norm(vector: Tensor) -> Tensor:
    """Returns ‖v‖∞ ``()``."""
    if not len(vector):
        return vector.sum()
    if len(vector) < LONG:
        return torch.linalg.vector_norm(vector, ord=torch.inf)
    low, high = torch.aminmax(vector)
    return torch.maximum(high, -low)
