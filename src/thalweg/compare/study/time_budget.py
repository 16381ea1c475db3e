"""A study that is given a time: how long its runs can be, judging by what steps and evaluations are measured to take.

All strategies keep the same number of gradient evaluations. The time is that of the whole study, with all final runs
that it may need, on a machine that does nothing else; it is an estimate, which nothing enforces.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from thalweg.compare.arguments import STEPS, in_words
from thalweg.compare.design import Budget
from thalweg.compare.execution.context import TaskContext
from thalweg.compare.execution.job import training
from thalweg.compare.execution.local_engines import LocalEngines
from thalweg.compare.storage.create import FILE
from thalweg.compare.storage.facts import DESIGN, ENGINE
from thalweg.compare.storage.store import Store
from thalweg.compare.strategy.variants import Variant
from thalweg.compare.study.config import StudyConfig
from thalweg.compare.study.looks import clock
from thalweg.compare.study.unfinished import pace

SHARE = 0.9  # of the time, for the trials; the rest is for the report


def steps_within(seconds: float, plan: Budget, strategies: int, step: float, evaluation: float) -> int:
    """Returns the length of a run with which all trials of a study take no more than so many seconds.

    Arguments:
        seconds: that they may take.
        plan: the study with runs of any length, of which the warm-up takes the same share in others.
        strategies: how many there are.
        step: seconds of a gradient evaluation, mean over the strategies.
        evaluation: seconds of an evaluation on validation data.

    Raises:
        ValueError: they take longer however short their runs are.

    >>> plan = Budget(trials=12, steps=1, seeds=10)
    >>> steps_within(60.0, plan, 2, step=0.001, evaluation=0.0)
    1525
    """

    def takes(steps: int) -> float:
        like_it = replace(plan, steps=steps, warmup=math.ceil(plan.warmup / plan.steps * steps))
        rungs, interval = like_it.rungs(strategies), like_it.evaluation_interval
        return sum(runs * (step * length + evaluation * math.ceil(length / interval)) for runs, length in rungs)

    low, high = 1, STEPS
    if takes(low) > seconds:
        raise ValueError(
            f"the study takes longer than its budget however short its runs are (about {in_words(takes(low))} for runs "
            "of one step): increase --budget, or lower --trials or --seeds"
        )
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if takes(middle) <= seconds else (low, middle - 1)
    return low


def measured_steps(config: StudyConfig, contexts: Mapping[Variant, TaskContext], plan: Budget, seconds: float) -> int:
    """Returns the length of a run for a study that is given so many seconds, measured on this machine.

    Raises:
        ValueError: there is too little time, or a strategy cannot train the model.
    """
    assert config.engine != "ray"
    began, names = clock(), [{"name": s.name} for s in config.strategies]
    engines = LocalEngines(contexts, config.strategies, config.engine, config.memory, plan)
    with training():
        engines.choose(config.seed)
        evaluation = _seconds_of_evaluation(list(contexts.values()))
    step = pace({DESIGN: {"strategies": names}, ENGINE: [choice.as_dict() for choice in engines.choices]})
    left = SHARE * (seconds - 2 * (clock() - began))  # engines are measured once more, for runs of that length
    return steps_within(left, plan, len(names), step or 0.0, evaluation)


def stored_steps(folder: Path, seconds: float) -> int | None:
    """Returns the length of a run that a study of so many seconds has begun with, None where there is none."""
    if not (folder / FILE).exists():
        return None
    store = Store.open(folder)
    try:
        budget = store.fact(DESIGN)["budget"]
    finally:
        store.close()
    return int(budget["steps"]) if budget.get("study_seconds") == seconds else None


def _seconds_of_evaluation(contexts: Sequence[TaskContext]) -> float:
    """Returns the seconds of an evaluation, the longest of the contexts', each measured at its second one."""
    found = []
    for context in contexts:
        model = context.fresh_model("default", 0)
        context.evaluate(model, context.data.valid)
        began = clock()
        context.evaluate(model, context.data.valid)
        found.append(clock() - began)
    return max(found)
