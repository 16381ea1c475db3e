"""The driver of the methods that go down along lines: a direction and a line search meet here and nowhere else.

    d = direction(∇f(x));   α from the search on φ(α) = f(x + α d);   x ← x + α d;   direction learns (α d, Δ∇f)

Everything that decides something is relative: multiplying f by a constant changes no step.
"""

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from thalweg.linesearch import HagerZhang, MoreThuente, Point
from thalweg.second_order.direction import Direction
from thalweg.second_order.objective import Objective
from thalweg.second_order.watch import Callback, Limits, Place, Report, Watch, norm

Wolfe = MoreThuente | HagerZhang


def descend(
    objective: Objective,
    x: Tensor,
    direction: Direction,
    search: Wolfe,
    limits: Limits,
    callback: Callback | None = None,
) -> Report:
    """Minimizes from ``x`` along the directions.

    Arguments:
        objective: what is minimized.
        x: start ``(n,)``; not changed.
        direction: gives directions and learns from steps.
        search: chooses the step along each.
        limits: when to stop.
        callback: is told every new place; True ends the descent.
    """
    watch, scale = Watch(objective, Place.of(x, objective.evaluate(x)), limits, callback), _Scale()
    while not (ending := watch.ended()):
        place, fresh = watch.place, direction.fresh
        d = direction(place.gradient)
        slope, length = torch.stack([place.gradient @ d, norm(d)]).tolist()
        found = None
        if slope < 0 and math.isfinite(length):
            first = 1.0 if direction.well_scaled else scale.first(slope)
            cap = search.max_evaluations if watch.left is None else min(watch.left, search.max_evaluations)
            start = Point(0.0, place.value, slope)
            found = replace(search, max_evaluations=cap)(_line(objective, place.x, d), start, first)
        if found is None or not found.point.step:
            if fresh:  # steepest descent itself goes nowhere
                lost = found is not None and found.status == "not finite"
                return watch.report(watch.ended() or ("not finite" if lost else "no progress"))
            direction.reset()
            continue
        step, value, _, (gradient, size) = found.point
        scale.learn(step, slope, place.value - value)
        direction.learn(d * step, place.gradient, gradient)
        ending = watch.move(Place(place.x + d * step, value, gradient, size))
        if ending or found.status == "unbounded":
            return watch.report(ending or "unbounded")
    return watch.report(ending)


class _Scale:
    """What the first step of a line is guessed from, where the direction has no scale of its own."""

    def __init__(self) -> None:
        self._last: tuple[float, float, float] | None = None  # step, slope at its start, decrease

    def learn(self, step: float, slope: float, decrease: float) -> None:
        """Takes in a step that was taken."""
        self._last = step, slope, decrease

    def first(self, slope: float) -> float:
        """Returns the first step to try.

        At the start one of unit length along −∇f; later the minimizer of the parabola through the last decrease
        and the new slope (Nocedal & Wright, equation 3.60).
        """
        if self._last is None:
            return 1 / (-slope) ** 0.5
        step, before, decrease = self._last
        parabola = 2.02 * decrease / -slope
        return parabola if parabola > 0 else step * min(before / slope, 1e3)


def _line(objective: Objective, x: Tensor, d: Tensor) -> Callable[[float], Point]:
    def phi(step: float) -> Point:
        found = objective.evaluate(x + d * step)
        g = found.gradient
        value, slope, size = torch.stack([found.value.to(x.dtype).reshape(()), g @ d, norm(g)]).tolist()
        return Point(step, value, slope, (g, size))

    return phi


def search_for(name: str, dtype: torch.dtype, loose: bool = True) -> Wolfe:
    """Returns the strong Wolfe search called ``name``, with rounding as it is in the type.

    Quasi-Newton directions need curvature and little else, ``loose``: c₂ = 0.9; conjugate ones a better minimum, 0.25.
    """
    rounding = 50 * torch.finfo(dtype).eps
    if name == "hager-zhang":
        return HagerZhang(sigma=0.9 if loose else 0.4, rounding=rounding, omega=max(1e-6, rounding))
    if name == "more-thuente":
        return MoreThuente(c2=0.9 if loose else 0.25, rounding=rounding)
    raise ValueError(f"unknown line search {name!r}: choose more-thuente or hager-zhang")
