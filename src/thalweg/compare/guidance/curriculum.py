"""Curricula: which examples the minibatches are drawn from, as the run goes on."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain, islice, repeat
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from thalweg.compare.engines.job import Job, Workshop
from thalweg.compare.guidance.guidance import Guidance
from thalweg.compare.guidance.teacher import teacher_of
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

    def charged(self, shop: Workshop, strategy: Strategy, total: int) -> dict[str, int]:
        guides = shop.task.guides
        if guides.difficulty is not None:
            check(guides.difficulty, shop.data.train_x)
        if guides.difficulty is not None or self.order == "random":
            return {}
        return teacher_of(shop, guides.teacher).charged(total, looks=True)

    def rows(self, shop: Workshop, job: Job, start: int, stop: int) -> Tensor:
        key = ("curriculum", job.strategy.name, tuple(job.hyper.items()), job.seed, job.total)
        at, stream = shop.kept(key, lambda: (-1, iter(())))
        if at != start:
            stream = self._stream(shop, job, start - job.prepared)
        batch = shop.task.batch_size
        rows = list(islice(stream, (stop - start) * batch))
        shop.keep(key, (stop, stream), STREAMS)
        return torch.tensor(rows, device=shop.device).view(-1, batch)

    def plan(self, shop: Workshop, job: Job, model: nn.Module, stage: Stage) -> Plan:
        examples = TensorDataset(shop.data.train_x, shop.data.train_y)
        loader = DataLoader(examples, batch_size=shop.task.batch_size, sampler=self._sampler(shop, job))
        return Plan(model, [replace(stage, data=loader)])

    def _stream(self, shop: Workshop, job: Job, step: int) -> Iterator[int]:
        """Returns the endless stream of rows from a step on."""
        sampler = self._sampler(shop, job)
        if step:
            sampler.load_state_dict(sampler.state_dict(step))
        return chain.from_iterable(repeat(sampler))

    def _sampler(self, shop: Workshop, job: Job) -> CurriculumSampler:
        batch = shop.task.batch_size
        return CurriculumSampler(
            self._difficulty(shop, job),
            Pacing("linear", START, max(1, round(job.hyper["over"] * (job.total - job.prepared)))),
            batch_size=batch,
            mixture=self.mixture,
            order=self.order,
            num_samples=len(shop.data.train_x) // batch * batch,
            seed=derive_seed(job.seed, "curriculum"),
        )

    def _difficulty(self, shop: Workshop, job: Job) -> Any:
        guides = shop.task.guides
        if guides.difficulty is not None:
            return guides.difficulty
        if self.order == "random":
            return torch.zeros(len(shop.data.train_x))
        key = ("difficulty", job.strategy.initialization, job.total, job.seed)
        return shop.kept(key, lambda: self._judged(shop, job))

    def _judged(self, shop: Workshop, job: Job) -> Tensor:
        teacher = teacher_of(shop, shop.task.guides.teacher).model(job)
        return losses(teacher, TensorDataset(shop.data.train_x, shop.data.train_y), shop.task.loss)
