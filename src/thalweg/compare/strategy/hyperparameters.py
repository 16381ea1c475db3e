"""The hyperparameters of a strategy by their names: which it has, what they are by default, and what they may be.

Beside those of its optimizer, a strategy has those of its schedule, as ``schedule.warmup``, and those of its guidance.
The two of ``betas`` are called ``beta1`` and ``beta2`` by an update rule, and ``betas.0`` and ``betas.1`` by an
optimizer that takes them as one argument, as torch's do; either spelling is understood.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from numbers import Real
from typing import Any, Protocol

from thalweg.compare.ranges import DECAY_RATES, Bounds, Range, as_range
from thalweg.compare.strategy.factories import asks_for_steps
from thalweg.compare.strategy.guidances import GUIDANCES
from thalweg.compare.strategy.words import nearest
from thalweg.compare.user_errors import LoadError
from thalweg.optim.settings import check_settings
from thalweg.rules import RULES, SCHEDULES, Rule, scalars_of_step
from thalweg.rules.schedules import SETTINGS, Schedule

OF_SCHEDULE = "schedule."
_SPELLINGS = {"beta1": "betas.0", "beta2": "betas.1", "betas.0": "beta1", "betas.1": "beta2"}
_ANY = "**"


class Searched(Protocol):
    """What has hyperparameters: a strategy, as far as it is known here."""

    @property
    def name(self) -> str: ...
    @property
    def rule(self) -> Rule | None: ...
    @property
    def factory(self) -> Callable[..., Any] | None: ...
    @property
    def defaults(self) -> Mapping[str, float]: ...
    @property
    def space(self) -> Mapping[str, Bounds]: ...
    @property
    def schedule_name(self) -> str: ...
    @property
    def guidance(self) -> str: ...


def own_name(strategy: Searched, name: str) -> str:
    """Returns a hyperparameter's name as the strategy has it.

    Raises:
        LoadError: it has none of that name, or one that changes nothing; the message names the nearest.
    """
    known = initial_values(strategy)
    for spelling in (name, _SPELLINGS.get(name, name), OF_SCHEDULE + name):
        if spelling in known:
            return spelling
    if _ANY in known:
        return name
    rule = strategy.rule
    others = [n for n, r in RULES.items() if type(r) is type(rule) and name in _used(r)]
    if others:
        raise LoadError(f"{strategy.name} does not use {name}: give it to {' or '.join(others)}")
    raise LoadError(f"{strategy.name} has no hyperparameter {name!r}: {nearest(name, known)}")


def initial_values(strategy: Searched) -> dict[str, float | None]:
    """Returns what a strategy has of hyperparameters with their default values, None where there is none."""
    own: dict[str, float | None]
    if strategy.rule is not None:
        own = {name: strategy.rule.defaults[name] for name in _used(strategy.rule)}
    else:
        own = of_factory(strategy.factory)
    schedule = SCHEDULES[strategy.schedule_name]
    timing = {OF_SCHEDULE + name: float(getattr(schedule, name)) for name in SETTINGS[schedule.shape]}
    guidance = dict(GUIDANCES[strategy.guidance].defaults) if strategy.guidance in GUIDANCES else {}
    known = {**own, **timing, **guidance}
    return known | {n: v for n, v in strategy.defaults.items() if strategy.rule is None or n in known}


def of_factory(factory: Callable[..., object] | None) -> dict[str, float | None]:
    """Returns the arguments of a factory but the first with their defaults, where those are numbers or unknown.

    One that is several numbers is as many hyperparameters.

    >>> import torch
    >>> found = of_factory(torch.optim.Adam)
    >>> found["lr"], found["betas.1"], "foreach" in found
    (0.001, 0.999, False)
    """
    try:
        parameters = list(inspect.signature(factory).parameters.values())  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return {_ANY: None}
    found: dict[str, float | None] = {}
    for parameter in parameters[1:]:
        value = parameter.default
        if parameter.kind is parameter.VAR_KEYWORD:
            found[_ANY] = None
        elif value is parameter.empty and parameter.kind is not parameter.VAR_POSITIONAL:
            found[parameter.name] = None
        elif isinstance(value, Real):
            found[parameter.name] = value  # type: ignore[assignment]
        elif isinstance(value, tuple) and all(isinstance(v, Real) for v in value):
            found |= {f"{parameter.name}.{i}": v for i, v in enumerate(value)}
    given = {"model", *asks_for_steps(factory)} if factory is not None else set()
    return {name: value for name, value in found.items() if name not in given}


def check_values(strategy: Searched, name: str, values: tuple[float, ...], what: str) -> None:
    """Raises ValueError where a value is none that the strategy's rule, or its schedule, can have."""
    for value in values:
        try:
            if name.startswith(OF_SCHEDULE):
                schedule_of(strategy.schedule_name, {name: value})
            elif name in DECAY_RATES and not 0 <= value < 1 and not _exceeds_one(strategy, name):
                raise ValueError(f"{name} must be in [0, 1)")
            elif strategy.rule is not None:
                check_settings({name: value})
        except ValueError as error:
            raise ValueError(f"{what} is not possible: {error}") from error


def _exceeds_one(strategy: Searched, name: str) -> bool:
    """Says whether what has a decay rate's name is none, as the alpha of AdEMAMix."""
    usual = initial_values(strategy).get(name)
    return usual is not None and usual >= 1


def schedule_of(name: str, hyper: Mapping[str, float]) -> Schedule:
    """Returns the schedule of that name with what a configuration says of it.

    >>> schedule_of("cosine", {"lr": 0.1, "schedule.warmup": 0.2}).warmup
    0.2
    """
    own: dict[str, Any] = {n.removeprefix(OF_SCHEDULE): v for n, v in hyper.items() if n.startswith(OF_SCHEDULE)}
    return replace(SCHEDULES[name], **own) if own else SCHEDULES[name]


def ends_of(bounds: Bounds) -> tuple[float, ...]:
    """Returns the ends of a range, or all values of a list.

    >>> ends_of((0.1, 1.0)), ends_of({"values": [1, 2, 3]})
    ((0.1, 1.0), (1, 2, 3))
    """
    found = as_range(bounds)
    return (found.low, found.high) if isinstance(found, Range) else found.values


def missing(rule: Rule, defaults: Mapping[str, float], space: Mapping[str, Any]) -> dict[str, float]:
    """Returns the rule's own values of what is neither given nor searched.

    Raises:
        ValueError: a hyperparameter that the rule does not have is given or searched.
    """
    own = {name for name in (*defaults, *space) if not name.startswith(OF_SCHEDULE)}
    of_guidances = {name for entry in GUIDANCES.values() for name in entry.defaults}
    unknown = sorted(own - {*rule.defaults} - of_guidances)
    if unknown:
        raise ValueError(f"{rule.name} has no hyperparameter {unknown[0]!r}: {nearest(unknown[0], rule.defaults)}")
    return {name: value for name, value in rule.defaults.items() if name not in defaults and name not in space}


class _Read(dict[str, float]):
    """Hyperparameters that remember which of them were read."""

    def __init__(self, values: Mapping[str, float]) -> None:
        super().__init__(values)
        self.names: set[str] = set()

    def __getitem__(self, name: str) -> float:
        self.names.add(name)
        return super().__getitem__(name)


@lru_cache(maxsize=64)
def _used(rule: Rule) -> tuple[str, ...]:
    """Returns the hyperparameters that a rule reads: plain SGD does not read its momentum."""
    hyper = _Read(rule.defaults)
    scalars_of_step(rule, hyper, 2, dict(rule.scalar_state))
    return tuple(name for name in rule.defaults if name in hyper.names)
