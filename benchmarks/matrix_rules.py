"""A step of the rules for matrices in lanes, compared with Adam's, on the default task (goals: Muon at most 1.5 times
Adam's, SOAP at most 4 times).

Runs of 64 trials of digits in 64 lanes, evaluated once at their end, are repeated in turns on one thread. A trial-step
is its gradient and its update; what is given is processor time.
"""

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch

from benchmarks.measure import alternately, ratio, table
from thalweg.compare.execution.context import TaskContext
from thalweg.compare.execution.job import Job
from thalweg.compare.execution.lanes import Lanes
from thalweg.compare.strategy import Strategy
from thalweg.compare.task import materialize
from thalweg.compare.task.builtin.digits import digits

WIDTH = 64
STEPS = 100
RULES = ("adam", "muon", "soap", "shampoo")


def measure(rounds: int = 5) -> dict[str, Any]:
    """Returns medians in microseconds of a trial-step, and ratios to Adam's."""
    task = digits()
    context = TaskContext(task, materialize(task), torch.device("cpu"))
    lanes = Lanes(context, WIDTH)
    lanes.threads = 1
    runs = {name: _run(lanes, name) for name in RULES}
    for run in runs.values():
        run()  # which compiles
    found = alternately(runs, rounds)
    return {
        name: {"microseconds": 1e6 * median(values), "times_adam": ratio(values, found["adam"])}
        for name, values in found.items()
    }


def _run(lanes: Lanes, name: str) -> Callable[[], float]:
    """Returns what gives the seconds of processor time of a trial-step."""
    strategy = Strategy.parse(name)
    hyper = strategy.stepping(strategy.default_configuration())
    jobs = [Job(f"{name} {i}", strategy, hyper, i, 0, STEPS, STEPS, STEPS) for i in range(WIDTH)]

    def run() -> float:
        began = time.process_time()
        lanes.run(jobs, lambda steps: None)
        return (time.process_time() - began) / (WIDTH * STEPS)

    return run


def show(found: dict[str, Any]) -> str:
    """Returns the table."""
    rows = [[name, one["microseconds"], one["times_adam"]] for name, one in found.items()]
    return table(["strategy", "trial-step (µs of processor time)", "times Adam's"], rows)
