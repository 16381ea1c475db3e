"""Banks of real runs: every strategy at many learning rates under many seeds, from which whole studies are drawn.

``python -m benchmarks.bank [NAME ...]`` trains them, which takes an hour, and keeps them in ``build/banks``.

A root seed draws learning rates, seeds and halves as :mod:`thalweg.compare.study` does. Half of a bank's seeds are for
tuning and half for final runs, each drawn with replacement, so that no run is both.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from thalweg.compare.design import PROTOCOL, Budget, half, sobol
from thalweg.compare.execution.context import TaskContext
from thalweg.compare.execution.job import Job
from thalweg.compare.execution.lanes import Lanes
from thalweg.compare.execution.serial import Serial
from thalweg.compare.strategy import DEFAULT_STRATEGIES, Strategy
from thalweg.compare.study.judged import Judged, judge
from thalweg.compare.study.untrained import Untrained
from thalweg.compare.task import materialize
from thalweg.compare.task.loading import load_task
from thalweg.tensors import derive_seed

SEEDS = 40
DECADE = 8  # learning rates a decade
POINTS, TUNING, FINAL = 32, 30, 10  # drawn for a root: points of the stream, seeds of tuning, final seeds
POOL = SEEDS // 2  # seeds of a bank from which either is drawn
MARGIN = 1  # decade beyond either end of a range, into which the protocol may widen it
FOLDER = Path(__file__).parent.parent / "build" / "banks"
TASKS = {  # steps of a run, lanes
    "digits": (500, 60),
    "digits-150": (150, 60),
    "quadratic": (500, 60),
    "breast-cancer": (300, 60),
    "diabetes": (300, 60),
    "digits-deep": (300, 60),
    "digits-deep-residual": (150, 60),
}

Numbers = NDArray[np.float64]
Whole = NDArray[np.intp]
Mask = NDArray[np.bool_]


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
    arrays: dict[str, Any] = {"untrained": untrained, "sign": np.array(context.sign)}
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


@dataclass(frozen=True)
class Landscape:
    """The bank of one strategy; what failed is infinite in ``rung`` and ``end``, of which lower is better.

    Attributes:
        runs: as they were trained.
        rung: (metric, loss) on validation at a third of the steps, over learning rates × seeds.
        end: the same at the end.
        failed: whether a run failed.
    """

    runs: Runs
    rung: tuple[Numbers, Numbers]
    end: tuple[Numbers, Numbers]
    failed: Mask

    @property
    def range(self) -> tuple[float, float]:
        """Of the learning rate, in decades."""
        low, high = np.log10(self.runs.space)
        return float(low), float(high)

    def nearest(self, lr: Numbers) -> Whole:
        """Returns the positions in the bank that are nearest to learning rates in decades."""
        grid = np.log10(self.runs.lrs)
        found: Whole = np.clip(np.rint((lr - grid[0]) / (grid[1] - grid[0])), 0, len(grid) - 1).astype(np.intp)
        return found

    @property
    def fails(self) -> Numbers:
        """The share of runs that fail, of each learning rate."""
        shares: Numbers = self.failed.mean(axis=1)
        return shares


@dataclass(frozen=True)
class Bank:
    """The bank of a task; ``constant`` is the test metric of the best constant model."""

    name: str
    strategies: Mapping[str, Landscape]
    sign: float
    untrained: Numbers
    constant: float

    @classmethod
    def of(cls, name: str) -> "Bank":
        """Reads the bank of a task."""
        runs, task = read(name), load_task(name.removesuffix("-150"))
        constant = Serial(TaskContext(task, materialize(task), torch.device("cpu"))).constant_test()
        some = next(iter(runs.values()))
        scores = {
            f"{n}/{i}": [x if np.isfinite(x) else None for x in own]
            for n, r in runs.items()
            for i, own in enumerate(r.test.tolist())
        }
        found = judged(scores, "max" if some.sign < 0 else "min", some.untrained.tolist(), constant).runs
        strategies = {}
        for n, r in runs.items():
            at = int(np.abs(r.points - r.points[-1] / 3).argmin())
            failed = np.array([found[f"{n}/{i}"].failed for i in range(len(r.lrs))])
            strategies[n] = Landscape(r, _scores(r, at), _scores(r, -1, np.isfinite(r.test)), failed)
        return cls(name, strategies, some.sign, some.untrained, constant)


def judged(
    scores: Mapping[str, Sequence[float | None]],
    direction: str,
    untrained: Sequence[float],
    constant: float,
    plan: Budget | None = None,
    **more: Any,
) -> Judged:
    """Returns runs of a task as the library judges them, at a look of a plan that adds batches where there is one."""
    planned = {"protocol": PROTOCOL, "budget": {}} if plan is None else {"protocol": plan.protocol}
    design = {"task": {"direction": direction, "metric": ""}, "within": None, **planned}
    design |= {} if plan is None else {"budget": plan.stated()}
    base = Untrained({"": untrained}, constant if np.isfinite(constant) else None)
    return judge(design, scores, base, dict.fromkeys(scores, ""), **more)


def _scores(runs: Runs, at: int, sound: Mask | bool = True) -> tuple[Numbers, Numbers]:
    ok = np.isfinite(runs.valid[:, :, at]) & sound
    return np.where(ok, runs.sign * runs.valid[:, :, at], np.inf), np.where(ok, runs.loss[:, :, at], np.inf)


@dataclass(frozen=True)
class Draws:
    """What roots draw: arrays over roots × what is drawn. ``roots`` are those that split the configurations."""

    roots: range
    points: Numbers
    tuning: Whole
    final: Whole

    @classmethod
    def of(cls, roots: range) -> "Draws":
        """Returns what the roots draw, the learning rate's coordinate of each point."""
        drawn = [[derive_seed(r, name, i) % 2**31 % POOL for i in range(n)] for r in roots for name, n in _STREAMS]
        points = np.stack([sobol(POINTS, r)[:, 0] for r in roots])
        return cls(roots, points, np.array(drawn[::2]), POOL + np.array(drawn[1::2]))


_STREAMS = (("tuning", TUNING), ("final", FINAL))


@cache
def halves(roots: range, count: int) -> Mask:
    """Returns which of so many configurations each final run's choice is made from: roots × runs × configurations."""
    found = np.zeros((len(roots), FINAL, count), dtype=bool)
    for i, root in enumerate(roots):
        for run in range(FINAL):
            found[i, run, half(count, run, root)] = True
    return found


if __name__ == "__main__":
    for asked in sys.argv[1:] or TASKS:
        train(asked)
