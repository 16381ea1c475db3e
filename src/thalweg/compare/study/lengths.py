"""How long the runs of a study are, what of it is spent before their first step, and its budget."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from thalweg.compare.arguments import check_whole
from thalweg.compare.design import LOOKS, SEQUENTIAL, Budget
from thalweg.compare.execution.context import TaskContext
from thalweg.compare.execution.guidance import guidance_of
from thalweg.compare.execution.optimizers import make_optimizers
from thalweg.compare.strategy import Strategy
from thalweg.compare.strategy.variants import Variant
from thalweg.compare.study.config import StudyConfig
from thalweg.compare.study.notes import before_first_step
from thalweg.compare.user_errors import user_errors


def planned(
    config: StudyConfig, contexts: Mapping[Variant, TaskContext], steps: int
) -> tuple[dict[str, dict[str, int]], Budget]:
    """Returns what runs of so many steps spend before their first one, by strategy, and the budget of the study.

    Raises:
        ValueError: that is too much, or the task lacks what a guidance takes.
    """
    strategies = config.strategies
    with user_errors("the task"):
        charged = {s.name: _charged(contexts[s.variant], s, steps) for s in strategies}
    warmup = max(_settled(s, sum(charged[s.name].values()), steps) for s in strategies)
    return charged, budget_of(config, steps, warmup)


def budget_of(config: StudyConfig, steps: int, warmup: int) -> Budget:
    """Returns the budget of a study whose runs have so many steps, of which the longest warm-up takes some."""
    budget = Budget(config.trials, steps, config.seeds, warmup, trial_seconds=config.trial_seconds)
    budget = replace(budget, study_seconds=config.study_seconds)
    return replace(budget, looks=LOOKS, protocol=SEQUENTIAL) if config.until else budget


def _charged(context: TaskContext, strategy: Strategy, steps: int) -> dict[str, int]:
    """Returns what a run spends before its first step, by what it is for.

    Raises:
        ValueError: it is more than half of the run, or the task lacks what it takes.
    """
    costs = guidance_of(strategy).charged(context, strategy, steps)
    spent = sum(costs.values())
    if spent > steps / 2:
        raise ValueError(
            f"strategy {strategy.name!r}: {before_first_step(costs, steps)}, which is more than half: increase --steps"
        )
    return costs


def length_of(config: StudyConfig, context: TaskContext) -> int:
    """Returns the gradient evaluations of a whole run.

    Raises:
        ValueError: epochs are given, and the training data has no end.
    """
    if config.epochs is None:
        return config.steps if config.steps is not None else context.task.steps
    if math.isinf(context.steps_per_epoch):
        raise ValueError("the training data is a stream, which has no epochs: give --steps in place of --epochs")
    steps = config.epochs * max(1, int(context.steps_per_epoch))
    check_whole("steps", steps)
    return steps


def check_ends(contexts: Mapping[Variant, TaskContext], strategies: Sequence[Strategy]) -> None:
    """Makes the optimizers of all ends of ranges that are searched of factories.

    Raises:
        ValueError: one refuses a value, or the model.
    """
    for strategy in strategies:
        if strategy.has_partner or (strategy.factory is not None and {*strategy.space} != {"lr"}):
            context = contexts[strategy.variant]
            for hyper in strategy.ends():
                roles = partial(getattr, context, "roles")
                make_optimizers(strategy, context.model, hyper, context.decay, context.task.grouping, roles)


def _settled(strategy: Strategy, prepared: int, steps: int) -> int:
    """Returns the gradient evaluations of a run before which its strategy cannot be evaluated."""
    return prepared + max(longest_warmup(strategy, steps - prepared), steps // 8 if prepared else 0)


def longest_warmup(strategy: Strategy, steps: int) -> int:
    """Returns the steps of the longest warm-up that a strategy's configurations can have in a run of so many.

    >>> longest_warmup(Strategy.parse("adam@cosine").with_space(warmup=(0, 0.25)), 100)
    25
    """
    configurations = [strategy.default_configuration(), *strategy.ends()]
    return max(strategy.schedule_with(hyper).warmup_steps(steps) for hyper in configurations)
