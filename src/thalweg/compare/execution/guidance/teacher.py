"""A teacher: a model that is trained first for the sake of another, and what it costs in gradients of the other."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from thalweg.compare.execution.context import TaskContext
from thalweg.compare.execution.guidance.staging import stage_of
from thalweg.compare.execution.job import Job
from thalweg.compare.strategy import Strategy
from thalweg.compare.task import Task, build_model, materialize, try_model
from thalweg.tensors import derive_seed
from thalweg.training import train

SHARE = 4  # a teacher is given one gradient evaluation of so many
FORWARD = 3  # a gradient costs about three times what the output alone does
TEACHING = "adam@cosine"
RATE = {"lr": 3e-3}


class Teacher:
    """Builds and trains a teacher for the runs of a task's model.

    Arguments:
        context: of the model that is taught.
        task: what the teacher learns.
        trained: whether its model is trained already: it is then neither trained nor charged.
        alike: whether it is a model like the one that is taught, and starts as the strategy says.
    """

    def __init__(self, context: TaskContext, task: Task, trained: bool = False, alike: bool = False) -> None:
        self.context, self.trained, self.alike = context, trained, alike
        self.own = context if task is context.task else _context(context, task)
        self.price = 1.0 if task is context.task else _operations(self.own) / _operations(context)

    def charged(self, total: int, looks: bool) -> dict[str, int]:
        """Returns what it costs a run, in gradients of the model: its training, and a look at each training example."""
        costs = {} if self.trained else {"teacher": total // SHARE}
        batches = math.ceil(len(self.context.pairs) / self.context.task.batch_size)
        return costs | ({"teacher's outputs": math.ceil(batches * self.price / FORWARD)} if looks else {})

    def model(self, job: Job) -> nn.Module:
        """Returns the teacher of a run, trained once for its seed; a given one is copied."""
        if self.trained:
            return self.context.cached(("teacher", id(self.own)), self._given)
        scheme = job.strategy.initialization if self.alike else "default"
        key = ("teacher", id(self.own), scheme, job.total, job.seed)
        return self.context.cached(key, partial(self._taught, scheme, job.total, job.seed))

    def _given(self) -> nn.Module:
        return build_model(self.own.task).to(self.context.device).eval()  # a copy, as it is

    def _taught(self, scheme: str, total: int, seed: int) -> nn.Module:
        strategy, own = Strategy.parse(TEACHING), derive_seed(seed, "teacher")
        model = self.own.fresh_model(scheme, own)
        hyper = strategy.default_configuration() | RATE
        steps = max(1, int(total // SHARE / self.price))
        parameters = self.own.task.grouping.settings(model)
        train(model, [stage_of(self.own, strategy, hyper, steps, own, own=parameters)], seed=own)
        return model.eval()


def teacher_of(context: TaskContext, source: Callable[[], nn.Module] | nn.Module | None) -> Teacher:
    """Returns the teacher that a function builds, a trained module, or by default the task's own model trained."""

    def made() -> Teacher:
        if source is None:
            return Teacher(context, context.task, alike=True)
        other = replace(context.task, model=source, no_decay=False, groups={})  # which name the model's parameters
        return Teacher(context, other, trained=isinstance(source, nn.Module))

    return context.cached(("teacher of", id(source)), made)


def _context(context: TaskContext, task: Task) -> TaskContext:
    if task.train is context.task.train:
        try_model(task, context.data)
        return TaskContext(task, context.data, context.device, context.decay)
    return TaskContext(task, materialize(task), context.device, context.decay)


def _operations(context: TaskContext) -> int:
    """Returns the floating-point operations of a batch's output, at least 1."""
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        context.fresh_model("default", 0)(context.pairs.first(context.task.batch_size).input)
    return max(1, counter.get_total_flops())
