"""Recurrent layers in lanes, where they are unrolled over time, compared with the plain loop and torch's own kernels.

Sequences of 30 steps through an embedding, an LSTM and a linear layer: 32 lanes on one batch each, uncompiled, and a
single model with torch's fused Adam. Medians of ratios of processor time, on one thread, measured in turns: above 1,
lanes are faster. `thalweg compare` measures both on the model at hand, and takes the faster one.
"""

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

from benchmarks.measure import alternately, ratio, table
from thalweg.compare.execution.context import TaskContext
from thalweg.compare.execution.lanes import Lanes
from thalweg.compare.execution.timing import with_threads
from thalweg.compare.task import Task, materialize

LANES, ROUNDS, TIME, SYMBOLS, CALLS = 32, 5, 30, 30, 8
SIZES = ((64, 32), (64, 8), (32, 16), (16, 8), (8, 8))  # units of the layer, examples of a batch
GENERATOR = torch.Generator().manual_seed(0)
IDS, LABELS = (torch.randint(n, s, generator=GENERATOR) for n, s in ((SYMBOLS, (200, TIME)), (10, (200,))))


class Reader(nn.Module):
    """Tells a class by the last output of an LSTM."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(SYMBOLS, units)
        self.layer = nn.LSTM(units, units, batch_first=True)
        self.head = nn.Linear(units, 10)

    def forward(self, ids: Tensor) -> Tensor:
        """Returns an output for each class."""
        output: Tensor = self.head(self.layer(self.embedding(ids))[0][:, -1])
        return output


def runs(units: int, batch: int) -> dict[str, Callable[[], float]]:
    """Returns what measures the seconds of a step of one model, in lanes and by itself."""
    data = TensorDataset(IDS, LABELS)
    task = Task(lambda: Reader(units), data, data, data, F.cross_entropy, batch_size=batch)
    context = TaskContext(task, materialize(task), torch.device("cpu"))
    lanes, model = Lanes(context, LANES, compile_=False), Reader(units)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    flat, rows = context.start("default", 0).repeat(LANES, 1), context.batches(0, 0, 1).expand(LANES, -1).contiguous()
    x, y = context.data.train.head(batch)

    def alone() -> float:
        began = time.process_time()
        for _ in range(CALLS):
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
        return (time.process_time() - began) / CALLS

    def stacked() -> float:
        began = time.process_time()
        with torch.no_grad():
            lanes.gradient(flat, lanes.buffers.now, rows)
        return (time.process_time() - began) / LANES

    alone(), stacked()
    return {"lanes": stacked, "plain loop": alone}


def measure() -> dict[str, Any]:
    """Returns microseconds a step of one model, and ratios."""
    found = {}
    with with_threads(1):
        for units, batch in SIZES:
            times = alternately(runs(units, batch), ROUNDS)
            one = {name: sorted(values)[ROUNDS // 2] * 1e6 for name, values in times.items()}
            found[f"{units} units, batches of {batch}"] = {**one, "ratio": ratio(times["plain loop"], times["lanes"])}
    return found


def show(found: dict[str, Any]) -> str:
    """Returns the table."""
    rows = [[name, one["lanes"], one["plain loop"], one["ratio"]] for name, one in found.items()]
    return table(["LSTM", "lanes (µs)", "plain loop (µs)", "times as fast"], rows)
