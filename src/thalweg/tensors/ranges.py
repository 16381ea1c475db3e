"""Whether a setting is a number in its range. NaN is in none: a bare comparison such as ``x < 1`` would let it pass."""

import math
from numbers import Integral, Real
from typing import Any


def is_whole(value: Any, least: int = 1) -> bool:
    """Says whether a value is a whole number of at least ``least``.

    >>> [is_whole(value) for value in (1, 0, 2.5, float("nan"), True, "3")]
    [True, False, False, False, False, False]
    """
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least


def is_within(value: Any, low: float = -math.inf, high: float = math.inf) -> bool:
    """Says whether a value is a finite number in [low, high].

    >>> [is_within(value, 0, 1) for value in (0, 0.5, 2, float("nan"), "1")], is_within(float("inf"), 0)
    ([True, True, False, False, False], False)
    """
    return isinstance(value, Real) and math.isfinite(value) and low <= float(value) <= high
