"""Runs a line search: a generator proposes steps, a test accepts; here they are evaluated, counted and capped.

A search is two things: which step to try after what was seen, and when to stop. Both are told points without their
payloads, so that of the gradients on the line only the lowest point's outlives the next evaluation.
"""

import math
from collections.abc import Callable, Generator

from thalweg.linesearch.search import Found, Line, Point, Status

Steps = Generator[float, Point, None]
Accepts = Callable[[Point], Status | None]

# Share of the way from the last good point at which to try again, where the function is not finite or explodes.
BACK_OFF = 0.1


def finite(point: Point) -> bool:
    """Returns whether both value and slope are finite.

    >>> finite(Point(1.0, 0.0, float("nan")))
    False
    """
    return math.isfinite(point.value) and math.isfinite(point.slope)


def share(part: float, whole: float) -> float:
    """Returns part / whole, NaN where whole is zero.

    >>> share(1.0, 0.0)
    nan
    """
    return part / whole if whole else math.nan


def follow(steps: Steps, accepts: Accepts, phi: Line, start: Point, cap: int) -> Found:
    """Evaluates the proposed steps until one is accepted, the cap is reached or no more are proposed.

    Arguments:
        steps: yields a step, is sent the point there; points that are not finite too. It ends where steps cannot
            be resolved any more.
        accepts: gives the status with which a finite point ends the search, None where it does not.
        phi: evaluates the line.
        start: the point at step 0.
        cap: evaluations at most.

    >>> halving = (yielded for yielded in [1.0, 0.5, 0.25])
    >>> below = lambda point: "armijo" if point.value < 1.0 else None
    >>> follow(halving, below, lambda a: Point(a, (1 - 3 * a) ** 2, 18 * a - 6), Point(0.0, 1.0, -6.0), cap=20)
    Found(point=Point(step=0.5, value=0.25, slope=3.0, payload=None), status='armijo', evaluations=2)
    """
    if not finite(start):
        return Found(start, "not finite", 0)
    if start.slope >= 0:
        return Found(start, "ascent", 0)
    best, good, evaluations = start, False, 0
    ended: Status = "rounding"
    step = next(steps, None)
    while step is not None:
        if evaluations == cap:
            ended = "evaluations"
            break
        point = phi(step)
        evaluations += 1
        seen = point._replace(payload=None)
        if finite(point):
            good = True
            status = accepts(seen)
            if status:
                return Found(point, status, evaluations)
            if point.value < best.value:
                best = point
        del point
        try:
            step = steps.send(seen)
        except StopIteration:
            step = None
    return Found(best, ended if good or not evaluations else "not finite", evaluations)
