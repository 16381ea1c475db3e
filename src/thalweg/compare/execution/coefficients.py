"""The coefficients of an update rule over a run, as the kernels of all engines take them.

Where parameters have settings of their own, the coefficients that differ between settings stand there once for each.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from thalweg.compare.execution.job import Job
from thalweg.compare.execution.kernel_layout import AVERAGE, column_of
from thalweg.compare.strategy.variants import averaging_of
from thalweg.compare.task.grouping import RATES, Setting
from thalweg.rules.matrix_rule import OF_MATRIX
from thalweg.rules.rule import Rule, no_decay, scalars_of_step
from thalweg.rules.schedules import Schedule

PLAIN = (Setting(),)
PROBED = 4  # steps by which coefficients that differ are told from others
TABLES = 512  # of whole runs that are kept


def coefficient_table(job: Job, start: int, stop: int, settings: tuple[Setting, ...] = PLAIN) -> Tensor:
    """Returns the coefficients of the rule from ``start`` to ``stop`` in the run as float64 ``(stop - start, c)``.

    Columns follow :func:`coefficient_names`. Any stretch of a run sees the same numbers.
    """
    s = job.strategy
    assert s.rule is not None
    spent = job.prepared
    hyper = tuple(s.stepping(job.hyper).items())
    schedule, total = s.schedule_with(job.hyper), job.total - spent
    whole = _whole_table if len(settings) == 1 else _table_of_settings
    return whole(s.rule, hyper, schedule, s.averaging, total, settings)[start - spent : stop - spent]


@lru_cache(TABLES)
def _whole_table(
    rule: Rule,
    hyper: tuple[tuple[str, float], ...],
    schedule: Schedule,
    averaging: str,
    total: int,
    settings: tuple[Setting, ...],
) -> Tensor:
    own = [_rules_table(rule, setting.of(dict(hyper)), schedule, total) for setting in settings]
    columns = [_filled(own[number], name, rule) for name, number in _columns(rule, dict(hyper), settings)]
    times = torch.arange(1, total + 1, dtype=torch.float64)
    average = averaging_of(averaging, total)
    weights = [] if average is None else [average.weight(times)]
    return torch.stack([*(column.expand_as(times) for column in columns), *weights], dim=1)


@lru_cache(TABLES // 4)  # they are larger
def _table_of_settings(*of: Any) -> Tensor:
    return _whole_table.__wrapped__(*of)


def _filled(table: Mapping[str, Tensor], name: str, rule: Rule) -> Tensor:
    """Returns a coefficient; the neutral one of weight decay where a setting has none and another has."""
    neutral = torch.tensor(no_decay(rule), dtype=torch.float64)
    return table.get(name, neutral) if name in ("decay", f"{OF_MATRIX}decay") else table[name]


def _rules_table(rule: Rule, hyper: Mapping[str, float], schedule: Schedule, total: int) -> dict[str, Tensor]:
    """Returns the rule's coefficients by name, each as float64 ``(total,)`` or a scalar."""
    factors = _factors(schedule, total)
    if rule.scalar_state:  # such a rule is walked step by step
        return _walked(rule, hyper, factors.tolist())
    times = torch.arange(1, total + 1, dtype=torch.float64)
    c, _ = scalars_of_step(rule, _scheduled(hyper, factors), times, {})
    return {name: torch.as_tensor(value, dtype=torch.float64) for name, value in c.items()}


def _walked(rule: Rule, hyper: Mapping[str, float], factors: Sequence[float]) -> dict[str, Tensor]:
    rows, scalars = [], dict(rule.scalar_state)
    for t, factor in enumerate(factors, start=1):
        c, scalars = scalars_of_step(rule, _scheduled(hyper, factor), t, scalars)
        rows.append(c)
    return {name: torch.tensor([row[name] for row in rows], dtype=torch.float64) for name in rows[0]}


def _scheduled(hyper: Mapping[str, float], factor: Any) -> dict[str, Any]:
    """Returns hyperparameters whose learning rates are multiplied, a partner's too."""
    return {name: value * factor if name in RATES else value for name, value in hyper.items()}


@lru_cache(maxsize=64)
def _factors(schedule: Schedule, total: int) -> Tensor:
    return torch.tensor([schedule(t, total) for t in range(total)], dtype=torch.float64)


def coefficient_names(job: Job, settings: tuple[Setting, ...] = PLAIN) -> list[str]:
    """Returns the names of the table's columns: the rule's, and the average's weight where there is one."""
    rule = job.strategy.rule
    assert rule is not None
    own = [column_of(name, number) for name, number in _columns(rule, job.strategy.stepping(job.hyper), settings)]
    return own if job.strategy.averaging == "none" else [*own, AVERAGE]


def _columns(rule: Rule, hyper: Mapping[str, float], settings: Sequence[Setting]) -> list[tuple[str, int]]:
    """Returns the columns as names of coefficients and numbers of settings: those that differ once for each."""
    count = PROBED if len(settings) > 1 else 1
    probes = [_walked(rule, setting.of(hyper), [1.0] * count) for setting in settings]
    names, found = list(dict.fromkeys(chain(*probes))), []
    for name in names:
        first, *others = [_filled(probe, name, rule).expand(count) for probe in probes]
        differs = any(not torch.equal(first, other) for other in others)
        found += [(name, number) for number in (range(len(settings)) if differs else (0,))]
    return found
