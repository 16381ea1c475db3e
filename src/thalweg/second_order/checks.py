"""Settings that are numbers: one line that names the setting, its range and what was given."""

import math
from numbers import Real
from typing import Any

from thalweg.tensors.ranges import is_whole


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
