"""A study that is given a time: how long its runs can be, judging by what steps and evaluations are measured to take.

A run of each strategy takes the same time alone, so that one whose gradient evaluations cost twice as much has half as
many. The time of the study is that of all its runs, in the engines that train them, with all final runs that it may
need, on a machine that does nothing else; it is an estimate, which nothing enforces.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean

from thalweg.compare.arguments import STEPS, in_words
from thalweg.compare.design import Budget
from thalweg.compare.execution.context import TaskContext
from thalweg.compare.execution.job import Job, training
from thalweg.compare.execution.local_engines import LocalEngines
from thalweg.compare.execution.timing import in_turns
from thalweg.compare.storage.create import FILE
from thalweg.compare.storage.facts import DESIGN, ENGINE
from thalweg.compare.storage.store import Store
from thalweg.compare.strategy import Strategy
from thalweg.compare.strategy.variants import Variant
from thalweg.compare.study.config import StudyConfig
from thalweg.compare.study.lengths import Lengths
from thalweg.compare.study.looks import clock
from thalweg.compare.study.unfinished import pace
from thalweg.compare.user_errors import StudyError
from thalweg.tensors import derive_seed

SHARE = 0.9  # of the time, for the trials; the rest is for the report
POINTS = 30  # of a learning curve, about
ALIKE = 1.1  # times as much as the cheapest of some costs, up to which timing does not tell them apart


@dataclass(frozen=True)
class Cost:
    """What a strategy takes.

    Attributes:
        alone: seconds of a gradient evaluation of a run that is trained alone, the reading of its data included.
        in_study: the same of one trial in the engine that trains the study.
        evaluation: seconds of an evaluation on validation data.
    """

    alone: float
    in_study: float
    evaluation: float

    def of_run(self, steps: int) -> float:
        """Returns the seconds of a run alone, which is evaluated at about thirty points."""
        return self.alone * steps + self.evaluation * min(steps, POINTS)

    def most(self, seconds: float) -> int:
        """Returns the most steps of a run that takes no longer; at least one."""
        return _largest(lambda steps: self.of_run(steps) <= seconds)


def lengths_within(seconds: float, plan: Budget, costs: Mapping[str, Cost]) -> Lengths:
    """Returns the lengths of runs with which all trials of a study take no more than so many seconds.

    Arguments:
        seconds: that they may take.
        plan: the study with runs of any length, of which the warm-up takes the same share in others.
        costs: of each strategy.

    Raises:
        ValueError: they take longer however short their runs are.

    >>> plan, quick, slow = Budget(trials=12, steps=1, seeds=10), Cost(0.001, 0.001, 0.0), Cost(0.004, 0.004, 0.0)
    >>> lengths_within(60.0, plan, {"sgd": quick, "adam": quick}).steps
    1525
    >>> lengths_within(60.0, plan, {"sgd": quick, "lbfgs": slow})
    Lengths(steps=1526, each={'sgd': 1526, 'lbfgs': 381}, seconds=1.526)
    """
    cheapest = min(costs.values(), key=lambda cost: cost.of_run(STEPS))

    def of(steps: int) -> Lengths:
        run = cheapest.of_run(steps)
        each = {name: steps if cost == cheapest else cost.most(run) for name, cost in costs.items()}
        return Lengths(steps, each, run) if len({*each.values()}) > 1 else Lengths(steps)

    def takes(lengths: Lengths) -> float:
        found = 0.0
        for name, cost in costs.items():
            steps = lengths.of(name)
            own = replace(plan, steps=steps, warmup=math.ceil(plan.warmup / plan.steps * steps))
            interval = own.evaluation_interval
            for runs, length in own.rungs(1):
                found += runs * (cost.in_study * length + cost.evaluation * math.ceil(length / interval))
        return found

    if takes(of(1)) > seconds:
        raise ValueError(
            f"the study takes longer than its budget however short its runs are (about {in_words(takes(of(1)))} for "
            "runs of one step): increase --budget, or lower --trials or --seeds"
        )
    return of(_largest(lambda steps: takes(of(steps)) <= seconds))


def _largest(fits: Callable[[int], bool]) -> int:
    """Returns the largest number of steps that fits, at least one."""
    low, high = 1, STEPS
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


def alike(seconds: Mapping[str, float]) -> dict[str, float]:
    """Returns the seconds with those that differ by less than a tenth as their mean.

    Two names of one strategy would otherwise get runs of different lengths, by the errors of timing.

    >>> alike({"sgd": 1.0, "adam": 1.05, "lbfgs": 4.0})
    {'sgd': 1.025, 'adam': 1.025, 'lbfgs': 4.0}
    """
    groups: list[list[str]] = []
    for name in sorted(seconds, key=lambda name: seconds[name]):
        if not groups or seconds[name] > ALIKE * seconds[groups[-1][0]]:
            groups.append([])
        groups[-1].append(name)
    means = {name: fmean(seconds[other] for other in group) for group in groups for name in group}
    return {name: means[name] for name in seconds}


def measured_lengths(
    config: StudyConfig, contexts: Mapping[Variant, TaskContext], plan: Budget, seconds: float
) -> Lengths:
    """Returns the lengths of runs for a study that is given so many seconds, measured on this machine.

    Raises:
        ValueError: there is too little time, or a strategy cannot train the model.
    """
    assert config.engine != "ray"
    began, strategies = clock(), config.strategies
    long_enough = dict.fromkeys(
        [s.name for s in strategies], STEPS
    )  # for any method: how long runs are is not known yet
    engines = LocalEngines(contexts, strategies, config.engine, config.memory, plan, first=long_enough)
    with training():
        engines.choose(config.seed)
        alone = alike(_alone(engines, strategies, plan.steps, config.seed))
        evaluation = {variant: _seconds_of_evaluation(context) for variant, context in contexts.items()}
    chosen = [choice.as_dict() for choice in engines.choices]
    able = [s for s in strategies if s.name in alone]
    costs = {s.name: Cost(alone[s.name], _pace_of(s, contexts, chosen), evaluation[s.variant]) for s in able}
    left = SHARE * (seconds - 2 * (clock() - began))  # engines are measured once more, for runs of that length
    lengths = lengths_within(left, plan, costs)
    return replace(lengths, each=lengths.each and {s.name: lengths.each.get(s.name, lengths.steps) for s in strategies})


def _alone(engines: LocalEngines, strategies: Sequence[Strategy], steps: int, seed: int) -> dict[str, float]:
    """Returns the seconds of a gradient evaluation of each strategy that can run, alone, measured in turns."""
    own, jobs = derive_seed(seed, "specimen") % 2**31, {}
    for s in strategies:
        plain = replace(s, guidance="none")
        jobs[s.name] = Job("specimen", plain, s.default_configuration(), own, 0, steps, steps, steps)
    measures = [partial(engines.serial_of(s).seconds_per_step, jobs[s.name]) for s in strategies]
    seconds = dict(zip(jobs, in_turns(measures), strict=True))
    return {name: cost for name, cost in seconds.items() if not math.isnan(cost)}


def _pace_of(
    strategy: Strategy, contexts: Mapping[Variant, TaskContext], choices: Sequence[dict[str, object]]
) -> float:
    """Returns the seconds of a gradient evaluation of a strategy's trials in the engine that was chosen for it."""
    own = [choice for choice in choices if choice["variant"] == str(strategy.variant)]
    alone = [choice for choice in own if choice["group"] == strategy.name]
    facts = {DESIGN: {"strategies": [{"name": strategy.name}]}, ENGINE: alone or own[:1]}
    return pace(facts) or 0.0


def stored_lengths(folder: Path, seconds: float, strategies: Sequence[Strategy]) -> Lengths | None:
    """Returns the lengths of runs that a study of so many seconds has begun with, None where there is none.

    Raises:
        StudyError: it has some of the strategies alone, so that the runs of the others have no length.
    """
    if not (folder / FILE).exists():
        return None
    store = Store.open(folder)
    try:
        design = store.fact(DESIGN)
    finally:
        store.close()
    budget, held, asked = design["budget"], {s["name"] for s in design["strategies"]}, {s.name for s in strategies}
    if budget.get("study_seconds") != seconds or not asked & held:
        return None
    if held < asked:
        raise StudyError(
            f"no strategy can be added to the study in {folder}, whose runs are as long as a time allows (--budget): "
            "begin one with all of them with another --out"
        )
    if not asked <= held:
        return None
    return Lengths(int(budget["steps"]), budget.get("lengths"), budget.get("run_seconds"))


def _seconds_of_evaluation(context: TaskContext) -> float:
    """Returns the seconds of an evaluation, measured at its second one."""
    model = context.fresh_model("default", 0)
    context.evaluate(model, context.data.valid)
    began = clock()
    context.evaluate(model, context.data.valid)
    return clock() - began
