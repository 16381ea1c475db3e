"""A small task, and training loops on it as the optimizers' authors write them, to which compare's runs are held."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

from thalweg import Strategy, Task
from thalweg.compare.execution.context import TaskContext
from thalweg.compare.execution.job import Job
from thalweg.compare.execution.serial import Serial
from thalweg.compare.storage.result import TrialResult
from thalweg.compare.task import materialize
from thalweg.normalization import estimate_population_statistics
from thalweg.tensors import derive_seed
from thalweg.tensors.draws import own_draws

SEED = 3
STEPS, CUT = 201, 67  # steps of a run, and where it is cut


def model() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 12), nn.LayerNorm(12), nn.Tanh(), nn.Linear(12, 3))


def normalized() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 16, bias=False), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3))


def context_of(build: Callable[[], nn.Module]) -> TaskContext:
    """Returns the task with a model, prepared as compare prepares it."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(320, 8, generator=generator)
    y = (x[:, :3] + 0.5 * torch.randn(320, 3, generator=generator)).argmax(1)
    parts = [TensorDataset(x[a:b], y[a:b]) for a, b in ((0, 200), (200, 260), (260, 320))]
    task = Task(build, *parts, F.cross_entropy, metric="loss", batch_size=20, name="peers", steps=STEPS)
    return TaskContext(task, materialize(task), torch.device("cpu"))


def job_of(strategy: Strategy, cost: int, steps: int) -> Job:
    hyper = strategy.default_configuration()
    return Job(strategy.name, strategy, hyper, SEED, 0, cost * steps, cost * steps, cost * (steps // 3), test=True)


def straight(context: TaskContext, job: Job) -> TrialResult:
    """Returns the result of a run from its start to its end."""
    (result,) = Serial(context).run([job], lambda steps: None)
    return result


def cut(context: TaskContext, job: Job) -> TrialResult:
    """Returns the result of a run that was cut at a third, and resumed from what was stored, with its whole curve."""
    first = straight(context, replace(job, stop=job.evaluate_every, test=False))
    if first.status != "finished":
        return first
    rest = replace(job, start=job.evaluate_every, snapshot=first.snapshot, first_loss=first.first_loss)
    found = straight(context, rest)
    for name, points in vars(first.curve).items():
        getattr(found.curve, name)[:0] = points
    return found


class Loop:
    """What the author's loop works with: a model, its optimizer, minibatches, and where it is evaluated.

    The minibatches, the starting weights and the seeds of what is drawn are those of compare; the rest is its own.
    """

    def __init__(self, context: TaskContext, job: Job, cost: int) -> None:
        self.context, self.job, self.cost, self.points = context, job, cost, list[float]()
        self.model = context.fresh_model("default", SEED).train()

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        every = self.job.evaluate_every // self.cost
        rows = self.context.batches(SEED, 0, self.job.total // self.cost)
        for start in range(0, len(rows), every):
            with own_draws(derive_seed(SEED, "noise", start * self.cost)):
                for row in rows[start : start + every]:
                    yield self.context.data.train.batch(row)
            self.evaluate()

    def evaluate(self) -> None:
        self.points.append(self.context.evaluate(self.model, self.context.data.valid)[0])
        self.model.train()

    def loss(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        return F.cross_entropy(self.model(batch[0]), batch[1])


class SwitchedLoop(Loop):
    """One whose optimizer is evaluated elsewhere than it is trained, with statistics of that point."""

    optimizer: Any

    def evaluate(self) -> None:
        self.optimizer.eval()
        buffers = {name: buffer.clone() for name, buffer in self.model.named_buffers()}
        rows = self.context.batches(SEED, 0, 10)  # an epoch
        if buffers:
            inputs = [self.context.data.train.batch(row)[0] for row in rows]
            estimate_population_statistics(self.model, inputs)
        super().evaluate()
        for name, buffer in self.model.named_buffers():
            buffer.copy_(buffers[name])
        self.optimizer.train()


def plainly(loop: Loop, optimizer: Any) -> None:
    for batch in loop.batches():
        optimizer.zero_grad()
        loop.loss(batch).backward()
        optimizer.step()


def switching(loop: SwitchedLoop, optimizer: Any) -> None:
    loop.optimizer = optimizer
    optimizer.train()
    plainly(loop, optimizer)


def with_closure(loop: Loop, optimizer: Any) -> None:
    for batch in loop.batches():

        def closure(batch: Any = batch) -> Tensor:
            optimizer.zero_grad()
            loss = loop.loss(batch)
            loss.backward()
            return loss

        optimizer.step(closure)


def switching_with_closure(loop: SwitchedLoop, optimizer: Any) -> None:
    loop.optimizer = optimizer
    optimizer.train()
    with_closure(loop, optimizer)


def from_a_gradient(loop: Loop, optimizer: Any) -> None:
    for batch in loop.batches():

        def closure(batch: Any = batch) -> Tensor:
            loss = loop.loss(batch)
            loss.backward()
            return loss

        loop.loss(batch).backward()
        optimizer.step(closure)
        optimizer.zero_grad()


def with_graph(loop: Loop, optimizer: Any) -> None:
    for batch in loop.batches():
        optimizer.zero_grad()
        loop.loss(batch).backward(create_graph=True)
        optimizer.step()
        for p in loop.model.parameters():
            p.grad = None


def with_the_loss(loop: Loop, optimizer: Any) -> None:
    for batch in loop.batches():
        optimizer.zero_grad()
        loss = loop.loss(batch)
        loss.backward()
        optimizer.step(lambda loss=loss: float(loss))
