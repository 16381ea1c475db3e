"""A Ray of this process's own, on loopback, started once; and its workers' processes."""

import atexit
import os
from functools import cache

import pytest

from thalweg.compare.engines.ray_fleet import LOCAL


@cache
def start():
    """Starts Ray, which studies then use and leave running, with room for the workers of several."""
    os.environ.update(LOCAL)
    ray = pytest.importorskip("ray")
    ray.init("local", num_cpus=8, include_dashboard=False, log_to_driver=False, logging_level=50)
    atexit.register(ray.shutdown)
    for name in LOCAL:
        del os.environ[name]


def busy(fleet):
    """Returns the workers of the fleet that are training, by process."""
    return [hand for hand in fleet._pool._hands if hand.call and hand.call.method == "run"]


def processes(fleet):
    """Returns the process of each worker that is idle."""
    import ray

    return {hand: ray.get(hand.actor.__ray_call__.remote(lambda _: os.getpid())) for hand in fleet._pool._hands}
