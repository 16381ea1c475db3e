"""What a line search is: from a function on a line and a first step to a point on it, with a status, never an error.

Along x + α d the driver gives φ(α), with its slope φ′(α) = ∇f(x + α d)ᵀ d, as plain floats. The search knows
nothing of x, d or tensors; what the driver hangs on a point (the gradient there) travels with it.

A search is two things: which step to try after what was seen, and when to stop. A generator proposes steps and a test
accepts; both are told points without their payloads, so that of the gradients on the line only the lowest point's
outlives the next evaluation. :func:`follow` evaluates, counts and caps.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, Self

Status = Literal[
    "wolfe",  # both strong Wolfe conditions hold
    "approximate wolfe",  # the approximate ones of Hager and Zhang hold, where rounding hides the decrease
    "armijo",  # enough decrease, the slope was not asked for
    "fixed",  # the step was taken as given
    "evaluations",  # the cap was reached: the best point found, which may be the start
    "rounding",  # the interval or the step cannot be resolved any more: the best point found
    "ascent",  # the slope at the start is not negative: no step
    "not finite",  # no step with a finite value was found: no step
    "unbounded",  # the function still falls at the longest step: that step
]


class Point(NamedTuple):
    """A point on the line: step α, value φ(α), slope φ′(α), and whatever the driver hangs on it."""

    step: float
    value: float
    slope: float
    payload: Any = None


@dataclass(frozen=True)
class Found:
    """What a search came to: the point to go on from, why it ended, and how often φ was evaluated."""

    point: Point
    status: Status
    evaluations: int

    @property
    def success(self) -> bool:
        """Whether the point meets the conditions that the search is for."""
        return self.status in ("wolfe", "approximate wolfe", "armijo", "fixed", "unbounded")


Line = Callable[[float], Point]


class LineSearch(ABC):
    """Contract of every line search; concrete ones are frozen dataclasses of their constants."""

    @abstractmethod
    def __call__(self, phi: Line, start: Point, first: float) -> Found:
        """Searches along the line.

        Arguments:
            phi: evaluates the line at a step > 0; its point's value or slope may be NaN or infinite.
            start: the point at step 0, already evaluated; its value and slope are finite.
            first: the first step to try, > 0.

        Returns:
            A point with finite value and slope whose value is no larger than the start's beyond rounding;
            ``start`` itself where there is none.
        """

    def within(self, evaluations: int | None, longest: float | None = None) -> Self:
        """Returns the search with its cap on evaluations lowered to this number, and with this longest step."""
        changes: dict[str, float] = {}
        cap = getattr(self, "max_evaluations", None)
        if cap is not None and evaluations is not None and evaluations < cap:
            changes["max_evaluations"] = evaluations
        if longest is not None and hasattr(self, "longest"):
            changes["longest"] = longest
        return replace(self, **changes) if changes else self  # type: ignore[type-var]


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
