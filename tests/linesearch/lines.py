"""Lines to search on: the six functions of Moré and Thuente, polynomials, broken functions, and a counter of calls."""

import math
from collections.abc import Callable
from typing import NamedTuple

from thalweg.linesearch import Point

Function = Callable[[float], float]


class Smooth(NamedTuple):
    value: Function
    slope: Function


class Counted:
    """A line that keeps every point it gave."""

    def __init__(self, smooth: Smooth):
        self.smooth, self.points = smooth, []
        self.start = self.at(0.0)

    def at(self, step):
        return Point(step, self.smooth.value(step), self.smooth.slope(step), object())

    def __call__(self, step):
        self.points.append(self.at(step))
        return self.points[-1]

    @property
    def steps(self):
        return [p.step for p in self.points]


def polynomial(*coefficients):
    """c₁ α + c₂ α² + … from (c₀, c₁, …)."""
    slopes = [i * c for i, c in enumerate(coefficients)][1:]

    def horner(cs, a):
        total = 0.0
        for c in reversed(cs):
            total = total * a + c
        return total

    return Smooth(lambda a: horner(coefficients, a), lambda a: horner(slopes, a))


def yanai(b1, b2):
    g1, g2 = (math.sqrt(1 + b * b) - b for b in (b1, b2))
    return Smooth(
        lambda a: g1 * math.hypot(1 - a, b2) + g2 * math.hypot(a, b1),
        lambda a: g1 * (a - 1) / math.hypot(1 - a, b2) + g2 * a / math.hypot(a, b1),
    )


def rippled(beta=0.01, waves=39):
    def bowl(a):
        return (a - 1) ** 2 / (2 * beta) + beta / 2 if abs(a - 1) < beta else abs(a - 1)

    def bowl_slope(a):
        return (a - 1) / beta if abs(a - 1) < beta else math.copysign(1.0, a - 1)

    k = waves * math.pi / 2
    return Smooth(
        lambda a: bowl(a) + (1 - beta) / k * math.sin(k * a), lambda a: bowl_slope(a) + (1 - beta) * math.cos(k * a)
    )


class Published(NamedTuple):
    """A test function, its c1 and c2, and the evaluations printed in tables I to VI for four first steps."""

    smooth: Smooth
    c1: float
    c2: float
    evaluations: tuple[int, int, int, int]


FIRSTS = (1e-3, 1e-1, 1e1, 1e3)
MORE_THUENTE = {
    1: Published(
        Smooth(lambda a: -a / (a * a + 2), lambda a: (a * a - 2) / (a * a + 2) ** 2), 1e-3, 1e-1, (6, 3, 1, 4)
    ),
    2: Published(
        Smooth(
            lambda a: (a + 0.004) ** 5 - 2 * (a + 0.004) ** 4, lambda a: 5 * (a + 0.004) ** 4 - 8 * (a + 0.004) ** 3
        ),
        1e-1,
        1e-1,
        (12, 8, 8, 11),
    ),
    3: Published(rippled(), 1e-1, 1e-1, (12, 12, 10, 13)),
    4: Published(yanai(1e-3, 1e-3), 1e-3, 1e-3, (4, 1, 3, 4)),
    5: Published(yanai(1e-2, 1e-3), 1e-3, 1e-3, (6, 3, 7, 8)),
    6: Published(yanai(1e-3, 1e-2), 1e-3, 1e-3, (13, 11, 8, 11)),
}

BOWL = polynomial(1.0, -2.0, 1.0)


def broken_from(wall, value=math.nan, slope=math.nan, smooth=BOWL):
    """The bowl (α − 1)², with another value and slope from the wall on."""
    return Smooth(lambda a: value if a >= wall else smooth.value(a), lambda a: slope if a >= wall else smooth.slope(a))


def exploding(a):
    return math.exp(min(a, 709.0)) if a < 709 else math.inf


BAD = {
    "NaN beyond 0.5": broken_from(0.5),
    "infinite beyond 1e-3": broken_from(1e-3, math.inf),
    "minus infinity beyond 2": broken_from(2.0, -math.inf, -1.0),
    "slope NaN beyond 2": broken_from(2.0, 0.0),
    "slope infinite beyond 2": broken_from(2.0, 0.0, -math.inf),
    "NaN everywhere": broken_from(1e-300),
    "island of NaN": Smooth(lambda a: math.nan if 0.8 < a < 3 else (a - 5) ** 2, lambda a: 2 * (a - 5)),
    "jump up": broken_from(0.7, 100.0, -1.0),
    "jump up and level": broken_from(0.7, 1.0, 0.0),
    "kink": Smooth(lambda a: abs(a - 0.3), lambda a: math.copysign(1.0, a - 0.3)),
    "falls for ever": polynomial(0.0, -1.0),
    "falls ever faster": polynomial(0.0, -1.0, -1.0),
    "exponential": Smooth(lambda a: exploding(a) - 2 * a, lambda a: exploding(a) - 2),
    "almost flat": polynomial(1.0, -1e-30),
    "level beyond 0": Smooth(lambda a: 1.0, lambda a: -1.0 if a == 0 else 0.0),
    "wrong slope": Smooth(lambda a: 1.0 + a, lambda a: -1.0),
    "wrong slope that grows": Smooth(lambda a: 1.0 + a, lambda a: -1.0 - a),
    "huge": polynomial(1e300, -1e300, 5e299),
    "tiny": polynomial(0.0, -1e-300, 1e-300),
    "huge rise": Smooth(
        lambda a: 1e308 * min(a, 1.0) - 1e-3 if a > 0.01 else -a, lambda a: 1e308 if a > 0.01 else -1.0
    ),
}
