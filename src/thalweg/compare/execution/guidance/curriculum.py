"""Curricula: which examples the minibatches are drawn from, as the run goes on."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain, islice, repeat
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from thalweg.compare.execution.context import TaskContext
from thalweg.compare.execution.guidance.guidance import Guidance
from thalweg.compare.execution.guidance.teacher import teacher_of
from thalweg.compare.execution.job import Job
from thalweg.compare.strategy import Strategy
from thalweg.curriculum import CurriculumSampler, Pacing, losses
from thalweg.curriculum.order import Order, check
from thalweg.stages import Plan, Stage
from thalweg.tensors import derive_seed

START = 0.2  # the share of the examples that is admitted at first
STREAMS = 256  # runs whose place is remembered


class Curriculum(Guidance):
    """The share of the admitted examples grows linearly, until it is all after the share ``over`` of the run's steps.

    The task's ``difficulty``, or else the loss of a teacher, says which examples are easy.
    """

    def __init__(self, order: Order, mixture: float = 0.0) -> None:
        self.order, self.mixture = order, mixture

    def charged(self, context: TaskContext, strategy: Strategy, total: int) -> dict[str, int]:
        inputs = context.task.guidance_inputs
        if inputs.difficulty is not None:
            check(inputs.difficulty, context.pairs)
        if inputs.difficulty is not None or self.order == "random":
            return {}
        return teacher_of(context, inputs.teacher).charged(total, looks=True)

    def rows(self, context: TaskContext, job: Job, start: int, stop: int) -> Tensor:
        key = ("curriculum", job.strategy.name, tuple(job.hyper.items()), job.seed, job.total)
        at, stream = context.cached(key, lambda: (-1, iter(())))
        if at != start:
            stream = self._stream(context, job, start - job.prepared)
        batch = context.task.batch_size
        rows = list(islice(stream, (stop - start) * batch))
        context.cache(key, (stop, stream), STREAMS)
        return torch.tensor(rows, device=context.device).view(-1, batch)

    def plan(self, context: TaskContext, job: Job, model: nn.Module, stage: Stage) -> Plan:
        loader = DataLoader(
            context.pairs.dataset(), batch_size=context.task.batch_size, sampler=self._sampler(context, job)
        )
        return Plan(model, [replace(stage, data=loader)])

    def _stream(self, context: TaskContext, job: Job, step: int) -> Iterator[int]:
        """Returns the endless stream of rows from a step on."""
        sampler = self._sampler(context, job)
        if step:
            sampler.load_state_dict(sampler.state_dict(step))
        return chain.from_iterable(repeat(sampler))

    def _sampler(self, context: TaskContext, job: Job) -> CurriculumSampler:
        batch = context.task.batch_size
        return CurriculumSampler(
            self._difficulty(context, job),
            Pacing("linear", START, max(1, round(job.hyper["over"] * (job.total - job.prepared)))),
            batch_size=batch,
            mixture=self.mixture,
            order=self.order,
            num_samples=len(context.pairs) // batch * batch,
            seed=derive_seed(job.seed, "curriculum"),
        )

    def _difficulty(self, context: TaskContext, job: Job) -> Any:
        inputs = context.task.guidance_inputs
        if inputs.difficulty is not None:
            return inputs.difficulty
        if self.order == "random":
            return torch.zeros(len(context.pairs))
        key = ("difficulty", job.strategy.initialization, job.total, job.seed)
        return context.cached(key, lambda: self._judged(context, job))

    def _judged(self, context: TaskContext, job: Job) -> Tensor:
        teacher = teacher_of(context, context.task.guidance_inputs.teacher).model(job)
        assert context.task.loss is not None
        return losses(teacher, context.pairs.dataset(), context.task.loss)
