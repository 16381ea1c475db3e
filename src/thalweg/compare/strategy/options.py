"""``--tune``, ``--space`` and ``--set``: what the command line says of the search spaces of a study's strategies."""

from collections.abc import Mapping, Sequence
from typing import Literal

from thalweg.compare.strategy.hyperparameters import own_name
from thalweg.compare.strategy.strategy import Strategy
from thalweg.compare.strategy.words import nearest, parts_of
from thalweg.compare.user_errors import LoadError

Tune = Literal["more"]


def widened(strategies: Sequence[Strategy], tune: Tune | None) -> list[Strategy]:
    """Returns the strategies with the ranges that are published for them, where ``tune`` is ``"more"``.

    Raises:
        ValueError: another word.

    >>> list(widened([Strategy.parse("adamw")], "more")[0].space)
    ['lr', 'beta1', 'weight_decay']
    """
    if tune not in (None, "more"):
        raise ValueError(f"tune is {tune!r}: use 'more', or omit it")
    return [strategy.more_tuned() for strategy in strategies] if tune else list(strategies)


def with_options(strategies: Sequence[Strategy], spaces: Sequence[str], settings: Sequence[str]) -> list[Strategy]:
    """Returns the strategies with ranges and values written as ``STRATEGY.HYPERPARAMETER=…``.

    STRATEGY is a strategy's name, or an optimizer's for all strategies that have it.

    Raises:
        ValueError: no such strategy or hyperparameter, or a value that cannot be.

    >>> adam, he = with_options([Strategy.parse("adam"), Strategy.parse("adam+he")], ["adam+he.beta2=0.9:0.999"], [])
    >>> list(adam.space), list(he.space)
    (['lr'], ['lr', 'beta2'])
    """
    ranges = _by_strategy(strategies, spaces, "--space", "LOW:HIGH")
    values = _by_strategy(strategies, settings, "--set", "NUMBER")
    return [_changed(s, ranges.get(s.name, {}), values.get(s.name, {})) for s in strategies]


def _changed(strategy: Strategy, ranges: Mapping[str, str], values: Mapping[str, str]) -> Strategy:
    both = {own_name(strategy, name) for name in ranges} & {own_name(strategy, name) for name in values}
    if both:
        raise LoadError(f"{strategy.name}'s {min(both)} is both searched (--space) and set (--set): omit one")
    found = strategy.with_settings(values) if values else strategy
    return found.with_space(ranges) if ranges else found


def _by_strategy(
    strategies: Sequence[Strategy], texts: Sequence[str], option: str, form: str
) -> dict[str, dict[str, str]]:
    """Returns what is written for each strategy, by its name, as hyperparameters to texts."""
    found: dict[str, dict[str, str]] = {}
    for text in texts:
        where, equals, value = text.rpartition("=")
        if not equals or "." not in where or not value:
            raise LoadError(f"{option} {text!r} is not understood: write {option} STRATEGY.HYPERPARAMETER={form}")
        label = _label(strategies, where, f"{option} {text!r}")
        name = where.removeprefix(f"{label}.")
        for strategy in _called(strategies, label):
            own = found.setdefault(strategy.name, {})
            if name in own:
                raise LoadError(f"{option} {where} is given twice: omit one")
            own[name] = value
    return found


def _called(strategies: Sequence[Strategy], label: str) -> list[Strategy]:
    exact = [s for s in strategies if s.name == label]
    return exact or [s for s in strategies if parts_of(s.name)[0] == label]


def _label(strategies: Sequence[Strategy], where: str, option: str) -> str:
    """Returns the name in front of a hyperparameter's, the longest that is one."""
    labels = dict.fromkeys(label for s in strategies for label in (s.name, parts_of(s.name)[0]))
    found = [label for label in labels if where.startswith(f"{label}.")]
    if not found:
        other = where.partition(".")[0]
        raise LoadError(f"{option}: there is no strategy {other!r} in this study: {nearest(other, labels)}")
    return max(found, key=len)
