"""Would lanes help second-order methods, whose batches are large? A gradient in stacked lanes and one alone.

Masked line searches in lanes would evaluate all lanes as often as the lane that needs most evaluations, so they gain
only if a stacked gradient is cheaper by at least that factor. The first table gives milliseconds per trial on the
digits perceptron. The second gives the evaluations per iteration of each method there, on the full batch: the mean over
24 seeds, and the mean of the largest of the 24.
"""

from collections.abc import Callable
from dataclasses import replace
from statistics import median
from typing import Any

import torch

from benchmarks.measure import alternately, ratio, seconds, table
from thalweg import optim
from thalweg.compare.execution.context import TaskContext
from thalweg.compare.execution.lanes import Lanes
from thalweg.compare.task import build_model, materialize
from thalweg.compare.task.loading import load_task

WIDTH, ROUNDS, REPEAT, ITERATIONS = 24, 41, 5, 50
NAMES = ("lanes", "alone", "alone, one thread")


def measure() -> dict[str, Any]:
    """Returns seconds of a gradient by batch size, and evaluations an iteration."""
    found = []
    for batch in (64, 256, 1000):
        task = replace(load_task("digits"), batch_size=batch)
        context = TaskContext(task, materialize(task), torch.device("cpu"))
        lanes, model = Lanes(context, WIDTH), context.fresh_model("default", 0)
        flat = context.start("default", 0).repeat(WIDTH, 1)
        rows = context.batches(0, 0, 1)
        stacked = rows.expand(WIDTH, -1).contiguous()
        x, y = context.data.train.input[rows[0]], context.data.train.target[rows[0]]

        def together(lanes: Lanes = lanes, flat: torch.Tensor = flat, stacked: torch.Tensor = stacked) -> None:
            with torch.no_grad():
                for _ in range(REPEAT):
                    lanes.gradient(flat, stacked)

        def alone(model: Any = model, x: torch.Tensor = x, y: torch.Tensor = y, task: Any = task) -> None:
            for _ in range(REPEAT):
                model.zero_grad()
                task.loss(model(x), y).backward()

        together()
        alone()
        runs = {
            "lanes": lambda f=together: seconds(f) / (REPEAT * WIDTH),
            "alone": lambda f=alone: seconds(f) / REPEAT,
            "alone, one thread": lambda f=alone: _one_thread(f) / REPEAT,
        }
        found.append({"batch": batch, **alternately(runs, ROUNDS)})
    return {"gradients": found, "evaluations": [_evaluations(make) for make in (optim.LBFGS, optim.ConjugateGradient)]}


def _one_thread(function: Callable[[], None]) -> float:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return seconds(function)
    finally:
        torch.set_num_threads(before)


def _evaluations(make: type[optim.LBFGS | optim.ConjugateGradient]) -> dict[str, Any]:
    task = load_task("digits")
    data = materialize(task)
    counts = torch.zeros(WIDTH, ITERATIONS)
    for seed in range(WIDTH):
        torch.manual_seed(seed)
        model, calls, ends = build_model(task), [0], []

        def closure(model: Any = model, calls: list[int] = calls) -> torch.Tensor:
            calls[0] += 1
            return task.loss(model(data.train.input), data.train.target)

        optimizer = make(model.parameters(), max_iter=ITERATIONS, max_eval=20 * ITERATIONS, tolerance_change=0)
        optimizer.step(closure, callback=lambda loss, calls=calls, ends=ends: ends.append(calls[0]))
        each = torch.tensor([2, *ends]).diff()  # two at the start
        counts[seed, : len(each)] = each
    return {"method": make.__name__, "mean": float(counts.mean()), "largest": float(counts.amax(dim=0).mean())}


def show(found: dict[str, Any]) -> str:
    """Returns the tables."""
    gradients = table(
        ["batch", f"in {WIDTH} lanes, ms", "alone, ms", "alone with one thread, ms", "the faster / lanes"],
        [
            [
                r["batch"],
                *(median(r[name]) * 1e3 for name in NAMES),
                min(ratio(r[name], r["lanes"]) for name in NAMES[1:]),
            ]
            for r in found["gradients"]
        ],
    )
    evaluations = table(
        ["evaluations per iteration", "mean", f"largest of {WIDTH}", "largest / mean"],
        [[r["method"], r["mean"], r["largest"], r["largest"] / r["mean"]] for r in found["evaluations"]],
    )
    return f"{gradients}\n\n{evaluations}"
