"""Batch normalization forward and backward compared with torch's, and 24 models with it in lanes and in the plain loop.

The lanes are those of ``digits`` with batch normalization: a 64-64-64-10 perceptron and batches of 64.
"""

import time
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.measure import alternately, ratio, seconds, table
from thalweg.compare.execution.context import TaskContext
from thalweg.compare.execution.lanes import Lanes
from thalweg.compare.strategy.variants import Variant, built
from thalweg.compare.task import materialize
from thalweg.compare.task.builtin.digits import digits
from thalweg.normalization import BatchNorm

SHAPES = {"(64, 64)": nn.BatchNorm1d, "(256, 512)": nn.BatchNorm1d, "(64, 32, 16, 16)": nn.BatchNorm2d}
LANES, ROUNDS, STEPS = 24, 15, 200


def measure() -> dict[str, Any]:
    """Returns ratios of the module's time, and microseconds a step of a lane."""
    found: dict[str, Any] = {"modules": {}}
    for text, kind in SHAPES.items():
        x = torch.randn(*shape_of(text), requires_grad=True)
        pair = {"thalweg": BatchNorm(x.shape[1]), "torch": kind(x.shape[1])}
        runs = {name: (lambda norm=norm, x=x: seconds(lambda: _pass(norm, x, 50))) for name, norm in pair.items()}
        times = alternately(runs, ROUNDS)
        found["modules"][text] = {n: sorted(t)[ROUNDS // 2] / 50 * 1e6 for n, t in times.items()}
        found["modules"][text]["ratio"] = ratio(times["thalweg"], times["torch"])
    task = built(digits(), Variant("", "batch-norm"))
    context = TaskContext(task, materialize(task), torch.device("cpu"))
    found["lanes"] = alternately({"lanes": _lanes(context), "plain loop": _plain(context)}, 5)
    return found


def shape_of(text: str) -> list[int]:
    """Returns the numbers of a shape in words."""
    return [int(part) for part in text.strip("()").split(",")]


def _pass(norm: nn.Module, x: Tensor, times: int) -> None:
    for _ in range(times):
        norm(x).sum().backward()


def _lanes(context: TaskContext) -> Any:
    lanes = Lanes(context, LANES)
    flat = context.start("default", 0).repeat(LANES, 1)
    rows = context.batches(0, 0, 1).expand(LANES, -1).contiguous()

    def run() -> float:
        with torch.no_grad():
            lanes.gradient(flat, lanes.buffers.now, rows)
            began = time.perf_counter()
            for _ in range(STEPS):
                _, grads, lanes.buffers.now = lanes.gradient(flat, lanes.buffers.now, rows)
                flat.add_(grads, alpha=-0.01)
            return (time.perf_counter() - began) / STEPS / LANES

    return run


def _plain(context: TaskContext) -> Any:
    model = context.fresh_model("default", 0).train()
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    rows = context.batches(0, 0, STEPS)

    def run() -> float:
        began = time.perf_counter()
        for batch in rows:
            optimizer.zero_grad()
            context.task.loss(model(context.data.train.input[batch]), context.data.train.target[batch]).backward()
            optimizer.step()
        return (time.perf_counter() - began) / STEPS

    return run


def show(found: dict[str, Any]) -> str:
    """Returns the tables."""
    rows = [[shape, one["thalweg"], one["torch"], one["ratio"]] for shape, one in found["modules"].items()]
    lanes = found["lanes"]
    gain = ratio(lanes["plain loop"], lanes["lanes"])
    first = table(["input", "thalweg (µs)", "torch (µs)", "ratio (goal: 1.1)"], rows)
    times = {name: sorted(values)[len(values) // 2] * 1e6 for name, values in lanes.items()}
    second = table(["way", "µs per step of one model"], [[name, value] for name, value in times.items()])
    return f"{first}\n\n{second}\n\n- {LANES} lanes are {gain:.3g} times as fast as the plain loop (goal: 4)."
