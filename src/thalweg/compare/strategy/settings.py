"""The hyperparameters of a strategy, checked before anything is made of them, and read where they are written."""

import math
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np
from torch import Tensor

from thalweg.compare.design import DIMENSIONS
from thalweg.compare.ranges import Bounds, OneOf, Range, usual_scale

WORDS = ("log", "linear", "one-minus", "whole")


def checked_defaults(defaults: Mapping[str, Any]) -> dict[str, float]:
    """Returns the defaults as Python's own numbers.

    Raises:
        ValueError: one is no finite number.
    """
    if not isinstance(defaults, Mapping):
        raise ValueError(f"defaults are {defaults!r}: give {{hyperparameter: number}}")
    return {name: checked_number(f"the default of {name}", value) for name, value in defaults.items()}


def checked_space(space: Mapping[str, Any], defaults: Mapping[str, float]) -> dict[str, Bounds]:
    """Returns the ranges with Python's own numbers; a pair is a logarithmic one.

    Raises:
        ValueError: one has no numbers, the default learning rate is 0, or there are too many.

    >>> checked_space({"lr": [0.01, 1], "momentum": Range(0.5, 0.99, "one-minus")}, {})["lr"]
    (0.01, 1)
    """
    if not isinstance(space, Mapping):
        raise ValueError(f"space is {space!r}: give {{hyperparameter: (low, high)}}")
    if len(space) > DIMENSIONS:
        raise ValueError(f"{len(space)} hyperparameters are tuned: give at most {DIMENSIONS} ranges")
    if "lr" in space and defaults.get("lr", 1.0) <= 0:
        raise ValueError(
            f"lr is tuned on a logarithmic scale, and its default is {defaults['lr']}: give a default above 0, or omit "
            "it from the space"
        )
    return {name: _checked_range(name, bounds) for name, bounds in space.items()}


def _checked_range(name: str, bounds: Any) -> Bounds:
    if isinstance(bounds, OneOf):
        found: Range | OneOf = OneOf(tuple(checked_number(f"a value of {name}", value) for value in bounds.values))
    elif isinstance(bounds, Range):
        low, high = (checked_number(f"a bound of {name}", bound) for bound in (bounds.low, bounds.high))
        found = Range(low, high, bounds.scale, bounds.whole)
    else:
        low, high = _pair(name, bounds)
        found = Range(low, high)
    try:
        found.check()
    except ValueError as error:
        raise ValueError(f"the range of {name} {error}") from error
    return (found.low, found.high) if isinstance(found, Range) and found == Range(found.low, found.high) else found


def range_of(name: str, given: Any) -> Bounds:
    """Returns a range as a user gives it: a :class:`Range`, a :class:`OneOf`, a pair or a text.

    A pair is on the scale that :func:`usual_scale` says. A text is ``LOW:HIGH``, to which ``:log``, ``:linear``,
    ``:one-minus`` and ``:whole`` can be added, or values with bars between them.

    Raises:
        ValueError: it is none of these.

    >>> range_of("weight_decay", "1e-4:1e-1"), range_of("beta2", (0.9, 0.999))
    ((0.0001, 0.1), Range(low=0.9, high=0.999, scale='one-minus', whole=False))
    >>> range_of("k", "1:9:whole"), range_of("eps", "1e-8|1e-4")
    (Range(low=1, high=9, scale='linear', whole=True), OneOf(values=(1e-08, 0.0001)))
    """
    if isinstance(given, (Range, OneOf)):
        return _checked_range(name, given)
    words: list[str] = []
    if isinstance(given, str):
        if "|" in given:
            return _checked_range(
                name, OneOf(tuple(number_in(f"a value of {name}", part) for part in given.split("|")))
            )
        low_text, *rest = given.split(":")
        if not rest or not {*rest[1:]} <= {*WORDS}:
            raise ValueError(
                f"the range of {name} is {given!r}: write LOW:HIGH, LOW:HIGH:linear (or log, one-minus, whole), or "
                "values as A|B|C"
            )
        given, words = [number_in(f"a bound of {name}", text) for text in (low_text, rest[0])], rest[1:]
    low, high = _pair(name, given)
    scale = next((word for word in words if word != "whole"), usual_scale(name, low, high))
    return _checked_range(name, Range(low, high, scale, "whole" in words))


def _pair(name: str, bounds: Any) -> tuple[float, float]:
    if isinstance(bounds, str) or not isinstance(bounds, Sequence) or len(bounds) != 2:
        raise ValueError(f"the range of {name} is {bounds!r}: give (low, high)")
    low, high = (checked_number(f"a bound of {name}", bound) for bound in bounds)
    return low, high


def number_in(what: str, text: str) -> float:
    """Returns the number, whole where it is written so, or the truth value in a text.

    Raises:
        ValueError: there is none.

    >>> number_in("k", "5"), number_in("lr", "1e-3"), number_in("nesterov", "True")
    (5, 0.001, True)
    """
    word = text.strip()
    if word.lower() in ("true", "false"):
        return word.lower() == "true"
    for kind in (int, float):
        try:
            return checked_number(what, kind(word))
        except ValueError:
            continue
    raise ValueError(f"{what} is {word!r}: write a finite number, such as 0.01")


def checked_number(what: str, value: Any) -> float:
    """Returns a value as a finite number of Python's own. Raises ValueError where it is none."""
    if isinstance(value, (np.generic, np.ndarray, Tensor)) and math.prod(value.shape) == 1:
        value = value.item()
    if not isinstance(value, Real) or not math.isfinite(value):
        raise ValueError(
            f"{what} is {value!r}: give a number; fix other arguments in the factory, for example with "
            "functools.partial"
        )
    return value  # type: ignore[return-value]
