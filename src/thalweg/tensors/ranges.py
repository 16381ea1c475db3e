"""Whether a setting is a number in its range, and the line that names setting, range and what was given.

NaN is in no range: a bare comparison such as ``x < 1`` would let it pass.
"""

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


def check_whole(name: str, value: Any, least: int) -> int:
    """Returns the value as an int.

    Raises:
        ValueError: it is no whole number, or below ``least``.

    >>> check_whole("history_size", 2.5, 1)
    Traceback (most recent call last):
    ValueError: history_size must be a whole number of at least 1, not 2.5
    """
    if not is_whole(value, least):
        raise ValueError(f"{name} must be a whole number of at least {least}, not {value!r}")
    return int(value)


def check_number(name: str, value: Any, below: float = math.inf, *, infinite: bool = False) -> float:
    """Returns the value as a float.

    Raises:
        ValueError: it is no number from 0 to ``below``; infinity is one only where that is said.

    >>> check_number("gtol", float("nan"))
    Traceback (most recent call last):
    ValueError: gtol must be a finite number of at least 0, not nan
    """
    found = float(value) if isinstance(value, Real) and not isinstance(value, bool) else math.nan
    if not found >= 0 or not (found < below or infinite):
        wanted = "a number of at least 0" if infinite else "a finite number of at least 0"
        raise ValueError(f"{name} must be {wanted if math.isinf(below) else f'in [0, {below:g})'}, not {value!r}")
    return found
