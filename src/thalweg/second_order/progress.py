"""The state of a descent and the criteria that end it, for every driver."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from thalweg.second_order.approach import Approach
from thalweg.second_order.objective import Evaluation, Objective, factor_for
from thalweg.second_order.ranks import ALONE, Ranks

Ending = Literal[
    "gradient",  # ‖∇f‖∞ is small enough
    "change",  # f changed too little in the last step
    "iterations",  # as many as allowed
    "evaluations",  # as many as allowed
    "no progress",  # neither value nor gradient can be lowered in this precision
    "singular",  # the Hessian is, and nothing damps it
    "not finite",  # value or gradient is not finite at the start, or wherever a step could go
    "unbounded",  # f still falls far away from the start
    "callback",  # asked for
]
FAR = 1e15  # times as far away as the start's size: a function that still falls there falls without end
ROUNDING = 200.0  # units in the last place by which a value may be off: it is a sum of larger terms
MESSAGES: dict[Ending, str] = {
    "gradient": "The gradient is small enough.",
    "change": "The change of the value is small enough.",
    "iterations": "The maximum number of iterations was reached.",
    "evaluations": "The maximum number of evaluations was reached.",
    "no progress": "No progress can be made in this precision.",
    "singular": "The Hessian is zero or singular here: damp it, or choose a method that needs no Hessian.",
    "not finite": "The value or the gradient is not finite at the start or at all points that it could reach.",
    "unbounded": "The function decreases without limit.",
    "callback": "The callback stopped the minimization.",
}
LONG = 10_000  # numbers from which aminmax is faster than vector_norm, in the end twenty times
FALLS = 3  # iterations in a row that halved the value and came near: where the least value is zero, none is level
KEPT = 0.1  # of the share by which the gradient fell, that by which a value falls that goes to zero with it, or more
PATIENCE = 12  # iterations without a lower value or a smaller gradient before it ends for lack of progress


@dataclass(frozen=True)
class Limits:
    """When to stop.

    Arguments:
        gradient: the minimum is no farther than this share of ‖x‖∞, as the fall of the gradient tells, and neither
            was the last move, see :class:`thalweg.second_order.approach.Approach`; and ‖∇f‖∞ ‖x‖∞ is at most this share
            of |f|, or f goes to zero there: near, it fell to the rounding's power ⅔ of itself, as fast as its gradient.
        iterations, evaluations: caps.
        change: |f(x₊) − f(x)| at most this share of the larger of both.
        first: the ‖∇f‖∞ that the accuracy of inner solvers goes by; the start's by default.
        approach: what earlier descents saw of the way; nothing by default.
    """

    gradient: float = 1e-5
    iterations: int | None = None
    evaluations: int | None = None
    change: float = 0.0
    first: float | None = None
    approach: Approach | None = None


class Place(NamedTuple):
    """A point with its value, gradient, ‖∇f‖∞ and ‖x‖∞, and the part of the value that is reported, of all ranks."""

    x: Tensor
    value: float
    gradient: Tensor
    norm: float
    size: float
    loss: float

    @classmethod
    def of(cls, x: Tensor, at: Evaluation, ranks: Ranks = ALONE) -> "Place":
        """Returns the place at ``x`` where ``at`` was found; one transfer to the host."""
        return cls.along(x, at, (), ranks)[0]

    @classmethod
    def along(cls, x: Tensor, at: Evaluation, lines: Sequence[Tensor], ranks: Ranks) -> "tuple[Place, list[float]]":
        """Returns the place, and its slopes along lines; one transfer to the host."""
        value = at.value.reshape(())
        loss = value if at.loss is None else at.loss.reshape(())
        found = [value, loss, norm(at.gradient), norm(x), *(at.gradient @ d for d in lines)]
        f, reported, steepness, size, *slopes = ranks.agreed(torch.stack(found))
        return cls(x, f, at.gradient, steepness, size, reported), slopes

    @property
    def length(self) -> float:
        """A length of a step to begin with: a tenth of x; at the origin that in which −∇f would take f to zero."""
        return 0.1 * self.size or (abs(self.value) / self.norm if self.norm else 0.0) or 1.0

    def times(self, factor: float) -> "Place":
        """Returns the place of factor · f."""
        return self._replace(value=self.value * factor, gradient=self.gradient * factor, norm=self.norm * factor)

    @property
    def finite(self) -> bool:
        """Whether value and gradient are."""
        return math.isfinite(self.value) and math.isfinite(self.norm)


Callback = Callable[[Place], bool | None]


class Report(NamedTuple):
    """Where a descent ended and why, the best place on its way, and what the next one goes on from."""

    place: Place
    best: Place
    ending: Ending
    iterations: int
    first: float
    approach: Approach


class ProgressMonitor:
    """Follows a descent from its start and says when it ends.

    Attributes: ``place`` the newest place, ``at`` its evaluation, ``iterations`` so far, ``first`` the ‖∇f‖∞ of the
    start, ``far`` the distance beyond which a function that still decreases counts as unbounded.
    """

    def __init__(
        self, objective: Objective, x: Tensor, limits: Limits, callback: Callback | None, curvature: bool = False
    ) -> None:
        at = objective.evaluate(x, curvature)
        start = Place.of(x, at, objective.ranks)
        if objective.factor is None:
            objective.factor = factor_for(start.norm, x.dtype)
            if objective.factor != 1:
                at = at.times(objective.factor)
                start = Place.of(x, at, objective.ranks)
        self.objective, self.place, self.at, self.limits, self.callback = objective, start, at, limits, callback
        self.iterations, self.first = 0, start.norm if limits.first is None else limits.first
        self.far = FAR * max(start.size or start.length, abs(start.value) / start.norm if start.norm else 0.0)
        self.best, self._low, self._still, self._changed = start, (start.value, start.norm), 0, True
        eps = torch.finfo(x.dtype).eps
        self._rounding, self._zero, self._predicted = ROUNDING * eps, eps ** (2 / 3), False
        self._falls, self._fell = 0, 1.0  # iterations in a row that came near, and the share of f that they left
        self._least = 1e-6 * eps
        self.approach = limits.approach or Approach()
        if limits.approach is None:
            self.approach.visit(start.norm, start.size)

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
        if self.arrived:
            return "gradient"
        if not self._changed:
            return "change"
        if limits.iterations is not None and self.iterations >= limits.iterations:
            return "iterations"
        if left is not None and left <= 0:
            return "evaluations"
        return "no progress" if self._still >= PATIENCE else None

    @property
    def arrived(self) -> bool:
        """Whether the minimum is near enough, or the gradient zero as far as its type can tell."""
        if self.place.norm / (self.objective.factor or 1.0) < torch.finfo(self.place.x.dtype).tiny:
            return True
        approach, distance = self.approach, self.approach.distance()
        left = distance if self.level else max(distance, approach.moved)
        if self._predicted and left <= self._rounding * approach.scale(self.place.size):
            return self.limits.gradient > 0
        return self.is_near(max(distance, approach.last_distance(), approach.moved)) and (self.level or self.at_zero)

    @property
    def level(self) -> bool:
        """Whether a move as large as x would change the value by a small share of it, as the gradient tells."""
        return self.place.norm * self.place.size <= self.limits.gradient * abs(self.place.value)

    @property
    def at_zero(self) -> bool:
        """Whether the value went to zero."""
        return self.place.value == 0 or (self._falls >= FALLS and self._fell <= self._zero)

    def rescale(self) -> float:
        """Chooses the objective's factor anew where the gradient has left the range; returns by what it changed."""
        factor = factor_for(self.place.norm, self.place.x.dtype, part=3)
        if factor != 1:
            self.objective.factor = (self.objective.factor or 1.0) * factor
            self.place, self.best, self.at = self.place.times(factor), self.best.times(factor), self.at.times(factor)
            self.first, self._low = self.first * factor, (self._low[0] * factor, self._low[1] * factor)
            self.approach.rescale(factor)
        return factor

    def is_near(self, distance: float) -> bool:
        """Whether a minimum at this distance is near enough."""
        near = max(self.limits.gradient * self.approach.scale(self.place.size), self._rounding * self.approach.start)
        return distance <= near and self.limits.gradient > 0

    def move(self, place: Place, moved: float, *, predicted: bool = False) -> Ending | None:
        """Takes in a new place, so far from the last, its value ``predicted`` by a model or not.

        Returns "callback" where that ends it, "not finite" where it is no place to go to.
        """
        if not place.finite:
            return "not finite"
        change, size = abs(place.value - self.place.value), max(abs(place.value), abs(self.place.value))
        self._changed = not self.limits.change or change > self.limits.change * size
        falls = 0 <= place.value <= 0.5 * self.place.value
        left = place.value / self.place.value if falls and self.place.value else 0.0
        falls = falls and KEPT * left * self.place.norm <= place.norm
        self.iterations, self.place = self.iterations + 1, place
        self.approach.visit(place.norm, place.size, moved)
        falls = falls and self.is_near(max(self.approach.distance(), moved))
        self._falls, self._fell = (self._falls + 1, self._fell * left) if falls else (0, 1.0)
        self._predicted = predicted
        moves = moved > self._least * max(place.size, self.approach.start)
        better = place.value < self._low[0] or place.norm < self._low[1]
        self._still = 0 if moves and better else self._still + 1
        self._low = min(self._low[0], place.value), min(self._low[1], place.norm)
        error = self._rounding * abs(self.best.value)
        if place.value < self.best.value - error or (
            place.value <= self.best.value + error and place.norm <= self.best.norm
        ):
            self.best = place
        try:
            return "callback" if self.callback is not None and self.callback(place) else None
        except StopIteration:
            return "callback"

    def report(self, ending: Ending) -> Report:
        """Returns the report of a descent that ends here."""
        return Report(self.place, self.best, ending, self.iterations, self.first, self.approach)


def norm(vector: Tensor) -> Tensor:
    """Returns ‖v‖∞ ``()``."""
    if not len(vector):
        return vector.sum()
    if len(vector) < LONG:
        return torch.linalg.vector_norm(vector, ord=torch.inf)
    low, high = torch.aminmax(vector)
    return torch.maximum(high, -low)
