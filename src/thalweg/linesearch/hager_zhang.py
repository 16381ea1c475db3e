"""Hager and Zhang's search: an interval whose slopes enclose a minimizer, cut by double secant steps.

    φ(α) ≤ φ(0) + δ α φ′(0)                          Wolfe: enough decrease, or approximately,
    φ(α) ≤ φ(0) + ε  and  φ′(α) ≤ (2δ − 1) φ′(0)     where δ α |φ′(0)| ≤ ω |φ(0)|,  ε = rounding |φ(0)|
    |φ′(α)| ≤ σ |φ′(0)|                              and flat enough in both cases

The interval [a, b] keeps φ′(a) < 0, φ(a) low, and φ′(b) ≥ 0; low means enough decrease, or φ(a) ≤ φ(0) + ε where ω
allows it. The steps have the paper's names:

    bracket   from the first step outwards by the factor ρ, until an interval is found
    update    cuts the interval at c, by the slope at c; where φ(c) is not low and still falls, a minimizer is
              between a and c, found by steps at the share θ of that interval
    secant²   cuts at the secant's zero c, then at a second secant's, on the side on which c fell
    and where these leave more than the share γ of the interval, it is halved

The approximate conditions are enough decrease for a quadratic and hardly use φ's values, so the search goes on to
full accuracy where rounding makes the values useless. Three things differ from the papers:

    There, ε is 1e-6 |φ(0)|, ω is 1e-3 and bounds φ's change, not the decrease asked for, and low is φ ≤ φ(0) + ε
    everywhere. This may lead to a minimizer with too little decrease or onto a plateau, which the approximate
    conditions must then take. Here they give no real decrease away, and in exact arithmetic the search ends with
    the Wolfe conditions.
    There, φ′(α) ≥ σ φ′(0) alone is asked for; here both signs, so that "wolfe" means the same for every search.
    There, a first step too long is cut from 0; here, from the last good point.

Source: Deep Learning, §8.6; Hager & Zhang 2005 (SIAM J. Optim. 16), 2006 (ACM TOMS 32, algorithm 851).
"""

import math
from collections.abc import Generator
from dataclasses import dataclass

from thalweg.linesearch.search import BACK_OFF, Found, Line, LineSearch, Point, Status, Steps, finite, follow, share

Interval = tuple[Point, Point]
Cut = Generator[float, Point, Interval]


@dataclass(frozen=True)
class HagerZhang(LineSearch):
    """Wolfe or approximate Wolfe conditions by Hager and Zhang.

    Constants:
        delta: δ, share of the slope's decrease asked for, in (0, ½).
        sigma: σ, share of the slope at 0 that may be left, in [δ, 1).
        theta: θ, where to cut an interval whose far end is not low and still falls, in (0, 1).
        gamma: γ, share to which every round cuts the interval, in (0, 1).
        expansion: ρ, factor by which steps grow until a minimizer is enclosed, > 1.
        max_evaluations: cap on evaluations of φ.
        longest: no step is longer.
        rounding: relative error of φ's values; 1e-14 suits float64, 1e-6 suits float32.
        omega: ω, share of |φ(0)| up to which a decrease asked for is left to the approximate conditions; at least
            ``rounding``.

    >>> def phi(a):
    ...     return Point(a, (a - 1) ** 2, 2 * (a - 1))
    >>> HagerZhang()(phi, phi(0.0), 10.0)
    Found(point=Point(step=1.0, value=0.0, slope=0.0, payload=None), status='wolfe', evaluations=2)
    """

    delta: float = 0.1
    sigma: float = 0.9
    theta: float = 0.5
    gamma: float = 0.66
    expansion: float = 5.0
    max_evaluations: int = 20
    longest: float = 1e10
    rounding: float = 1e-14
    omega: float = 1e-6

    def __post_init__(self) -> None:
        if not (0 < self.delta < 0.5 and self.delta <= self.sigma < 1):
            raise ValueError(f"delta is {self.delta}, sigma is {self.sigma}: give 0 < delta < 0.5, delta <= sigma < 1")
        if not (0 < self.theta < 1 and 0 < self.gamma < 1):
            raise ValueError(f"theta is {self.theta}, gamma is {self.gamma}: give both in (0, 1)")
        if not 1 < self.expansion < math.inf:
            raise ValueError(f"expansion is {self.expansion}: give a finite factor > 1")
        if self.max_evaluations < 1:
            raise ValueError(f"max_evaluations is {self.max_evaluations}: give at least 1")
        if not 0 < self.longest < math.inf:
            raise ValueError(f"longest is {self.longest}: give a finite step > 0")
        if not 0 <= self.rounding <= self.omega < 1:
            raise ValueError(f"rounding is {self.rounding}, omega is {self.omega}: give 0 <= rounding <= omega < 1")

    def __call__(self, phi: Line, start: Point, first: float) -> Found:
        return follow(self._steps(start, first), lambda p: self._accepts(start, p), phi, start, self.max_evaluations)

    def _enough(self, start: Point, p: Point) -> bool:
        return p.value <= start.value + self.delta * p.step * start.slope

    def _near(self, start: Point, p: Point) -> bool:
        size, asked = abs(start.value), -self.delta * p.step * start.slope
        return asked <= self.omega * size and p.value - start.value <= self.rounding * size

    def _accepts(self, start: Point, p: Point) -> Status | None:
        flat = abs(p.slope) <= -self.sigma * start.slope
        if flat and self._enough(start, p):
            return "wolfe"
        if flat and p.slope <= (2 * self.delta - 1) * start.slope and self._near(start, p):
            return "approximate wolfe"
        falls = p.slope < 0 and p.value < start.value
        return "unbounded" if falls and p.step >= self.longest and self._enough(start, p) else None

    def _too_long(self, start: Point, p: Point) -> bool:
        """Whether a minimizer was stepped over, though the slope does not say so."""
        return not finite(p) or (p.slope < 0 and not self._enough(start, p) and not self._near(start, p))

    def _steps(self, start: Point, first: float) -> Steps:
        start = start._replace(payload=None)
        if not first > 0:
            return
        interval = yield from self._bracket(start, min(first, self.longest))
        while interval:
            a, b = yield from self._secant2(start, *interval)
            if b.step - a.step > self.gamma * (interval[1].step - interval[0].step):
                middle = a.step + (b.step - a.step) / 2
                if not a.step < middle < b.step:
                    return
                a, b = yield from self._update(start, a, b, middle)
            interval = a, b

    def _bracket(self, start: Point, step: float) -> Generator[float, Point, Interval | None]:
        """B0 to B3; None where the longest step does not enclose a minimizer."""
        a = start
        while step > a.step:
            c = yield step
            if self._too_long(start, c):
                return (yield from self._descend(start, a, c))
            if c.slope >= 0:
                return a, c
            a, step = c, min(self.expansion * step, self.longest)
        return None

    def _update(self, start: Point, a: Point, b: Point, step: float) -> Cut:
        """U0 to U3: the interval cut at the step, as it was where the step is not inside."""
        if not a.step < step < b.step:
            return a, b
        c = yield step
        if self._too_long(start, c):
            return (yield from self._descend(start, a, c))
        return (a, c) if c.slope >= 0 else (c, b)

    def _descend(self, start: Point, a: Point, b: Point) -> Cut:
        """U3: from a, low and falling, and b, stepped over, to a minimizer between them."""
        d = b
        while True:
            step = a.step + (self.theta if finite(d) else BACK_OFF) * (b.step - a.step)
            if not a.step < step < b.step:
                return a, b
            d = yield step
            if self._too_long(start, d):
                b = d
            elif d.slope >= 0:
                return a, d
            else:
                a = d

    def _secant2(self, start: Point, a: Point, b: Point) -> Cut:
        """S1 to S4: the interval cut at the secant's zero, and once more on the side on which that fell."""
        c = _secant(a, b)
        low, high = yield from self._update(start, a, b, c)
        if c == high.step:
            return (yield from self._update(start, low, high, _secant(b, high)))
        if c == low.step:
            return (yield from self._update(start, low, high, _secant(a, low)))
        return low, high


def _secant(a: Point, b: Point) -> float:
    """Returns where the line through both slopes is zero, NaN where it is level."""
    return a.step + (b.step - a.step) * share(a.slope, a.slope - b.slope)
