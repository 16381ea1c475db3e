"""Banks of real runs: every strategy at many learning rates under many seeds, from which whole studies are drawn.

``python -m benchmarks.bank [NAME ...]`` trains them, which takes an hour, and keeps them in ``build/banks``.
"""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from thalweg.compare.design import Budget
from thalweg.compare.execution.context import TaskContext
from thalweg.compare.execution.job import Job
from thalweg.compare.execution.lanes import Lanes
from thalweg.compare.execution.serial import Serial
from thalweg.compare.strategy import DEFAULT_STRATEGIES, Strategy
from thalweg.compare.task import materialize
from thalweg.compare.task.loading import load_task
from thalweg.tensors import derive_seed

SEEDS = 40
DECADE = 8  # learning rates a decade
MARGIN = 1  # decade beyond either end of a range, into which the protocol may widen it
FOLDER = Path(__file__).parent.parent / "build" / "banks"
TASKS = {  # steps of a run, lanes
    "digits": (500, 60),
    "digits-150": (150, 60),
    "quadratic": (500, 60),
    "breast-cancer": (300, 60),
    "diabetes": (300, 60),
    "digits-deep": (300, 60),
}

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Runs:
    """What became of the runs of one strategy: arrays over learning rates × seeds (× points of the curve).

    ``valid`` and ``loss`` are NaN from where a run diverged, ``test`` too. ``sign`` × a metric is lower for better.
    """

    lrs: Numbers
    points: Numbers
    valid: Numbers
    loss: Numbers
    test: Numbers
    untrained: Numbers
    sign: float
    space: tuple[float, float]
    default: float


def strategies() -> Iterator[Strategy]:
    """Yields the strategies of a bank."""
    return map(Strategy.parse, DEFAULT_STRATEGIES)


def grid(low: float, high: float) -> Numbers:
    """Returns the learning rates that are tried for a range."""
    start, stop = np.log10(low) - MARGIN, np.log10(high) + MARGIN
    return 10 ** np.linspace(start, stop, 1 + round((stop - start) * DECADE))


def train(name: str) -> None:
    """Trains the bank of a task, and writes it."""
    steps, width = TASKS[name]
    task = replace(load_task(name.removesuffix("-150")), steps=steps)
    context = TaskContext(task, materialize(task), torch.device("cpu"))
    engine = Lanes(context, width)
    engine.threads = 1
    every = Budget(16, steps, 10).evaluation_interval
    seeds = [derive_seed(0, "bank", i) % 2**31 for i in range(SEEDS)]
    serial = Serial(context)
    untrained = np.array([serial.untrained_test("default", seed) for seed in seeds])
    arrays: dict[str, Numbers] = {"untrained": untrained, "sign": np.array(context.sign)}
    for strategy in strategies():
        low, high = strategy.space["lr"]
        lrs = grid(low, high)
        jobs = [
            Job(f"{i}/{j}", strategy, {**strategy.defaults, "lr": float(lr)}, seed, 0, steps, steps, every, test=True)
            for j, seed in enumerate(seeds)
            for i, lr in enumerate(lrs)
        ]
        results = engine.run(jobs, lambda _: None)
        points = sorted({point for r in results for point in r.curve.step})
        shape = (len(lrs), SEEDS)
        found = {f: np.full((*shape, len(points)), np.nan) for f in ("valid", "loss")} | {
            "test": np.full(shape, np.nan)
        }
        for job, r in zip(jobs, results, strict=True):
            at = tuple(map(int, job.key.split("/")))
            found["valid"][at][: len(r.curve.step)] = r.curve.valid_metric
            found["loss"][at][: len(r.curve.step)] = r.curve.valid_loss
            found["test"][at] = np.nan if r.test is None else r.test
        found |= {"lrs": lrs, "points": np.array(points, float), "space": np.array([low, high])}
        found["default"] = np.array(strategy.default_configuration()["lr"])
        arrays |= {f"{strategy.name}/{field}": value for field, value in found.items()}
        print(name, strategy.name, flush=True)
    FOLDER.mkdir(parents=True, exist_ok=True)
    partial = FOLDER / f".{name}.npz"  # so that one that was interrupted is not taken for a whole one
    np.savez(partial, **arrays)
    partial.replace(FOLDER / f"{name}.npz")


def read(name: str) -> Mapping[str, Runs]:
    """Returns the bank of a task, by strategy; it is trained where it is not there."""
    path = FOLDER / f"{name}.npz"
    if not path.exists():
        train(name)
    with np.load(path, allow_pickle=False) as file:
        return {
            s.name: Runs(
                **{f: file[f"{s.name}/{f}"] for f in ("lrs", "points", "valid", "loss", "test")},
                untrained=file["untrained"],
                sign=float(file["sign"]),
                space=tuple(file[f"{s.name}/space"]),
                default=float(file[f"{s.name}/default"]),
            )
            for s in strategies()
        }


if __name__ == "__main__":
    for asked in sys.argv[1:] or TASKS:
        train(asked)
