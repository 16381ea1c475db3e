"""A run of a method that evaluates the loss several times a step: on a large batch, charged for all that it evaluates.

The unit of cost is the gradient of one minibatch. A batch of k minibatches costs k units an evaluation, whether the
point is accepted or not, and :data:`PRODUCT` k units a product with a curvature matrix. A run never passes its
budget: where what is left does not pay for another step, it stands still.
"""

import copy
import math
import time
import traceback
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from thalweg.compare.execution.context import TaskContext
from thalweg.compare.execution.driver import FORMS, Driver
from thalweg.compare.execution.job import Job
from thalweg.compare.execution.optimizer_state import put_state, state_of
from thalweg.compare.execution.optimizers import make_optimizers
from thalweg.compare.execution.timing import now
from thalweg.compare.execution.trial_state import TrialState, attributes_of
from thalweg.compare.task.examples import Batch, HeldSplit
from thalweg.optim import ClosureOptimizer, Newton
from thalweg.second_order import NotAnObjective, NotFinite
from thalweg.tensors.compiling import wait_for

BATCHES = 16  # minibatches in a large batch where the strategy does not say
PRODUCT = 2.0  # price of a Hessian product in gradients: measured, docs/benchmarks.md
KEPT = 2**26  # bytes above which a tensor of the optimizer's is not carried from rung to rung: it is learned anew


class ClosureRun:
    """A model and an optimizer that takes a closure.

    ``model`` is shown as it was when the units asked for were spent; training may be further on, since a step is
    paid for as a whole.
    """

    def __init__(self, context: TaskContext, job: Job) -> None:
        self.context, self.job = context, job
        self.training = context.fresh_model(job.strategy.initialization, job.seed)
        grouping = context.task.grouping
        made = make_optimizers(job.strategy, self.training, job.hyper, context.decay, grouping, steps=job.total)
        (self.optimizer,) = made
        self.schedule = job.strategy.schedule_with(job.hyper)
        self.lr = [group["lr"] for group in self.optimizer.param_groups]
        epoch, batches = context.steps_per_epoch, int(job.hyper.get("batches", BATCHES))
        self.full = batches >= epoch and isinstance(context.data.train, HeldSplit)
        self.count = math.ceil(min(batches, epoch))
        self.unit = epoch if self.full else float(self.count)
        state = TrialState.decode(job.snapshot)
        state.put(self.training, context.layout)
        put_state([self.optimizer], state.optimizer)
        form = FORMS[int(state.position["form"])] if "form" in state.position else None
        self.driver = Driver([self.optimizer], form)
        self.spent, self.round = float(state.position.get("spent", job.start)), int(state.position.get("round", 0))
        self.lost = False
        self.model = copy.deepcopy(self.training)
        self._points: deque[tuple[float, float, list[Tensor]]] = deque()  # units spent, loss, parameters and buffers
        self._note(self._loss())

    def advance(self, t: int, end: int) -> Tensor:
        """Trains until ``end`` units are spent; returns the losses of the points that were accepted by then."""
        losses = []
        while self.spent < end and self._step():
            pass
        if self.lost:
            return torch.tensor([math.nan], device=self.context.device)
        while len(self._points) > 1 and self._points[1][0] <= end:
            self._points.popleft()
            losses.append(self._points[0][1])
        _put(self.model, self._points[0][2])
        return torch.tensor(losses or [self._points[0][1]], device=self.context.device)

    @contextmanager
    def shown(self) -> Iterator[nn.Module]:
        """Runs its body with the model as it is judged."""
        yield self.model

    def _step(self) -> bool:
        """Takes a step; returns False where none can be paid for any more."""
        left = self.job.stop - self.spent
        affordable = int(left / self.unit)
        if affordable < 2 + (not self.optimizer.state):  # the start, another point, and once whether it repeats itself
            return False
        self._settle(affordable)
        batch = self._batch()
        before, began, evaluations = self.spent, len(self._points), 0

        def closure(graph: bool = False) -> Any:
            nonlocal evaluations
            evaluations += 1
            loss, output = self.context.task.loss_and_output(self.training, batch)
            self.spent = before + evaluations * self.unit
            if isinstance(self.optimizer, ClosureOptimizer):
                return loss if output is None else (loss, output)
            self.training.zero_grad()
            loss.backward(create_graph=graph)
            return loss.detach()

        self.training.train()
        if isinstance(self.optimizer, ClosureOptimizer):
            try:
                with warnings.catch_warnings():  # the line about the engine says that the model draws noise
                    warnings.filterwarnings("ignore", "the closure gave", RuntimeWarning)
                    self.optimizer.step(closure, callback=self._note)
            except NotFinite:
                self.lost = True
                return False
            report = self.optimizer.report
            assert report is not None
            if report.products:
                self.spent += report.products * PRODUCT * self.unit
                self._points[-1] = (self.spent, *self._points[-1][1:])
            moved = report.iterations > 0
        else:
            self.driver.step(closure)
            moved = True
        if self.spent > self.job.stop:  # more than there was: as if it had not been begun
            self.spent = float(self.job.stop)
            while len(self._points) > began:
                self._points.pop()
            _put(self.training, self._points[-1][2])
            return False
        if moved and len(self._points) == began:
            self._note(self._loss())
        self.round += 1
        return moved or not self.full

    def _settle(self, affordable: int) -> None:
        """Sets the learning rate of the moment and the caps that keep the step within what is left."""
        total = self.job.total - self.job.prepared
        factor = self.schedule(min(int(self.spent) - self.job.prepared, total - 1), total)
        for group, lr in zip(self.optimizer.param_groups, self.lr, strict=True):
            group["lr"] = lr * factor
            if "max_eval" in group:
                group["max_eval"] = affordable - (not self.optimizer.state)
            if "max_products" in group:
                most = int((affordable - 2) / PRODUCT) - 1
                group["max_products"] = max(1, min(int(self.job.hyper.get("max_products", 250)), most))

    def _batch(self) -> Batch:
        train, first = self.context.data.train, self.round * self.count
        if self.full and isinstance(train, HeldSplit):
            return train.held
        rows = self.context.batches(self.job.seed, first, first + self.count)
        return train.large(rows if self.context.task.accumulate == 1 else rows.flatten(0, 1))

    def _note(self, loss: float) -> None:
        """Takes down where the training model is, and what it has cost."""
        self._points.append((self.spent, loss, [t.detach().clone() for t in _tensors(self.training)]))

    def _loss(self) -> float:
        """Returns the loss where the training model is; looked at, not learned from, and so not charged."""
        batch = self._batch()
        self.training.eval()
        with torch.no_grad():
            return float(self.context.task.evaluation_loss(self.training, batch))

    def seconds_per_unit(self, threads: int, budget: float = 0.1) -> float:
        """Returns the seconds that one unit takes, with so many threads."""
        wait_for(self.context.device)
        began, end, start = now(threads), time.perf_counter() + budget, self.spent
        while self._step() and time.perf_counter() < end:
            pass
        wait_for(self.context.device)
        return (now(threads) - began) / max(self.spent - start, 1.0)

    def snapshot(self) -> dict[str, Tensor]:
        """Returns all that the rest of the run depends on."""
        optimizer = state_of([self.optimizer], most=KEPT)
        position = {"spent": torch.tensor(self.spent, dtype=torch.float64), "round": torch.tensor(self.round)}
        if self.driver.form is not None:
            position["form"] = torch.tensor(FORMS.index(self.driver.form))
        own = attributes_of(self.training, self.context.kept)
        return TrialState(self.training.state_dict(), optimizer=optimizer, position=position, attributes=own).encode()


@contextmanager
def refusing(strategy: str) -> Iterator[None]:
    """Runs its body, which takes steps. Raises ValueError where the strategy's optimizer cannot take one."""
    try:
        yield
    except Exception as error:
        place = Path(traceback.extract_tb(error.__traceback__)[-1].filename)
        if not isinstance(error, (NotImplementedError, NotAnObjective)) and "optim" not in place.parts:
            raise  # not by the optimizer
        raise ValueError(f"strategy {strategy!r} cannot step this model: {error}") from error


def unaffordable(context: TaskContext, job: Job) -> str | None:
    """Returns why a run cannot take a single step within its budget, or None."""
    run = ClosureRun(context, job)
    products = context.layout.size if isinstance(run.optimizer, Newton) else 1
    cost = run.unit * (3 + PRODUCT * products * isinstance(run.optimizer, ClosureOptimizer))
    if cost <= job.stop - job.start:
        return None
    return (
        f"a step of {job.strategy.name!r} on {context.layout.size:,} parameters costs {cost:,.0f} gradient evaluations "
        f"and the first rung has {job.stop - job.start:,}: give --steps {3 * math.ceil(cost)} or more, or a longer "
        "--budget, or omit this strategy"
    )


def _put(model: torch.nn.Module, values: Sequence[Tensor]) -> None:
    with torch.no_grad():
        for target, value in zip(_tensors(model), values, strict=True):
            target.copy_(value)


def _tensors(model: torch.nn.Module) -> list[Tensor]:
    return [*model.parameters(), *model.buffers()]
