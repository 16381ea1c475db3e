"""How long the runs of a study are, what of it is spent before their first step, and its budget."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from thalweg.compare.arguments import check_whole
from thalweg.compare.design import LOOKS, SEQUENTIAL, Budget
from thalweg.compare.execution.cannot_run import CannotRun
from thalweg.compare.execution.context import TaskContext
from thalweg.compare.execution.guidance import guidance_of
from thalweg.compare.execution.optimizers import make_optimizers
from thalweg.compare.strategy import Strategy
from thalweg.compare.strategy.variants import Variant
from thalweg.compare.study.config import StudyConfig
from thalweg.compare.study.notes import before_first_step
from thalweg.compare.task import Task
from thalweg.compare.task.loop import TrainingLoop
from thalweg.compare.user_errors import TaskError, user_errors


@dataclass(frozen=True)
class Lengths:
    """How long runs are.

    Attributes:
        steps: gradient evaluations of a run, of the longest one where they differ.
        each: the same of each strategy where they differ; else None.
        seconds: of a run alone, where the runs of all strategies take as long; else None.
    """

    steps: int
    each: Mapping[str, int] | None = None
    seconds: float | None = None

    @classmethod
    def of_budget(cls, budget: Budget, strategies: Sequence[str]) -> "Lengths":
        """Returns those of the runs of some strategies of a study."""
        each = budget.lengths and {name: budget.lengths[name] for name in strategies}
        return cls(budget.steps, each, budget.run_seconds)

    def of(self, strategy: str) -> int:
        """Returns the gradient evaluations of a run of a strategy."""
        return self.steps if self.each is None else self.each[strategy]


def planned(
    config: StudyConfig, contexts: Mapping[Variant, TaskContext], lengths: Lengths
) -> tuple[dict[str, dict[str, int]], Budget]:
    """Returns what runs of such lengths spend before their first step, by strategy, and the budget of the study.

    Raises:
        ValueError: that is too much, or the task lacks what a guidance takes.
    """
    with user_errors("the task"):
        charged = {s.name: _charged(contexts[s.variant], s, lengths.of(s.name)) for s in config.strategies}
    return charged, budget_of(config, lengths, {name: sum(costs.values()) for name, costs in charged.items()})


def budget_of(config: StudyConfig, lengths: Lengths, spent: Mapping[str, int]) -> Budget:
    """Returns the budget of a study whose runs have such lengths.

    Arguments:
        config: of the study.
        lengths: of its runs.
        spent: before the first step, by strategy.
    """
    settled = [(_settled(s, spent[s.name], own := lengths.of(s.name)), own) for s in config.strategies]
    warmup = max(steps if own == lengths.steps else math.ceil(steps * lengths.steps / own) for steps, own in settled)
    budget = Budget(config.trials, lengths.steps, config.seeds, warmup, trial_seconds=config.trial_seconds)
    budget = replace(budget, study_seconds=config.study_seconds, lengths=lengths.each, run_seconds=lengths.seconds)
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
        ValueError: one refuses a value, and takes its default configuration.
    """
    for strategy in strategies:
        if strategy.factory is not None and {*strategy.space} != {"lr"}:
            made = _refusal(contexts, strategy, strategy.default_configuration())
            refused = [_refusal(contexts, strategy, hyper) for hyper in strategy.ends()] if made is None else []
            for failure in filter(None, refused):
                raise failure.refusal(strategy.name) from failure


def _refusal(
    contexts: Mapping[Variant, TaskContext], strategy: Strategy, hyper: Mapping[str, float]
) -> CannotRun | None:
    context = contexts[strategy.variant]
    own = (context.decay, context.task.grouping, partial(getattr, context, "roles"))
    try:
        make_optimizers(strategy, context.model, hyper, *own, steps=context.task.steps)
    except CannotRun as failure:
        return failure
    return None


def check_target(task: Task | TrainingLoop) -> None:
    """Raises TaskError where the target of a task is no value that its metric can have."""
    low, high = task.metric_range
    if task.target is not None and not low <= task.target <= high:
        bounds = f"is at most {high:g}" if math.isinf(low) else f"lies between {low:g} and {high:g}"
        raise TaskError(f"target is {task.target:g}, and the {task.metric_name} {bounds}: give another --target")


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
