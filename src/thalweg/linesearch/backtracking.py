"""Armijo backtracking: from the first step back, until the decrease is enough.

    φ(α) ≤ φ(0) + c₁ α φ′(0)

The next step is the minimizer of the quadratic through φ(0), φ′(0) and φ(α); from the third step on, that of the
cubic through φ(0), φ′(0) and the last two values. With u the step as a share of the last, k the step before as a
share of it, and r(u) = φ − φ(0) − φ′(0) u:

    φ ≈ φ(0) + φ′(0) u + b u² + a u³,   a = (r(k)/k² − r(1)) / (k − 1),  b = r(1) − a
    u = −φ′(0) / (b + √(b² − 3 a φ′(0)))

It is kept within ``shrink``. The slope at a trial is not used, so φ need not be smooth.

Source: Deep Learning, §8.6; Armijo 1966; Dennis & Schnabel 1983, §6.3.2.
"""

import math
from dataclasses import dataclass

from thalweg.linesearch.search import Found, Line, LineSearch, Point, Status, Steps, finite, follow, share


@dataclass(frozen=True)
class Backtracking(LineSearch):
    """Armijo's condition by backtracking.

    Constants:
        c1: share of the slope's decrease asked for, in (0, 1).
        shrink: least and most that a step may be as a share of the last; both 0.5 is plain halving. Where φ
            is not finite the least is taken.
        max_evaluations: cap on evaluations of φ.

    >>> def phi(a):
    ...     return Point(a, (a - 1) ** 2, 2 * (a - 1))
    >>> Backtracking()(phi, phi(0.0), 4.0)
    Found(point=Point(step=1.0, value=0.0, slope=0.0, payload=None), status='armijo', evaluations=2)
    """

    c1: float = 1e-4
    shrink: tuple[float, float] = (0.1, 0.5)
    max_evaluations: int = 20

    def __post_init__(self) -> None:
        if not 0 < self.c1 < 1:
            raise ValueError(f"c1 is {self.c1}: give a number in (0, 1)")
        if not 0 < self.shrink[0] <= self.shrink[1] < 1:
            raise ValueError(f"shrink is {self.shrink}: give 0 < least <= most < 1")
        if self.max_evaluations < 1:
            raise ValueError(f"max_evaluations is {self.max_evaluations}: give at least 1")

    def __call__(self, phi: Line, start: Point, first: float) -> Found:
        def accepts(p: Point) -> Status | None:
            return "armijo" if p.value <= start.value + self.c1 * p.step * start.slope else None

        return follow(self._steps(start, first), accepts, phi, start, self.max_evaluations)

    def _steps(self, start: Point, first: float) -> Steps:
        least, most = self.shrink
        step, before = first, None
        while step > 0:
            t = yield step
            step *= min(most, max(least, _minimizer(start, t, before)))  # NaN becomes the least
            before = t if finite(t) else None
            if not start.value + step * start.slope < start.value:  # rounding would swallow the decrease
                return


def _minimizer(start: Point, t: Point, before: Point | None) -> float:
    """Returns the minimizer of the interpolant as a share of t's step; NaN where t is not finite."""
    slope = start.slope * t.step
    rise = t.value - start.value - slope
    a = 0.0
    if before:
        k = before.step / t.step
        a = share((before.value - start.value - slope * k) / k / k - rise, k - 1)
    b = rise - a
    return share(-slope, b + math.sqrt(max(0.0, b * b - 3 * a * slope)))
