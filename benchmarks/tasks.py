"""Every built-in task: is the engine that ``auto`` chooses ever slower than the plain loop?"""

import time
from statistics import median
from typing import Any

import torch

from benchmarks.measure import alternately, cores, ratio, table
from benchmarks.plain_loop import best_setting, train
from benchmarks.throughput import jobs_of
from thalweg.compare.design import Budget
from thalweg.compare.execution.context import TaskContext
from thalweg.compare.execution.selection import EngineSelector
from thalweg.compare.strategy import Strategy
from thalweg.compare.task import materialize
from thalweg.compare.task.builtin import TASKS
from thalweg.compare.task.loading import load_task
from thalweg.compare.user_errors import TaskError

NAMES = ["momentum", "adam"]


def measure(rounds: int = 5, seconds: float = 3.0) -> dict[str, Any]:
    """Returns, for every task, the engine chosen and its speed over the plain loop's, calibration apart."""
    return {name: _measure(name, rounds, seconds) for name in TASKS if _available(name)}


def _available(name: str) -> bool:
    try:
        load_task(name)
    except TaskError:
        return False
    return True


def _measure(name: str, rounds: int, seconds: float) -> dict[str, Any]:
    task = load_task(name)
    data = materialize(task)
    interval = -(-task.steps // 30)  # as thalweg spaces the points of its curves
    torch.set_num_threads(cores())
    # The choice is the one that a user gets in a default study; its slots, as there, are full.
    strategies = [Strategy.parse(name) for name in NAMES]
    context, rungs = TaskContext(task, data, torch.device("cpu")), Budget(16, task.steps, 10).rungs(8)
    selector = EngineSelector(context, "auto", None, rungs)
    began = time.perf_counter()
    selector.choose(strategies, jobs_of(NAMES, task.steps, 1, interval)[0])
    calibration = time.perf_counter() - began
    engine = selector.engine_of(strategies[0])
    count = max(8, selector.choices[0].width)
    began = time.perf_counter()
    train(task, data, NAMES[0], 0, 20, 20)
    steps = max(20, min(300, int(20 * seconds / count / (time.perf_counter() - began))))
    setting = best_setting(task, data, min(steps, 60), NAMES)
    threads = torch.get_num_threads()
    jobs = jobs_of(NAMES, steps, count, interval)[::2]
    total = len(jobs) * steps

    def ours() -> float:
        torch.set_num_threads(cores())
        began = time.perf_counter()
        engine.run(jobs, lambda _: None)
        return total / (time.perf_counter() - began)

    def plain() -> float:
        torch.set_num_threads(threads)
        began = time.perf_counter()
        for job in jobs:
            train(task, data, job.strategy.name, job.seed, steps, interval, **setting["forms"][job.strategy.name])
        return total / (time.perf_counter() - began)

    ours()  # compiles what is left
    found = alternately({"thalweg": ours, "plain loop": plain}, rounds)
    torch.set_num_threads(cores())
    return {
        "engine": selector.choices[0].name,
        "reason": selector.choices[0].reason,
        "calibration_seconds": calibration,
        "trial_steps_per_second": {key: median(values) for key, values in found.items()},
        "times_the_plain_loop": ratio(found["thalweg"], found["plain loop"]),
    }


def show(found: dict[str, Any]) -> str:
    """Returns the table."""
    rows = [
        [
            name,
            one["engine"],
            one["times_the_plain_loop"],
            one["trial_steps_per_second"]["thalweg"],
            one["trial_steps_per_second"]["plain loop"],
            one["calibration_seconds"],
        ]
        for name, one in found.items()
    ]
    head = ["task", "engine", "times the plain loop", "trial-steps/s", "plain loop's trial-steps/s", "calibration (s)"]
    return table(head, rows)
