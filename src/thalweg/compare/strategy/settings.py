"""The hyperparameters of a strategy, checked before anything is made of them."""

import math
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np
from torch import Tensor

from thalweg.compare.design import DIMENSIONS


def checked_defaults(defaults: Mapping[str, Any]) -> dict[str, float]:
    """Returns the defaults as Python's own numbers.

    Raises:
        ValueError: one is no finite number.
    """
    if not isinstance(defaults, Mapping):
        raise ValueError(f"defaults are {defaults!r}: give {{hyperparameter: number}}")
    return {name: _number(f"the default of {name}", value) for name, value in defaults.items()}


def checked_space(space: Mapping[str, Any], defaults: Mapping[str, float]) -> dict[str, tuple[float, float]]:
    """Returns the ranges as pairs of Python's own numbers.

    Raises:
        ValueError: one is no range 0 < low < high, or its default is not above 0; there are too many.

    >>> checked_space({"lr": [0.01, 1]}, {})
    {'lr': (0.01, 1)}
    """
    if not isinstance(space, Mapping):
        raise ValueError(f"space is {space!r}: give {{hyperparameter: (low, high)}}")
    if len(space) > DIMENSIONS:
        raise ValueError(f"{len(space)} hyperparameters are tuned: give at most {DIMENSIONS} ranges")
    found = {}
    for name, bounds in space.items():
        if isinstance(bounds, str) or not isinstance(bounds, Sequence) or len(bounds) != 2:
            raise ValueError(f"the range of {name} is {bounds!r}: give (low, high)")
        low, high = (_number(f"a bound of {name}", bound) for bound in bounds)
        if not 0 < low < high:
            raise ValueError(f"the range of {name} must be 0 < low < high, not ({low}, {high})")
        if defaults.get(name, low) <= 0:
            raise ValueError(
                f"{name} is tuned on a logarithmic scale, and its default is {defaults[name]}: give a default above "
                "0, or omit it from the space"
            )
        found[name] = (low, high)
    return found


def _number(what: str, value: Any) -> float:
    if isinstance(value, (np.generic, np.ndarray, Tensor)) and math.prod(value.shape) == 1:
        value = value.item()
    if not isinstance(value, Real) or not math.isfinite(value):
        raise ValueError(
            f"{what} is {value!r}: give a number; fix other arguments in the factory, for example with "
            "functools.partial"
        )
    return value  # type: ignore[return-value]
