"""A Ray of this process's own, on loopback, started once; workers on it, and their processes."""

import atexit
import os
import tempfile
from functools import cache
from pathlib import Path

import pytest
import torch

from tests.compare.small import small_task
from tests.waiting import hang, until
from thalweg.compare.design import Budget
from thalweg.compare.execution.ray.engines import LOCAL, Cluster, RayEngines
from thalweg.compare.strategy import Strategy

BUDGET = Budget(2, 30, 2)
TOLD = Path(tempfile.mkdtemp()) / "told"  # there once the driver was told how far a trial is


def _deadly(params, lr):
    os._exit(1)


def _refuses(params, lr):
    raise RuntimeError("not these")


def _hangs(params, lr):
    hang()


class _Waiting(torch.optim.SGD):
    """Waits at its tenth step until the driver was told of those before."""

    count = 0

    def step(self, closure=None):
        self.count += 1
        if self.count == 10:
            until(TOLD.exists)
        return super().step(closure)


FACTORY = Strategy("factory", factory=torch.optim.AdamW, defaults={"lr": 0.01})
DEADLY = Strategy("deadly", factory=_deadly, defaults={"lr": 0.01})
HANGS = Strategy("hangs", factory=_hangs, defaults={"lr": 0.01})
REFUSES = Strategy("refuses", factory=_refuses, defaults={"lr": 0.01})
WAITING = Strategy("waiting", factory=_Waiting, defaults={"lr": 0.01})
KINDS = (
    "sgd",
    "nadam",
    "adadelta",
    "lion",
    "schedule-free-adamw",
    "lamb",
    "prodigy",
    "muon",
    "soap",
)  # by their state and sums
NAMED = [Strategy.parse(name) for name in (*KINDS, "momentum", "adam", "adam@cosine", "adam+he+ema@cosine", "lbfgs")]


@cache
def start():
    """Starts Ray, which studies then use and leave running, with room for the workers of several."""
    ray = pytest.importorskip("ray")
    os.environ.update(LOCAL)
    ray.init("local", num_cpus=8, include_dashboard=False, log_to_driver=False, logging_level=50)
    atexit.register(ray.shutdown)
    for name in LOCAL:
        del os.environ[name]


@cache
def engines():
    """Returns two workers that train the small task in float64, one trial at a time."""
    start()
    lines = []
    found = RayEngines(
        small_task(torch.float64),
        [*NAMED, FACTORY, DEADLY, HANGS, REFUSES, WAITING],
        BUDGET,
        Cluster(workers=2),
        say=lines.append,
    )
    found.lines = lines
    found.reuse([{"group": "update rules", "name": "serial", "reason": "", "trial_steps_per_second": 1.0}])
    return found


def busy(engines):
    """Returns the workers of the engines that are training."""
    return [hand for hand in engines._pool._hands if hand.call and hand.call.method == "run"]


def processes(engines, does=lambda worker: None):
    """Has each worker do something, and returns its process."""
    import ray

    def call(worker):
        does(worker)
        return os.getpid()

    return {hand: ray.get(hand.actor.__ray_call__.remote(call)) for hand in engines._pool._hands}
