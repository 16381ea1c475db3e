"""The driver of the methods that go down along lines: a direction and a line search meet here and nowhere else.

    d = direction(∇f(x));   α from the search on φ(α) = f(x + α d);   x ← x + α d;   direction learns (α d, Δ∇f)

Everything that decides something is relative: multiplying f by a constant changes no step.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from thalweg.linesearch import Backtracking, Fixed, HagerZhang, LineSearch, MoreThuente, Point
from thalweg.second_order.direction import Direction
from thalweg.second_order.objective import Objective
from thalweg.second_order.progress import ROUNDING, Callback, Limits, Place, ProgressMonitor, Report, norm


def descend(
    objective: Objective,
    x: Tensor,
    direction: Direction,
    search: LineSearch,
    limits: Limits,
    callback: Callback | None = None,
    *,
    scale: "Scale | None" = None,
    lr: float = 1.0,
    pairs: Objective | None = None,
) -> Report:
    """Minimizes from ``x`` along the directions.

    Arguments:
        objective: what is minimized.
        x: start ``(n,)``; not changed.
        direction: gives directions and learns from steps.
        search: chooses the step along each.
        limits: when to stop.
        callback: receives every new point; True ends the descent.
        scale: what is known of steps from an earlier descent.
        lr: factor on the first step to try along each direction.
        pairs: another objective, of the same x, from whose gradients the direction learns.
    """
    if not direction.prepared:
        direction.prepare(x)
    ranks = direction.ranks = objective.ranks
    monitor, scale = ProgressMonitor(objective, x, limits, callback), scale or Scale()
    most = torch.finfo(x.dtype).max / 4
    while not (ending := monitor.ended()):
        if (factor := monitor.rescale()) != 1:
            direction.reset()
            scale.rescale(factor)
        place, fresh = monitor.place, direction.fresh
        d = direction(place.gradient)
        nothing = d.new_zeros(())
        # The slope is finite only where d is.
        _, _, length, _, slope = ranks.agreed(torch.stack([nothing, nothing, norm(d), nothing, place.gradient @ d]))
        found, tried = None, _Tried()
        if slope < 0 and math.isfinite(slope):
            longest = min(monitor.far / length, most)
            first = lr if direction.well_scaled else lr * scale.first(slope, place.length / length)
            start = Point(0.0, place.value, slope)
            line = _line(objective, place.x, d, tried)
            found = search.within(monitor.left, longest)(line, start, min(first, longest))
        if found is None or not found.point.step:
            if fresh and scale.last is None:  # steepest descent itself goes nowhere
                if ending := monitor.ended():
                    return monitor.report(ending)
                monitor.approach.note(tried.norm, tried.step * length)
                not_finite = found is not None and found.status == "not finite"
                near = monitor.is_near(monitor.approach.distance())
                return monitor.report("gradient" if near else "not finite" if not_finite else "no progress")
            direction.reset()
            scale.last = None
            continue
        step, new = found.point.step, found.point.payload
        scale.learn(step, slope, place.value - new.value)
        if pairs is not None:
            pairs.factor = objective.factor
        ends = [place.gradient, new.gradient] if pairs is None else [pairs.evaluate(p.x).gradient for p in (place, new)]
        direction.learn(d, step, *ends)
        ending = monitor.move(new, step * length)
        if ending or found.status == "unbounded":
            return monitor.report(ending or "unbounded")
    return monitor.report(ending)


class Scale:
    """What the first step of a line is guessed from, where the direction has no scale of its own."""

    def __init__(self) -> None:
        self.last: tuple[float, float, float] | None = None  # step, slope at its start, decrease

    def learn(self, step: float, slope: float, decrease: float) -> None:
        """Takes in a step that was taken."""
        self.last = step, slope, decrease

    def rescale(self, factor: float) -> None:
        """Goes on with factor · f, along −factor · ∇f."""
        if self.last is not None:
            step, slope, decrease = self.last
            self.last = step / factor, slope * factor * factor, decrease * factor

    def first(self, slope: float, start: float) -> float:
        """Returns the first step to try, ``start`` where nothing is known.

        It is the minimizer of the parabola through the last decrease and the new slope (Nocedal & Wright, equation
        3.60).
        """
        if self.last is None:
            return start
        step, before, decrease = self.last
        parabola = 2.02 * decrease / -slope
        return parabola if parabola > 0 else step * min(before / slope, 1e3)


class _Tried:
    """The longest step of a line that was tried and led somewhere, and ‖∇f‖∞ there."""

    step, norm = 0.0, 0.0


def _line(objective: Objective, x: Tensor, d: Tensor, tried: _Tried) -> Callable[[float], Point]:
    def phi(step: float) -> Point:
        there = torch.add(x, d, alpha=step)
        place, (slope,) = Place.along(there, objective.evaluate(there), [d], objective.ranks)
        if step > tried.step and place.finite:
            tried.step, tried.norm = step, place.norm
        return Point(step, place.value, slope, place)

    return phi


def search_for(name: str | None, dtype: torch.dtype, loose: bool = True) -> LineSearch:
    """Returns the line search called ``name``, with rounding as it is in the type.

    Quasi-Newton directions need curvature and little else, ``loose``: c₂ = 0.9; conjugate ones a better minimum, 0.1.

    Raises:
        ValueError: there is none of this name.
    """
    rounding = ROUNDING * torch.finfo(dtype).eps
    if name in ("strong_wolfe", "more-thuente"):
        return MoreThuente(c2=0.9 if loose else 0.1, rounding=rounding)
    if name in ("hager_zhang", "hager-zhang"):
        return HagerZhang(sigma=0.9 if loose else 0.4, rounding=rounding, omega=max(1e-6, rounding))
    if name == "backtracking":
        return Backtracking()
    if name is None:
        return Fixed()
    raise ValueError(f"unknown line search {name!r}: choose strong_wolfe, hager_zhang, backtracking or None")
