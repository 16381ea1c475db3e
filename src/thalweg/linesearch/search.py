"""What a line search is: from a function on a line and a first step to a point on it, with a status, never an error.

Along x + α d the driver gives φ(α), with its slope φ′(α) = ∇f(x + α d)ᵀ d, as plain floats. The search knows
nothing of x, d or tensors; what the driver hangs on a point (the gradient there) travels with it.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
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
