"""An optimizer driven as its user would: through closure, groups and state dicts."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial

import torch
from torch import Tensor, nn

from thalweg.averaging import Average
from thalweg.compare.execution.context import TaskContext
from thalweg.compare.execution.guidance import Guidance
from thalweg.compare.execution.job import Job
from thalweg.compare.execution.optimizers import make_optimizers, put_state, set_mode, state_of
from thalweg.compare.execution.step_run import StepRun
from thalweg.compare.execution.trial_state import TrialState, attributes_of, average_of
from thalweg.compare.strategy.variants import averaging_of


class FactoryRun(StepRun):
    """A model and an optimizer, driven through the ordinary interface, with whatever objective the guidance has."""

    def __init__(self, context: TaskContext, job: Job, guidance: Guidance) -> None:
        self.context, self.job, self.guidance = context, job, guidance
        self.model = context.fresh_model(job.strategy.initialization, job.seed)
        grouping, roles = context.task.grouping, partial(getattr, context, "roles")
        self.optimizers = make_optimizers(job.strategy, self.model, job.hyper, context.decay, grouping, roles)
        self.base = [[group.get("lr") for group in optimizer.param_groups] for optimizer in self.optimizers]
        self.schedule = job.strategy.schedule_with(job.hyper)
        averaging = averaging_of(job.strategy.averaging, job.total - job.prepared)
        state = TrialState.decode(job.snapshot)
        state.put(self.model, context.layout)
        self.average = None if averaging is None else Average(self.model, averaging, buffers="average")
        if self.average is not None:
            state.put_average(self.average)
        put_state(self.optimizers, state.optimizer)
        self.objective = guidance.objective(context, job, self.model)
        self.scaler = None
        if context.task.precision == "fp16":
            self.scaler = torch.amp.GradScaler(context.device.type)
            if "scale" in state.position:
                held = {"scale": float(state.position["scale"]), "_growth_tracker": int(state.position["growth"])}
                self.scaler.load_state_dict(self.scaler.state_dict() | held)

    def advance(self, t: int, end: int) -> Tensor:
        """Trains from ``t`` to ``end``, a step where enough is spent for one; returns the losses of the steps."""
        rows = self.guidance.rows(self.context, self.job, t, end)
        self.context.data.train.expect(rows)
        self.model.train()
        set_mode(self.optimizers, "train")
        at = [i for i in range(end - t) if self.guidance.steps_at(self.job, t + i)]
        if not at:
            with torch.no_grad():
                return self.objective(rows[-1], end - 1)[None]
        return torch.stack([self.step(rows[i], t + i) for i in at])

    def prepare(self, start: int, stop: int) -> None:
        """Nothing to prepare: the optimizer computes its own scalars."""

    def step(self, rows: Tensor, t: int) -> Tensor:
        """Takes one training step and returns the minibatch loss before it."""
        spent = self.job.prepared
        factor = self.schedule(t - spent, self.job.total - spent)
        for optimizer, rates in zip(self.optimizers, self.base, strict=True):
            for group, lr in zip(optimizer.param_groups, rates, strict=True):
                if lr is not None:
                    group["lr"] = lr * factor
        losses: list[Tensor] = []

        def closure() -> Tensor:
            self.model.zero_grad()
            loss = self._gradient(rows, t)
            losses.append(loss)
            return loss

        if self.scaler is None:
            self.optimizers[0].step(closure)  # type: ignore[arg-type]
        else:
            closure()
            self.scaler.step(self.optimizers[0])
        for optimizer in self.optimizers[1:]:
            optimizer.step() if self.scaler is None else self.scaler.step(optimizer)
        if self.scaler is not None:
            self.scaler.update()
        if self.average is not None:
            self.average.update()
        if len(losses) != 1:
            raise ValueError(
                f"strategy {self.job.strategy.name!r} evaluated the gradient {len(losses)} times in a step: "
                "pass it as a thalweg.Strategy with closure=True, so that all of them are charged"
            )
        return losses[0]

    def _gradient(self, rows: Tensor, t: int) -> Tensor:
        """Leaves the gradient of a step in the parameters, and returns the loss."""
        task, losses = self.context.task, []
        for part in self.context.parts(rows):
            loss = self.objective(part, t)
            own = loss if task.accumulate == 1 else loss / task.accumulate
            (own if self.scaler is None else self.scaler.scale(own)).backward()
            losses.append(loss.detach())
        if task.clip_norm is not None:
            for optimizer in self.optimizers if self.scaler is not None else ():
                self.scaler.unscale_(optimizer)  # type: ignore[union-attr]
            nn.utils.clip_grad_norm_([p for p in self.model.parameters() if p.grad is not None], task.clip_norm)
        return losses[0] if len(losses) == 1 else torch.stack(losses).mean()

    @contextmanager
    def shown(self) -> Iterator[nn.Module]:
        """Runs its body with the average in the model, where there is one."""
        set_mode(self.optimizers, "eval")
        with self.average.applied() if self.average is not None else nullcontext():
            yield self.model

    def snapshot(self) -> dict[str, Tensor]:
        """Returns all that the rest of the run depends on."""
        optimizer, average = state_of(self.optimizers), average_of(self.average)
        position = {}
        if self.scaler is not None:
            held = self.scaler.state_dict()
            position = {
                "scale": torch.tensor(held["scale"], dtype=torch.float64),
                "growth": torch.tensor(held["_growth_tracker"]),
            }
        own = attributes_of(self.model, self.context.kept)
        return TrialState(self.model.state_dict(), {}, optimizer, average, position, own).encode()
