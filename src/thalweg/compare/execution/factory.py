"""An optimizer driven as its user would: through gradients or a closure, groups and state dicts."""

import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from functools import partial
from io import StringIO

import torch
from torch import Tensor, nn

from thalweg.averaging import Average
from thalweg.compare.execution.cannot_run import by_optimizer, changes_its_rate
from thalweg.compare.execution.context import TaskContext
from thalweg.compare.execution.driver import FORMS, Driver
from thalweg.compare.execution.guidance import Guidance
from thalweg.compare.execution.job import Job
from thalweg.compare.execution.optimizer_state import Remembered, inner, put_state, state_of
from thalweg.compare.execution.optimizers import make_optimizers, set_mode
from thalweg.compare.execution.step_run import StepRun
from thalweg.compare.execution.trial_state import TrialState, attributes_of, average_of
from thalweg.compare.strategy.variants import averaging_of
from thalweg.normalization.population import estimate_population_statistics
from thalweg.tensors.draws import own_draws
from thalweg.tensors.private import BatchNormBase

NORMALIZED = 20  # minibatches from which the statistics of a point that is judged, and not trained at, are made


class FactoryRun(StepRun):
    """A model and an optimizer, driven through the ordinary interface, with whatever objective the guidance has.

    A step that takes several gradients spends as many evaluations, and is begun where what the dearest step so far has
    taken is saved. Without guidance its minibatch is the next one, whatever the steps before have cost.
    """

    def __init__(self, context: TaskContext, job: Job, guidance: Guidance) -> None:
        self.context, self.job, self.guidance = context, job, guidance
        self.model = context.fresh_model(job.strategy.initialization, job.seed)
        own, grouping = job.total - job.prepared, context.task.grouping
        roles = partial(getattr, context, "roles")
        with redirect_stdout(StringIO()):  # what it prints was seen when engines were chosen, and comes each trial
            self.optimizers = make_optimizers(
                job.strategy, self.model, job.hyper, context.decay, grouping, roles, steps=own
            )
        self.base = [[group.get("lr") for group in optimizer.param_groups] for optimizer in self.optimizers]
        self.rates: list[list[object]] | None = None  # as they were set for the last step
        self.schedule = job.strategy.schedule_with(job.hyper)
        averaging = averaging_of(job.strategy.averaging, own)
        state = TrialState.decode(job.snapshot)
        state.put(self.model, context.layout)
        self.average = None if averaging is None else Average(self.model, averaging, buffers="average")
        if self.average is not None:
            state.put_average(self.average)
        self.made = Remembered(inner(self.optimizers))
        with by_optimizer("does not go on from its own state"):
            put_state(self.optimizers, state.optimizer, self.made)
            set_mode(self.optimizers, "train")
        taken = {name: int(tensor) for name, tensor in state.position.items() if name in ("round", "saved", "cost")}
        self.round, self.saved = taken.get("round", job.start - job.prepared), taken.get("saved", 0)
        form = FORMS[int(state.position["form"])] if "form" in state.position else None
        self.driver = Driver(self.optimizers, form, taken.get("cost", 1))
        self.objective = guidance.objective(context, job, self.model)
        self.scaler = None
        if context.task.precision == "fp16":
            self.scaler = torch.amp.GradScaler(context.device.type)
            if "scale" in state.position:
                held = {"scale": float(state.position["scale"]), "_growth_tracker": int(state.position["growth"])}
                self.scaler.load_state_dict(self.scaler.state_dict() | held)

    def advance(self, t: int, end: int) -> Tensor:
        """Trains from ``t`` to ``end``, a step where enough is saved for one; returns the losses of the steps."""
        start = t if self.guidance.reason else self.job.prepared + self.round
        rows = self.guidance.rows(self.context, self.job, start, start + end - t)
        self.context.data.train.expect(rows)
        self.model.train()
        set_mode(self.optimizers, "train")
        losses, row = list[Tensor](), rows[-1]
        for i in range(end - t):
            if not self.guidance.steps_at(self.job, t + i):
                continue
            self.saved += 1
            if self.saved >= self.driver.cost:
                row = rows[i if self.guidance.reason else len(losses)]
                losses.append(self.step(row, t + i))
        if not losses:
            with torch.no_grad():
                return self.objective(row, end - 1)[None]
        return torch.stack(losses)

    def prepare(self, start: int, stop: int) -> None:
        """Nothing to prepare: the optimizer computes its own scalars."""

    def step(self, rows: Tensor, t: int) -> Tensor:
        """Takes one training step and returns the minibatch loss before it."""
        self._set_rates(t)
        losses = self.driver.step(lambda graph: self._gradient(rows, t, graph), self.scaler)
        if self.scaler is not None:
            self.scaler.update()
        if self.average is not None:
            self.average.update()
        self.round += 1
        self.saved -= self.driver.evaluations
        return losses[0]

    def _set_rates(self, t: int) -> None:
        """Sets the learning rates of a step, where there is a schedule; else they are the optimizer's own.

        Raises:
            CannotRun: the optimizer has set them too.
        """
        if self.job.strategy.schedule_name == "constant":
            return
        now = [[group.get("lr") for group in optimizer.param_groups] for optimizer in self.optimizers]
        if self.rates is not None and now != self.rates:
            raise changes_its_rate(self.job.strategy.schedule_name)
        spent = self.job.prepared
        factor = self.schedule(t - spent, self.job.total - spent)
        for optimizer, rates in zip(self.optimizers, self.base, strict=True):
            for group, lr in zip(optimizer.param_groups, rates, strict=True):
                if lr is not None:
                    group["lr"] = lr * factor
        self.rates = [[group.get("lr") for group in optimizer.param_groups] for optimizer in self.optimizers]

    def _gradient(self, rows: Tensor, t: int, graph: bool = False) -> Tensor:
        """Leaves the gradient of a minibatch in the parameters, and returns the loss."""
        self.model.zero_grad()
        task, losses = self.context.task, []
        for part in self.context.parts(rows):
            loss = self.objective(part, t)
            own = loss if task.accumulate == 1 else loss / task.accumulate
            (own if self.scaler is None else self.scaler.scale(own)).backward(create_graph=graph)
            losses.append(loss.detach())
        if task.clip_norm is not None:
            for optimizer in self.optimizers if self.scaler is not None else ():
                self.scaler.unscale_(optimizer)  # type: ignore[union-attr]
            nn.utils.clip_grad_norm_([p for p in self.model.parameters() if p.grad is not None], task.clip_norm)
        return losses[0] if len(losses) == 1 else torch.stack(losses).mean()

    @contextmanager
    def shown(self) -> Iterator[nn.Module]:
        """Runs its body with the point that is judged in the model: the average, or what the optimizer means by it."""
        with self._judged(), self.average.applied() if self.average is not None else nullcontext():
            yield self.model

    @contextmanager
    def _judged(self) -> Iterator[None]:
        """Runs its body with the optimizer in evaluation.

        Where that changes the parameters, the statistics of batch normalization are made again from some minibatches.
        """
        norms = [m for m in self.model.modules() if isinstance(m, BatchNormBase) and m.running_mean is not None]
        before = [p.detach().clone() for p in self.model.parameters()] if norms else []
        set_mode(self.optimizers, "eval")
        if all(torch.equal(p, q) for p, q in zip(self.model.parameters(), before, strict=bool(norms))):
            yield
            return
        buffers = {name: buffer.clone() for name, buffer in self.model.named_buffers()}
        rows = self.context.batches(self.job.seed, 0, math.ceil(min(NORMALIZED, self.context.steps_per_epoch)))
        train, task = self.context.data.train, self.context.task
        with own_draws(NORMALIZED):
            batches = (train.batch(part) for row in rows for part in self.context.parts(row))
            estimate_population_statistics(self.model, batches, call=task.loss_and_output)
        yield
        with torch.no_grad():
            for name, buffer in self.model.named_buffers():
                buffer.copy_(buffers[name])

    def snapshot(self) -> dict[str, Tensor]:
        """Returns all that the rest of the run depends on."""
        with by_optimizer("cannot be interrupted"):
            optimizer = state_of(self.optimizers, remembered=self.made)
        position = {"round": self.round, "saved": self.saved, "cost": self.driver.cost}
        if self.driver.form is not None:
            position["form"] = FORMS.index(self.driver.form)
        held = {name: torch.tensor(value) for name, value in position.items()}
        if self.scaler is not None:
            scaler = self.scaler.state_dict()
            held["scale"] = torch.tensor(scaler["scale"], dtype=torch.float64)
            held["growth"] = torch.tensor(scaler["_growth_tracker"])
        average, own = average_of(self.average), attributes_of(self.model, self.context.kept)
        return TrialState(
            self.model.state_dict(), optimizer=optimizer, average=average, position=held, attributes=own
        ).encode()
