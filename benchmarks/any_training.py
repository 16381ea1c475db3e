"""What it costs to compare any training, and what lanes gain where batches are dictionaries or slow to read.

A training loop of one's own is run through `thalweg.Run` and as the bare script, with torch's Adam and a `DataLoader`
(goal: at most 1.03 of its time). A transformer of two layers, 64 wide, over dict batches of 8 sequences of 16 tokens is
trained in 32 lanes and by the plain loop with torch's fused Adam (goal: 5 times as fast). Trials over examples that
take 2 ms to read each, and differ each time, are trained in lanes, which read a batch once for all, and by the plain
loop over the same trials (goal: 10 times as fast). Medians of runs in turns; the plain loop and lanes each have the
number of threads, one or two, with which they are faster.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, TensorDataset

from benchmarks.measure import alternately, ratio, table
from thalweg.compare.execution.context import TaskContext
from thalweg.compare.execution.job import Job
from thalweg.compare.execution.lanes import Lanes
from thalweg.compare.execution.loop.engines import Loops
from thalweg.compare.execution.loop.run import Run
from thalweg.compare.execution.timing import with_threads
from thalweg.compare.strategy import Strategy
from thalweg.compare.task import Task, materialize
from thalweg.compare.task.loop import TrainingLoop

ROUNDS = 5
WIDTHS = (128, 1024)
STEPS = 300
LANES = 32
DECODING = 0.002  # seconds that an example of the slow data takes to read
GENERATOR = torch.Generator().manual_seed(0)
X, Y = torch.randn(2000, 64, generator=GENERATOR), torch.randint(10, (2000,), generator=GENERATOR)
TOKENS, LABELS = torch.randint(32, (600, 16), generator=GENERATOR), torch.randint(2, (600,), generator=GENERATOR)


def network(width: int = 128) -> nn.Module:
    """Returns a perceptron of three layers."""
    return nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10))


def loader() -> DataLoader[Any]:
    """Returns a loader as users write it."""
    return DataLoader(TensorDataset(X, Y), batch_size=64, shuffle=True)


def bare(width: int) -> None:
    """Trains by a script of its own."""
    torch.manual_seed(0)
    model, done = network(width), 0
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    while done < STEPS:
        for x, y in loader():
            loss = F.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            done += 1
            if done == STEPS:
                break


def through_run(run: Run, width: int = 128) -> None:
    """Trains as :func:`bare`, with what a run asks for."""
    model = network(width)
    optimizer = run.optimizer(model)
    for x, y in run.batches(loader()):
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        run.loss(loss)
        if run.due:
            run.report(valid={"loss": 0.0})
    run.report(test={"loss": 0.0})


def own_loop(width: int) -> None:
    """Trains by :func:`through_run`."""
    loop = TrainingLoop(partial(through_run, width=width), name="loop")
    Loops(loop, torch.device("cpu"), "all").run([_job("torch.optim.Adam", STEPS)], _ignore)


class Tokens(Dataset[Any]):
    """Batches as dictionaries."""

    def __init__(self, start: int, stop: int) -> None:
        self.start, self.stop = start, stop

    def __len__(self) -> int:
        return self.stop - self.start

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"ids": TOKENS[self.start + index], "labels": LABELS[self.start + index]}


class Transformer(nn.Module):
    """Two layers, 64 wide, which returns its loss."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.places = nn.Embedding(32, 64), nn.Parameter(torch.zeros(16, 64))
        layers = [nn.TransformerEncoderLayer(64, 4, 128, 0.0, batch_first=True) for _ in range(2)]
        self.layers, self.head = nn.ModuleList(layers), nn.Linear(64, 2)

    def forward(self, ids: Tensor, labels: Tensor) -> Tensor:
        """Returns the loss."""
        hidden = self.embedding(ids) + self.places
        for layer in self.layers:
            hidden = layer(hidden)
        return F.cross_entropy(self.head(hidden.mean(1)), labels)


class Slow(Dataset[Any]):
    """Examples that take long to read, and are not the same each time."""

    def __len__(self) -> int:
        return 10_000

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        end = time.perf_counter() + DECODING
        while time.perf_counter() < end:
            pass
        return X[index % 2000] + 0.1 * torch.randn(64), int(Y[index % 2000])


def dict_batches() -> tuple[Callable[[], Any], Callable[[], Any], float]:
    """Returns a plain loop over dict batches, lanes, and how many steps of a trial one call of each takes."""
    parts = [Tokens(0, 400), Tokens(400, 500), Tokens(500, 600)]
    task = Task(Transformer, *parts, step=lambda model, batch: model(**batch), batch_size=8)
    context = TaskContext(task, materialize(task), torch.device("cpu"))
    lanes, model = Lanes(context, LANES), Transformer()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    batch = context.data.train.head(8)
    flat, rows = context.start("default", 0).repeat(LANES, 1), context.batches(0, 0, 1).expand(LANES, -1).contiguous()

    def plain() -> None:
        for _ in range(20):
            optimizer.zero_grad()
            model(**batch).backward()
            optimizer.step()

    def stacked() -> None:
        with torch.no_grad():
            lanes.gradient(flat, lanes.buffers.now, rows)

    stacked()
    return plain, stacked, LANES / 20


def slow_data() -> tuple[Callable[[], Any], Callable[[], Any], float]:
    """Returns trials over slow data one after another, in lanes that share what is read, and 1."""
    held = TensorDataset(X[:64], Y[:64])
    task = Task(network, Slow(), held, held, F.cross_entropy, batch_size=8, steps=10)
    context = TaskContext(task, materialize(task), torch.device("cpu"))
    lanes = Lanes(context, LANES)
    jobs = [replace(_job("adam", 10), key=str(i), hyper={**_job("adam", 10).hyper, "lr": 10**-i}) for i in range(LANES)]
    lanes.run(jobs, _ignore)

    def plain() -> None:
        data = Slow()
        for _ in jobs:
            model = network()
            optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
            for step, (x, y) in zip(range(10), DataLoader(data, batch_size=8, shuffle=True), strict=False):
                optimizer.zero_grad()
                F.cross_entropy(model(x), y).backward()
                optimizer.step()
                del step

    context.data.train._kept.clear()  # type: ignore[attr-defined]
    return plain, lambda: (context.data.train._kept.clear(), lanes.run(jobs, _ignore)), 1.0  # type: ignore[attr-defined]


def measure() -> dict[str, Any]:
    """Returns the ratios."""
    found: dict[str, Any] = {"loop": {}}
    for width in WIDTHS:
        runs = {"bare": partial(bare, width), "own": partial(own_loop, width)}
        times = _times(runs, ROUNDS)
        found["loop"][str(width)] = {
            "ms": 1e3 * median(times["bare"]) / STEPS,
            "ratio": ratio(times["own"], times["bare"]),
        }
    for name, made, rounds in (("dict", dict_batches, ROUNDS), ("slow", slow_data, 1)):
        plain, stacked, scale = made()
        runs = {
            f"{kind} {n}": partial(_on, n, run) for kind, run in (("plain", plain), ("lanes", stacked)) for n in (1, 2)
        }
        least = {name: median(times) for name, times in _times(runs, rounds).items()}
        found[name] = scale * min(least["plain 1"], least["plain 2"]) / min(least["lanes 1"], least["lanes 2"])
    return found


def _on(threads: int, run: Callable[[], Any]) -> None:
    with with_threads(threads):
        run()


def show(found: dict[str, Any]) -> str:
    """Returns the figures as text."""
    loops = [[width, of["ms"], of["ratio"]] for width, of in found["loop"].items()]
    head = ["hidden units", "bare script, ms a step", "through thalweg.Run, of its time"]
    return (
        f"{table(head, loops)}\n\nDict batches in {LANES} lanes: {found['dict']:.1f} times the plain loop. "
        f"{LANES} trials over data of 2 ms an example: {found['slow']:.0f} times the plain loop."
    )


def _times(runs: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Returns the times of runs in turns, after a first turn that warms up."""

    def timed(run: Callable[[], Any]) -> float:
        began = time.perf_counter()
        run()
        return time.perf_counter() - began

    alternately({name: partial(timed, run) for name, run in runs.items()}, 1)
    return alternately({name: partial(timed, run) for name, run in runs.items()}, rounds)


def _job(name: str, steps: int) -> Job:
    strategy = Strategy.parse(name)
    hyper = strategy.stepping(strategy.default_configuration())
    return Job(name, strategy, hyper, 0, 0, steps, steps, steps)


def _ignore(steps: int) -> None:
    """Shows no progress."""
