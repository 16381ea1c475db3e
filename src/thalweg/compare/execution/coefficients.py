"""The coefficients of an update rule over a run, as the kernels of all engines take them."""

from functools import lru_cache

import torch
from torch import Tensor

from thalweg.compare.execution.job import Job
from thalweg.compare.execution.kernels import AVERAGE
from thalweg.compare.strategy.variants import averaging_of
from thalweg.rules.rule import Rule, scalars_of_step
from thalweg.rules.schedules import Schedule


def coefficient_table(job: Job, start: int, stop: int) -> Tensor:
    """Returns the coefficients of the rule from ``start`` to ``stop`` in the run as float64 ``(stop - start, c)``.

    Columns follow :func:`coefficient_names`. Any stretch of a run sees the same numbers.
    """
    s = job.strategy
    assert s.rule is not None
    spent = job.prepared
    hyper = tuple(s.stepping(job.hyper).items())
    schedule = s.schedule_with(job.hyper)
    return _whole_table(s.rule, hyper, schedule, s.averaging, job.total - spent)[start - spent : stop - spent]


@lru_cache(maxsize=512)
def _whole_table(
    rule: Rule, hyper: tuple[tuple[str, float], ...], schedule: Schedule, averaging: str, total: int
) -> Tensor:
    times = torch.arange(1, total + 1, dtype=torch.float64)
    average = averaging_of(averaging, total)
    weights = [] if average is None else [average.weight(times)[:, None]]
    return torch.cat([_rules_table(rule, hyper, schedule, times), *weights], dim=1)


def _rules_table(rule: Rule, hyper: tuple[tuple[str, float], ...], schedule: Schedule, times: Tensor) -> Tensor:
    total = len(times)
    settings, factors = dict(hyper), _factors(schedule, total)
    if rule.scalar_state:  # such a rule is walked step by step
        rows, scalars = [], dict(rule.scalar_state)
        for t, factor in enumerate(factors.tolist(), start=1):
            c, scalars = scalars_of_step(rule, {**settings, "lr": settings["lr"] * factor}, t, scalars)
            rows.append(list(c.values()))
        return torch.tensor(rows, dtype=torch.float64)
    c, _ = scalars_of_step(rule, {**settings, "lr": settings["lr"] * factors}, times, {})
    return torch.stack([torch.as_tensor(v, dtype=torch.float64).expand_as(times) for v in c.values()], dim=1)


@lru_cache(maxsize=64)
def _factors(schedule: Schedule, total: int) -> Tensor:
    return torch.tensor([schedule(t, total) for t in range(total)], dtype=torch.float64)


def coefficient_names(job: Job) -> list[str]:
    """Returns the names of the table's columns: the rule's, and the average's weight where there is one."""
    rule = job.strategy.rule
    assert rule is not None
    own = list(scalars_of_step(rule, job.hyper, 1, dict(rule.scalar_state))[0])
    return own if job.strategy.averaging == "none" else [*own, AVERAGE]
