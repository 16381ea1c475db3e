"""Trials on Ray's workers: their cost beyond training, and two workers against the best engine of one process.

The task is `digits-conv`, whose convolutions do not gain from lanes on a CPU. Ray runs on this machine with one CPU per
worker and is started beforehand; the engine of one process is the one that `auto` chooses for a default study, with its
threads. The driver's own time per trial limits how many trials per second it can distribute and collect, whatever the
number of workers.
"""

import time
from statistics import median
from typing import Any

import torch

from benchmarks.measure import alternately, cores, ratio, table
from benchmarks.throughput import jobs_of
from thalweg.compare.design import Budget
from thalweg.compare.execution.context import TaskContext
from thalweg.compare.execution.job import Engine, Job
from thalweg.compare.execution.ray.engines import Cluster, RayEngines
from thalweg.compare.execution.selection import EngineSelector
from thalweg.compare.execution.serial import Serial
from thalweg.compare.strategy import Strategy
from thalweg.compare.task import materialize
from thalweg.compare.task.loading import load_task

NAMES = ["momentum", "adam"]
WORKERS, SEEDS, STEPS = 2, 12, 300  # of each whole trial
SHORT, SHORT_STEPS = 100, 5
CLUSTER = 1000  # workers of the cluster that is reckoned for


def measure(rounds: int = 5) -> dict[str, Any]:
    """Returns seconds, medians and ratios."""
    task = load_task("digits-conv")
    strategies, budget = [Strategy.parse(name) for name in NAMES], Budget(16, task.steps, 10)
    torch.set_num_threads(cores())
    selector = EngineSelector(TaskContext(task, materialize(task), torch.device("cpu")), "auto", None, budget.rungs(8))
    whole = jobs_of(NAMES, STEPS, SEEDS, 10)
    selector.choose(strategies, whole[0])
    local = selector.engine_of(strategies[0])
    pair = [RayEngines(task, strategies, budget, Cluster(workers=n), wanted="serial") for n in (WORKERS, 1)]
    try:
        two, one = pair
        two.choose(0)
        trials = alternately({"Ray": lambda: _rate(two, whole), "one process": lambda: _rate(local, whole)}, rounds)
        two.close()
        one.choose(0)
        # Learning curves as long as those of whole trials, so that as much is sent.
        short = jobs_of(NAMES[1:], SHORT_STEPS, SHORT, 1)
        alone = Serial(selector.context, 1)
        _rate(one, short)
        costs = alternately({"Ray": lambda: _cost(one, short), "serial": lambda: _cost(alone, short)}, rounds)
        driver = [_driver(one, short) for _ in range(rounds)]
    finally:
        for engines in pair:
            engines.close()
    overhead = [(a - b) * 1e3 for a, b in zip(costs["Ray"], costs["serial"], strict=True)]
    return {
        "engine of one process": f"{selector.choices[0].name}, {selector.serial.threads} threads",
        "seconds of a trial": 1 / median(trials["one process"]),
        "trials a second": {name: median(values) for name, values in trials.items()},
        "times one process": ratio(trials["Ray"], trials["one process"]),
        "overhead of a trial, ms": median(overhead),
        "driver's own time a trial, ms": median(driver) * 1e3,
    }


def _rate(engine: Engine, jobs: list[Job]) -> float:
    return 1 / _cost(engine, jobs)


def _cost(engine: Engine, jobs: list[Job]) -> float:
    """Returns the seconds that a job takes."""
    began = time.perf_counter()
    engine.run(jobs, lambda _: None)
    return (time.perf_counter() - began) / len(jobs)


def _driver(engine: Engine, jobs: list[Job]) -> float:
    """Returns the seconds of this process, all threads taken together, that a job takes."""
    began = time.process_time()
    engine.run(jobs, lambda _: None)
    return (time.process_time() - began) / len(jobs)


def show(found: dict[str, Any]) -> str:
    """Returns the table, and what it says of a large cluster."""
    rates, handled = found["trials a second"], 1e3 / found["driver's own time a trial, ms"]
    text = table(
        [
            f"{WORKERS} Ray workers, trials per second",
            f"one process ({found['engine of one process']})",
            "Ray / one process",
            "overhead per trial, ms",
            "driver's own time per trial, ms",
        ],
        [
            [
                rates["Ray"],
                rates["one process"],
                found["times one process"],
                found["overhead of a trial, ms"],
                found["driver's own time a trial, ms"],
            ]
        ],
    )
    return (
        f"{text}\n\nThe driver can therefore distribute and collect at most {handled:,.0f} trials per second, which "
        f"keeps {CLUSTER:,} workers busy if a trial takes {CLUSTER / handled:.1f} s or more."
    )
