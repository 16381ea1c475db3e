"""What is searched of a strategy, and what is set: changes to its space and its settings."""

from collections.abc import Mapping
from typing import Any

from thalweg.compare.ranges import Bounds
from thalweg.compare.strategy.hyperparameters import Searched, check_values, ends_of, initial_values, own_name
from thalweg.compare.strategy.settings import checked_number, number_in, range_of


def with_ranges(strategy: Searched, given: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the ``defaults`` and ``space`` of a strategy with ranges added, or in the place of others.

    Their order is that of the names, the learning rate first, so that points of the Sobol stream mean the same in
    whichever order the ranges were given.

    Raises:
        ValueError: the strategy has no such hyperparameter, or it cannot have the values of the range.
    """
    ranges = {}
    for name, bounds in _by_own_names(strategy, given).items():
        found = range_of(name.removeprefix("schedule."), bounds)
        check_values(strategy, name, ends_of(found), f"the range {_written(bounds)} of {strategy.name}'s {name}")
        ranges[name] = found
    space: dict[str, Bounds] = {**strategy.space, **ranges}
    ordered = sorted(space, key=lambda name: (name != "lr", name))
    return {"defaults": _filled(strategy, ranges), "space": {name: space[name] for name in ordered}}


def with_values(strategy: Searched, given: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the ``defaults`` and ``space`` of a strategy with hyperparameters set, which are then not searched.

    Raises:
        ValueError: the strategy has no such hyperparameter, or it cannot have the value.
    """
    values = {}
    for name, value in _by_own_names(strategy, given).items():
        what = f"the value {value} of {strategy.name}'s {name}"
        number = number_in(what, value) if isinstance(value, str) else checked_number(what, value)
        check_values(strategy, name, (number,), what)
        values[name] = number
    space = {name: bounds for name, bounds in strategy.space.items() if name not in values}
    return {"defaults": {**_filled(strategy, values), **values}, "space": space}


def _by_own_names(strategy: Searched, given: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in given.items():
        own = own_name(strategy, name)
        if own in found:
            raise ValueError(f"{strategy.name}'s {own} is given twice: omit one")
        found[own] = value
    return found


def _filled(strategy: Searched, names: Mapping[str, Any]) -> dict[str, float]:
    """Returns the defaults with the initial values of more hyperparameters, and of all others of one argument."""
    initial = initial_values(strategy)
    arguments = {name.rpartition(".")[0] for name in names if name not in strategy.defaults} - {"", "schedule"}
    wanted = {name for name in initial if name in names or name.rpartition(".")[0] in arguments}
    more = {name: value for name, value in initial.items() if name in wanted and value is not None}
    return {**strategy.defaults, **{name: value for name, value in more.items() if name not in strategy.defaults}}


def _written(bounds: Any) -> str:
    return bounds if isinstance(bounds, str) else str(bounds)
