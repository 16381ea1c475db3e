"""The driver of the methods that go down along lines: a direction and a line search meet here and nowhere else.

    d = direction(∇f(x));   α from the search on φ(α) = f(x + α d);   x ← x + α d;   direction learns (α d, Δ∇f)

Everything that decides something is relative: multiplying f by a constant changes no step.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from thalweg.linesearch import Fixed, HagerZhang, MoreThuente
from thalweg.linesearch.search import LineSearch, Point
from thalweg.second_order.direction import Direction, norm
from thalweg.second_order.objective import Objective

Ending = Literal["gradient", "value", "iterations", "evaluations", "no progress", "not finite", "unbounded", "callback"]
PATIENCE = 12  # iterations without a lower value or a smaller gradient before it is said that nothing moves any more


@dataclass(frozen=True)
class Limits:
    """When to stop.

    Arguments:
        gradient: ‖∇f‖∞ at most this share of the reference (the first one).
        value: relative decrease of f in a step at most this; 0 switches it off.
        iterations, evaluations: caps.
    """

    gradient: float = 1e-5
    value: float = 0.0
    iterations: int | None = None
    evaluations: int | None = None


class Place(NamedTuple):
    """A point with its value, gradient and ‖∇f‖∞."""

    x: Tensor
    value: float
    gradient: Tensor
    norm: float


class Report(NamedTuple):
    """Where a descent ended and why."""

    place: Place
    ending: Ending
    iterations: int


def descend(
    objective: Objective,
    x: Tensor,
    direction: Direction,
    search: LineSearch,
    limits: Limits,
    *,
    first_step: float | None = None,
    reference: float | None = None,
    callback: Callable[[Place], bool | None] | None = None,
) -> Report:
    """Minimizes from ``x`` along the directions.

    Arguments:
        objective: what is minimized.
        x: start ``(n,)``; not changed.
        direction: gives directions and learns from steps.
        search: chooses the step along each.
        limits: when to stop.
        first_step: multiple of the natural first step; 1 by default.
        reference: gradient norm that ``limits.gradient`` is relative to; the start's by default.
        callback: is told every new place; True ends the descent.
    """
    place = locate(objective, x)
    if not math.isfinite(place.value) or not math.isfinite(place.norm):
        return Report(place, "not finite", 0)
    reference = place.norm if reference is None else reference
    scale, memory, still = first_step or 1.0, _Memory(), 0
    best = place.value, place.norm
    iteration = 0
    while True:
        if place.norm <= limits.gradient * reference:
            return Report(place, "gradient", iteration)
        if limits.iterations is not None and iteration >= limits.iterations:
            return Report(place, "iterations", iteration)
        left = None if limits.evaluations is None else limits.evaluations - objective.evaluations
        if left is not None and left <= 0:
            return Report(place, "evaluations", iteration)
        fresh = direction.fresh
        d = direction(place.gradient)
        slope, length = torch.stack([place.gradient @ d, norm(d)]).tolist()
        if not (slope < 0 and math.isfinite(length)):
            if fresh:
                return Report(place, "no progress", iteration)
            direction.reset()
            continue
        well_scaled = direction.well_scaled and not fresh
        first = scale if well_scaled else scale * memory.first(slope)
        found = _capped(search, left)(_line(objective, place.x, d), Point(0.0, place.value, slope, None), first)
        if found.point.step == 0:
            if left is not None and objective.evaluations >= (limits.evaluations or 0):
                return Report(place, "evaluations", iteration)
            if fresh:
                return Report(place, "not finite" if found.status == "not finite" else "no progress", iteration)
            direction.reset()
            continue
        iteration += 1
        gradient, size = found.point.payload
        s = d * found.point.step
        new = Place(place.x + s, found.point.value, gradient, size)
        memory.step = found.point.step, slope, place.value - new.value
        direction.learn(s, place.gradient, gradient)
        before, place = place, new
        if callback is not None and callback(place):
            return Report(place, "callback", iteration)
        if found.status == "unbounded":
            return Report(place, "unbounded", iteration)
        if limits.value and before.value - place.value <= limits.value * max(abs(before.value), abs(place.value)):
            return Report(place, "value", iteration)
        still = 0 if place.value < best[0] or place.norm < best[1] else still + 1
        best = min(best[0], place.value), min(best[1], place.norm)
        if still >= PATIENCE:
            return Report(place, "no progress", iteration)


class _Memory:
    """What the first step of a line is guessed from, where the direction has no scale of its own."""

    step: tuple[float, float, float] | None = None  # last step, the slope at its start, the decrease

    def first(self, slope: float) -> float:
        """Returns the first step to try.

        At the start one of unit length along −∇f; later the minimizer of the parabola through the last decrease
        and the new slope (Nocedal & Wright, equation 3.60).
        """
        if self.step is None:
            return 1 / (-slope) ** 0.5
        step, before, decrease = self.step
        parabola = 2.02 * decrease / -slope
        return parabola if parabola > 0 else step * min(before / slope, 1e3)


def locate(objective: Objective, x: Tensor) -> Place:
    """Returns the place at ``x``."""
    found = objective.evaluate(x)
    value, size = torch.stack([found.value.to(x.dtype).reshape(()), norm(found.gradient)]).tolist()
    return Place(x, value, found.gradient, size)


def _line(objective: Objective, x: Tensor, d: Tensor) -> Callable[[float], Point]:
    def phi(step: float) -> Point:
        found = objective.evaluate(x + d * step)
        g = found.gradient
        value, slope, size = torch.stack([found.value.to(x.dtype).reshape(()), g @ d, norm(g)]).tolist()
        return Point(step, value, slope, (g, size))

    return phi


def _capped(search: LineSearch, left: int | None) -> LineSearch:
    if left is None or isinstance(search, Fixed):
        return search
    cap = getattr(search, "max_evaluations", left)
    return replace(search, max_evaluations=left) if left < cap else search  # type: ignore[type-var]


def search_for(name: str, dtype: torch.dtype, loose: bool = True) -> LineSearch:
    """Returns the strong Wolfe search called ``name``, with rounding as it is in the type.

    Quasi-Newton directions need curvature and little else, ``loose``: c₂ = 0.9; conjugate ones a better minimum, 0.25.
    """
    rounding = 50 * torch.finfo(dtype).eps
    if name == "hager-zhang":
        return HagerZhang(sigma=0.9 if loose else 0.4, rounding=rounding)
    if name == "more-thuente":
        return MoreThuente(c2=0.9 if loose else 0.25, rounding=rounding)
    raise ValueError(f"unknown line search {name!r}: choose more-thuente or hager-zhang")
