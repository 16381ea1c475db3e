"""Smoothing: the first half of a run is spent on the cost blurred over the parameters, less and less."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import Generator, Tensor, nn

from thalweg.compare.execution.context import TaskContext
from thalweg.compare.execution.guidance.guidance import Guidance, Objective
from thalweg.compare.execution.job import Job
from thalweg.continuation import Falling, GaussianSmoothing
from thalweg.continuation.smoothing import CannotBatch
from thalweg.stages import Plan, Stage
from thalweg.tensors import derive_seed

SAMPLES = 8
END = 0.01  # what is left of σ at the end of the first half


class Smoothing(Guidance):
    """A step takes 8 samples of the blurred cost, and so 8 gradient evaluations; σ falls geometrically."""

    reason = "each sample of the smoothed cost is a separate evaluation"

    def objective(self, context: TaskContext, job: Job, model: nn.Module) -> Objective:
        plain, blurred = super().objective(context, job, model), _blurred(context, job)
        train, half = context.data.train, _half(job)
        return lambda rows, t: plain(rows, t) if t >= half else blurred(model, train.batch(rows), t)

    def steps_at(self, job: Job, t: int) -> bool:
        return t >= _half(job) or t % SAMPLES == SAMPLES - 1

    def plan(self, context: TaskContext, job: Job, model: nn.Module, stage: Stage) -> Plan:
        half, schedule, blurred = _half(job), stage.schedule or (lambda t, total: 1.0), _blurred(context, job)
        if not half:
            return Plan(model, [stage])
        first = replace(
            stage,
            name=f"{stage.name}, blurred",
            objective=lambda m, batch, step: blurred(m, batch, (step + 1) * SAMPLES - 1),
            steps=half // SAMPLES,
            schedule=lambda t, _: schedule((t + 1) * SAMPLES - 1, job.total),
        )
        rest = replace(
            stage, optimizer=None, steps=job.total - half, schedule=lambda t, _: schedule(half + t, job.total)
        )
        return Plan(model, [first, rest])


def _half(job: Job) -> int:
    return job.total // 2 // SAMPLES * SAMPLES


def _blurred(context: TaskContext, job: Job) -> Callable[[nn.Module, Any, int], Tensor]:
    """Returns the blurred cost of a batch; what is drawn depends on the run's seed and ``t`` alone."""
    task, source, sigma = context.task, Generator(context.device), job.hyper["sigma"]

    def cost(model: nn.Module, batch: Any) -> Tensor:
        return task.loss_and_output(model, batch)[0]

    smooth = GaussianSmoothing(cost, Falling(sigma, END * sigma), SAMPLES, generator=source)

    def blurred(model: nn.Module, batch: Any, t: int) -> Tensor:
        source.manual_seed(derive_seed(job.seed, "smoothing", t))
        try:
            return smooth(model, batch, t / _half(job))
        except CannotBatch:
            smooth.chunk = 1  # one by one, where the model cannot be stacked
            return blurred(model, batch, t)

    return blurred
