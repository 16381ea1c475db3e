"""Ranges in which hyperparameters are tuned, each on a scale of its own, and how they are written.

========== ============================= ===============================================
scale      evenly spread is              for
========== ============================= ===============================================
log        log x                         learning rates, weight decay: 0 < low < high
linear     x                             shares, such as that of warm-up
one-minus  log (1 − x)                   decay rates such as β and momentum: high < 1
========== ============================= ===============================================

A plain pair ``(low, high)`` is a logarithmic range, and :class:`OneOf` names the values one by one.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from thalweg.tensors.ranges import is_whole

EDGE = 0.1  # a value in the outer tenth of its range lies on the edge
RATIO = 10  # of the ends of a positive range from which on it is logarithmic, where no scale is named
FAR = math.log(1e300)  # where a value lies that a scale cannot show, such as 0 on a logarithmic one
DECAY_RATES = ("beta1", "beta2", "beta3", "betas.0", "betas.1", "momentum", "rho", "alpha")

_SCALES: dict[str, tuple[Callable[[float], float], Callable[[float], float], int]] = {  # to, from, significant digits
    "log": (lambda x: math.log(x) if x > 0 else -math.inf, math.exp, 6),
    "linear": (lambda x: x, lambda y: y, 6),
    "one-minus": (lambda x: -math.log(1 - x) if x < 1 else math.inf, lambda y: 1 - math.exp(-y), 9),
}


@dataclass(frozen=True)
class Range:
    """The numbers from ``low`` to ``high``.

    Arguments:
        low, high: the ends of the range.
        scale: ``"log"``, ``"linear"`` or ``"one-minus"``, on which it is searched evenly.
        whole: whether values are rounded to whole numbers.

    >>> Range(0.9, 0.999, "one-minus").at(0.5)
    0.99
    >>> Range(1, 64, whole=True).at(0.3)
    3
    """

    low: float
    high: float
    scale: str = "log"
    whole: bool = False

    def check(self) -> None:
        """Raises ValueError where the range has no numbers, or where its scale does not reach them."""
        if self.scale not in _SCALES:
            raise ValueError(f"is on an unknown scale {self.scale!r}: choose among {', '.join(_SCALES)}")
        least, most = (0 if self.scale == "log" else -math.inf), (1 if self.scale == "one-minus" else math.inf)
        if not least < self.low < self.high < most:
            words = {"log": "0 < low < high", "linear": "low < high", "one-minus": "low < high < 1"}[self.scale]
            other = "; from 0 on, a range can be linear" if self.low == 0 < self.high and least == 0 else ""
            raise ValueError(f"must be {words}, not ({self.low}, {self.high}){other}")
        if self.whole and not (is_whole(self.low, 0) and is_whole(self.high)):
            raise ValueError(f"must have whole numbers of at least 0 as its ends, not ({self.low}, {self.high})")

    def at(self, u: float) -> float:
        """Returns the value at a share of the range, 0 being its low end."""
        to, back, _ = _SCALES[self.scale]
        return self.rounded(self._brief(back(to(self.low) * (1 - u) + to(self.high) * u)))

    def rounded(self, value: float) -> float:
        """Returns the value, as a whole number of the range where the range is of whole numbers."""
        return min(max(round(value), self.low), self.high) if self.whole else value

    @property
    def middle(self) -> float:
        """The middle of the range."""
        return math.sqrt(self.low * self.high) if self.scale == "log" else self.at(0.5)

    def edge(self, value: float) -> str | None:
        """Returns ``"low"`` or ``"high"`` where the value lies on the edge or beyond it, unless that is zero."""
        u = self._gap(self.low, value) / self._gap(self.low, self.high)
        return "low" if u < EDGE and self.low != 0 else "high" if u > 1 - EDGE else None

    def around(self, centre: float, share: float, beyond: bool) -> "Range":
        """Returns what lies to either side by a share of the range, within it unless it may go ``beyond``."""
        if self.scale == "log":
            factor = (self.high / self.low) ** share
            low, high = centre / factor, centre * factor
        else:
            to, back, _ = _SCALES[self.scale]
            middle = min(max(to(centre), to(self.low)), to(self.high))
            reach = share * self._gap(self.low, self.high)
            low, high = back(middle - reach), back(middle + reach)
        if not beyond:
            low, high = min(max(low, self.low), self.high), max(min(high, self.high), self.low)
        return Range(self._brief(low), self._brief(high), self.scale)

    def mean(self, values: Sequence[float], weights: Sequence[float]) -> float:
        """Returns the weighted mean on the scale; the first value where the scale does not reach one of them."""
        to, back, _ = _SCALES[self.scale]
        mean = sum(w * to(v) for w, v in zip(weights, values, strict=True)) / sum(weights)
        return self._brief(back(mean)) if math.isfinite(mean) else values[0]

    def place(self, value: float) -> list[float]:
        """Returns where the value lies, in widths of the range, as coordinates."""
        y = _SCALES[self.scale][0](value)
        return [(y if math.isfinite(y) else math.copysign(FAR, y)) / self._gap(self.low, self.high)]

    def _gap(self, a: float, b: float) -> float:
        if self.scale == "log" and b > 0:
            return math.log(b / a)
        to = _SCALES[self.scale][0]
        return to(b) - to(a)

    def _brief(self, value: float) -> float:
        return float(f"{value:.{_SCALES[self.scale][2]}g}")

    def stored(self) -> Any:
        """Returns the range as JSON has it; a logarithmic one is its two ends."""
        words = [self.scale] * (self.scale != "log" or self.whole) + ["whole"] * self.whole
        return [self.low, self.high, *words]

    def __str__(self) -> str:
        words = ", ".join([self.scale] * (self.scale != "log") + ["whole"] * self.whole)
        return f"{shown(self.low)} to {shown(self.high)}{f' ({words})' if words else ''}"


@dataclass(frozen=True)
class OneOf:
    """Values of which one is chosen.

    >>> [OneOf((0.9, 0.99, 0.999)).at(u) for u in (0.1, 0.5, 0.9)]
    [0.9, 0.99, 0.999]
    """

    values: tuple[float, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", tuple(self.values))

    def check(self) -> None:
        """Raises ValueError where there are not two values, or one of them twice."""
        if len(set(self.values)) < max(2, len(self.values)):
            raise ValueError(f"must be two or more different values, not {', '.join(map(str, self.values))}")

    def at(self, u: float) -> float:
        """Returns the value at a share of the list."""
        return self.values[min(int(u * len(self.values)), len(self.values) - 1)]

    @property
    def middle(self) -> float:
        """The first of the values."""
        return self.values[0]

    def edge(self, value: float) -> None:
        """Returns None: a list has no edge."""

    def rounded(self, value: float) -> float:
        """Returns the value as it is."""
        return value

    def mean(self, values: Sequence[float], weights: Sequence[float]) -> float:
        """Returns the value that has the most weight, the first of them where several have."""
        heard: dict[float, float] = {}
        for value, weight in zip(values, weights, strict=True):
            heard[value] = heard.get(value, 0.0) + weight
        return max(heard, key=lambda value: heard[value])

    def place(self, value: float) -> list[float]:
        """Returns coordinates by which two different values are at a distance of 1."""
        return [0.5 * (value == one) for one in self.values]

    def stored(self) -> Any:
        """Returns the values as JSON has them."""
        return {"values": list(self.values)}

    def __str__(self) -> str:
        return " or ".join(map(shown, self.values))


Bounds = Range | OneOf | Sequence[Any] | Mapping[str, Any]


def as_range(bounds: Bounds) -> Range | OneOf:
    """Returns a range as such: one that is one already, a pair, or what :meth:`Range.stored` returned.

    >>> as_range((0.1, 1.0)), as_range([0, 9, "linear", "whole"])
    (Range(low=0.1, high=1.0, scale='log', whole=False), Range(low=0, high=9, scale='linear', whole=True))
    """
    if isinstance(bounds, (Range, OneOf)):
        return bounds
    if isinstance(bounds, Mapping):
        return OneOf(tuple(bounds["values"]))
    low, high, *words = bounds
    return Range(low, high, words[0] if words else "log", "whole" in words)


def usual_scale(name: str, low: float, high: float) -> str:
    """Returns the scale of a range that names none.

    >>> usual_scale("lr", 1e-3, 5e-3), usual_scale("eps", 1e-3, 5e-3)
    ('log', 'linear')
    >>> usual_scale("weight_decay", 1e-4, 0.1), usual_scale("beta2", 0.9, 0.999), usual_scale("warmup", 0, 0.2)
    ('log', 'one-minus', 'linear')
    """
    if name in DECAY_RATES and high < 1:
        return "one-minus"
    return "log" if low > 0 and (name == "lr" or high / low >= RATIO) else "linear"


def in_words(space: Mapping[str, Bounds]) -> str:
    """Returns a space in words.

    >>> in_words({"lr": (1e-4, 1.0), "beta2": Range(0.9, 0.9999, "one-minus")})
    'lr 0.0001 to 1, beta2 0.9 to 0.9999 (one-minus)'
    """
    return ", ".join(f"{name} {as_range(bounds)}" for name, bounds in space.items())


def shown(value: float) -> str:
    """Returns a value to read, with three significant digits; just below 1, with two of what is left to 1.

    >>> shown(0.0168432), shown(0.99987321), shown(1.0), shown(12.0)
    ('0.0168', '0.99987', '1', '12')
    """
    if 0.99 < value < 1:
        return f"{value:.{1 - math.floor(math.log10(1 - value))}f}".rstrip("0").rstrip(".")
    return f"{value:.3g}"
