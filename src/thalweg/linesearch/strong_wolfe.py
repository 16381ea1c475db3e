"""Moré and Thuente's search for the strong Wolfe conditions, with the approximate ones where rounding hides the value.

    φ(α) ≤ φ(0) + c₁ α φ′(0)          enough decrease
    |φ′(α)| ≤ c₂ |φ′(0)|              flat enough

An interval between x, the lowest point yet, and y shrinks around a minimizer. A trial t in it has one of four cases,
each with a step of its own from the cubic (c), quadratic (q) or secant (s) that interpolates φ and φ′:

    1. φ(t) > φ(x)                       c if it is nearer to x than q, else (c + q) / 2
    2. φ′ changes sign from x to t       of c and s that farther from t
    3. |φ′(t)| < |φ′(x)|                 of c and s that nearer to t, farther before the minimizer is enclosed
    4. else                              c between t and y; before that, as far as allowed

Stage 1, until a step with enough decrease and φ′ ≥ 0 is seen, works on ψ(α) = φ(α) − φ(0) − c₁ α φ′(0) where φ(t) is
lower than φ(x) but not enough; so the interval has a point that meets both conditions. An interval not cut to 0.66
of its length in two trials is halved.

Near an optimum the decrease asked for is below the rounding error of φ, so no value can show it. Where both
|φ(α) − φ(0)| and c₁ α |φ′(0)| are at most ``rounding`` |φ(0)|, the value is taken from the slopes,
φ(0) + α (φ′(0) + φ′(α)) / 2, by which enough decrease becomes Hager and Zhang's

    φ′(α) ≤ (2c₁ − 1) φ′(0)

Source: Deep Learning, §8.6; Moré & Thuente 1994 (ACM TOMS 20); Hager & Zhang 2005 (SIAM J. Optim. 16).
"""

import math
from dataclasses import dataclass

from thalweg.linesearch.search import BACK_OFF, Found, Line, LineSearch, Point, Status, Steps, finite, follow, share

# Before a minimizer is enclosed, a trial goes on by 1.1 to 4 times the last stretch.
EXTEND_LEAST, EXTEND_MOST = 1.1, 4.0
# An enclosing interval shrinks to this share in two trials, and a trial leaves this share of it on y's side.
SHRINK = 0.66
# A rise this many times the fall that the slope promises says that φ explodes, not where its minimizer is.
EXPLOSION = 1e20


@dataclass(frozen=True)
class MoreThuente(LineSearch):
    """Strong Wolfe conditions by Moré and Thuente.

    Constants:
        c1: share of the slope's decrease asked for, in (0, ½).
        c2: share of the slope at 0 that may be left, in [c1, 1); 0.9 for quasi-Newton, 0.1 for conjugate gradients.
        max_evaluations: cap on evaluations of φ.
        longest: no step is longer.
        rounding: relative error of φ's values; 1e-14 suits float64, 1e-6 suits float32, and 0 turns the
            approximate conditions off.

    >>> def phi(a):
    ...     return Point(a, (a - 1) ** 2, 2 * (a - 1))
    >>> MoreThuente(c2=0.1)(phi, phi(0.0), 10.0)
    Found(point=Point(step=1.0, value=0.0, slope=0.0, payload=None), status='wolfe', evaluations=2)
    """

    c1: float = 1e-4
    c2: float = 0.9
    max_evaluations: int = 20
    longest: float = 1e10
    rounding: float = 1e-14

    def __post_init__(self) -> None:
        if not (0 < self.c1 < 0.5 and self.c1 <= self.c2 < 1):
            raise ValueError(f"c1 is {self.c1}, c2 is {self.c2}: give 0 < c1 < 0.5 and c1 <= c2 < 1")
        if self.max_evaluations < 1:
            raise ValueError(f"max_evaluations is {self.max_evaluations}: give at least 1")
        if not 0 < self.longest < math.inf:
            raise ValueError(f"longest is {self.longest}: give a finite step > 0")
        if not 0 <= self.rounding < 1:
            raise ValueError(f"rounding is {self.rounding}: give a number in [0, 1)")

    def __call__(self, phi: Line, start: Point, first: float) -> Found:
        return follow(self._steps(start, first), lambda p: self._accepts(start, p), phi, start, self.max_evaluations)

    def _accepts(self, start: Point, p: Point) -> Status | None:
        enough = p.value <= start.value + self.c1 * p.step * start.slope
        flat = abs(p.slope) <= -self.c2 * start.slope
        if enough and flat:
            return "wolfe"
        if flat and p.slope <= (2 * self.c1 - 1) * start.slope and self._hidden(start, p):
            return "approximate wolfe"
        falls = p.slope <= self.c1 * start.slope and p.value < start.value
        return "unbounded" if enough and falls and p.step >= self.longest else None

    def _hidden(self, start: Point, p: Point) -> bool:
        error = self.rounding * abs(start.value)
        return abs(p.value - start.value) <= error and -self.c1 * p.step * start.slope <= error

    def _cleared(self, start: Point, p: Point) -> Point:
        """Returns the point, with the value that the slopes give where its own is hidden by rounding."""
        if not self._hidden(start, p):
            return p
        error, change = self.rounding * abs(start.value), p.step * (start.slope / 2 + p.slope / 2)
        return p._replace(value=start.value + min(error, max(-error, change)))

    def _steps(self, start: Point, first: float) -> Steps:
        x = y = start._replace(payload=None)
        enclosed, stage_one = False, True
        asked = self.c1 * start.slope
        width, width_before = self.longest, 2 * self.longest
        step = min(first, self.longest)
        low, high = 0.0, (1 + EXTEND_MOST) * step
        while step > 0:
            t = yield step
            if finite(t):
                t = self._cleared(start, t)
                lack = t.value - (start.value + asked * t.step)
                stage_one = stage_one and not (lack <= 0 and t.slope >= 0)
                bend = asked if stage_one and lack > 0 and t.value <= x.value else 0.0
                bent_x, bent_y, bent_t = (_bent(p, bend) for p in (x, y, t))
                step = _trial(bent_x, bent_y, bent_t, enclosed, low, high)
                higher, turned = bent_t.value > bent_x.value, _turned(bent_x, bent_t)
                x, y = (x, t) if higher else (t, x if turned else y)
                enclosed = enclosed or higher or turned
            else:
                y, enclosed = t, True
                step = x.step + BACK_OFF * (t.step - x.step)
            if enclosed:
                if abs(y.step - x.step) >= SHRINK * width_before:
                    step = x.step + (y.step - x.step) / 2
                width_before, width = width, abs(y.step - x.step)
                low, high = min(x.step, y.step), max(x.step, y.step)
                if not low < step < high:
                    return
            else:
                low, high = (step + extend * (step - x.step) for extend in (EXTEND_LEAST, EXTEND_MOST))
                step = min(step, self.longest)
                if not step > t.step:
                    return


def _bent(p: Point, slope: float) -> Point:
    """Returns the point of φ(α) − slope · α."""
    return p._replace(value=p.value - slope * p.step, slope=p.slope - slope)


def _turned(x: Point, t: Point) -> bool:
    """Returns whether the slope changes sign from x to t."""
    return t.slope * math.copysign(1.0, x.slope) < 0


def _cubic(a: Point, b: Point) -> float:
    """Returns the minimizer, as a share of the way from a to b, of the cubic through both; NaN where it has none."""
    theta = 3 * share(a.value - b.value, b.step - a.step) + a.slope + b.slope
    scale = max(abs(theta), abs(a.slope), abs(b.slope))
    square = share(theta, scale) * share(theta, scale) - share(a.slope, scale) * share(b.slope, scale)
    if not square > 0:
        return math.nan
    root = math.copysign(scale * math.sqrt(square), b.step - a.step)
    return share(root - a.slope + theta, root - a.slope + root + b.slope)


def _trial(x: Point, y: Point, t: Point, enclosed: bool, low: float, high: float) -> float:
    """Returns the next step, from the case in which t is."""
    way = t.step - x.step
    if t.value > x.value:
        quadratic = share(x.slope, share(x.value - t.value, way) + x.slope) / 2
        if not quadratic > 1 / EXPLOSION:
            return x.step + BACK_OFF * way
        cubic = _cubic(x, t)
        if math.isnan(cubic):
            cubic = quadratic
        return x.step + way * (cubic if cubic < quadratic else (cubic + quadratic) / 2)
    secant = t.step - way * share(t.slope, t.slope - x.slope)
    cubic = t.step - way * _cubic(t, x)
    if _turned(x, t):
        return cubic if abs(cubic - t.step) > abs(secant - t.step) else secant
    width = y.step - t.step
    if abs(t.slope) < abs(x.slope):
        if not (cubic - t.step) * way > 0:  # the cubic falls for ever, or has its minimizer behind t
            cubic = high if way > 0 else low
        nearer = abs(cubic - t.step) < abs(secant - t.step)
        step = cubic if nearer == enclosed else secant
        if enclosed:
            return t.step + math.copysign(min(abs(step - t.step), SHRINK * abs(width)), width)
        return min(high, max(low, step))
    if not enclosed:
        return high
    inner = _cubic(t, y)
    return t.step + width * (0.5 if math.isnan(inner) else inner)
