"""The overhead of the training loop over a hand-written one (goal: less than 3 % on mnist), per step.

The network is 784-128-128-10 with batches of 128, 429 steps (an epoch of MNIST), one thread, and 20 rows of history
without validation; the hand-written loop takes its batches from the same tensors. Medians of runs in turns, and of the
ratio within a turn.
"""

import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.measure import alternately, ratio, table
from thalweg import optim
from thalweg.stages import Batches, Stage, supervised
from thalweg.training import train

EXAMPLES, BATCH = 55_000, 128
LOSS = nn.functional.cross_entropy
OPTIMIZERS: dict[str, Callable[..., Any]] = {
    "torch.optim.SGD": partial(torch.optim.SGD, lr=0.01),
    "torch.optim.Adam": partial(torch.optim.Adam, lr=1e-3),
    "thalweg.optim.Adam": partial(optim.Adam, lr=1e-3),
}


def measure(rounds: int = 25) -> dict[str, Any]:
    """Returns medians in microseconds a step and the loop's ratio to the one by hand, for each optimizer."""
    draws = torch.Generator().manual_seed(0)
    x, y = torch.rand(EXAMPLES, 784, generator=draws), torch.randint(10, (EXAMPLES,), generator=draws)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return {name: _measure(make, x, y, rounds) for name, make in OPTIMIZERS.items()}
    finally:
        torch.set_num_threads(threads)


def _measure(make: Callable[..., Any], x: Tensor, y: Tensor, rounds: int) -> dict[str, float]:
    runs = {"by hand": lambda: _by_hand(make, x, y), "thalweg": lambda: _loop(make, x, y)}
    alternately(runs, 1)
    times = alternately(runs, rounds)
    steps = -(-EXAMPLES // BATCH)
    micro = {name: 1e6 * median(values) / steps for name, values in times.items()}
    return {**micro, "ratio": ratio(times["thalweg"], times["by hand"])}


def _network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10))


def _by_hand(make: Callable[..., Any], x: Tensor, y: Tensor) -> float:
    model = _network()
    optimizer = make(model.parameters())
    began = time.perf_counter()
    for rows in torch.randperm(EXAMPLES).split(BATCH):
        optimizer.zero_grad()
        loss = LOSS(model(x[rows]), y[rows])
        loss.backward()
        optimizer.step()
    return time.perf_counter() - began


def _loop(make: Callable[..., Any], x: Tensor, y: Tensor) -> float:
    model = _network()
    stage = Stage(objective=supervised(LOSS), data=Batches(x, y, batch_size=BATCH), optimizer=make, epochs=1)
    began = time.perf_counter()
    train(model, [stage])
    return time.perf_counter() - began


def show(found: dict[str, Any]) -> str:
    """Returns the table."""
    rows = [[name, f["by hand"], f["thalweg"], f"{100 * (f['ratio'] - 1):+.1f} %"] for name, f in found.items()]
    return table(["optimizer", "by hand, µs per step", "thalweg, µs per step", "overhead"], rows)
