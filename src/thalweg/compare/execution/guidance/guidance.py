"""Training without guidance, and what a guidance may change of it."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from thalweg.compare.execution.context import TaskContext
from thalweg.compare.execution.guidance.staging import stage_of
from thalweg.compare.execution.job import Job
from thalweg.compare.execution.trial_state import TrialState
from thalweg.compare.strategy import Strategy
from thalweg.stages import Plan, Stage
from thalweg.tensors import derive_seed
from thalweg.training import Diverged, train

Objective = Callable[[Tensor, int], Tensor]  # (rows, gradient evaluations before this step) -> loss


class Guidance:
    """No guidance: every method is what unguided training does.

    Attributes:
        pretrains: whether the model is trained before the run's own steps.
        reason: why runs have an objective of their own, which lanes do not share; empty where they do not.
    """

    pretrains = False
    reason = ""

    def charged(self, context: TaskContext, strategy: Strategy, total: int) -> dict[str, int]:
        """Returns what a run of ``total`` gradient evaluations spends before its first step, by what it is for.

        Raises:
            ValueError: the task lacks what the guidance takes from it, or the run is too short.
        """
        return {}

    def plan(self, context: TaskContext, job: Job, model: nn.Module, stage: Stage) -> Plan:
        """Returns the run as a plan for the training loop, whose last stage is the job's own steps.

        Arguments:
            stage: the strategy on the task, for as many steps.
        """
        return Plan(model, [stage])

    def pretrained(self, context: TaskContext, job: Job) -> nn.Module:
        """Returns the model as the run's own steps find it; may raise :class:`Diverged`."""
        model = context.fresh_model(job.strategy.initialization, job.seed)
        plan = self.plan(context, job, model, self.stage(context, job, model))
        if plan.stages[:-1]:
            train(plan.model, plan.stages[:-1], seed=derive_seed(job.seed, "pretraining"))
        return model

    def stage(self, context: TaskContext, job: Job, model: nn.Module) -> Stage:
        """Returns the job's own steps as a stage, without an average: what is judged is the engine's business."""
        own, steps = context.task.grouping.settings(model), job.total - job.prepared
        stage = stage_of(context, job.strategy, dict(job.hyper), steps, job.seed, own=own)
        return replace(stage, average=None)

    def rows(self, context: TaskContext, job: Job, start: int, stop: int) -> Tensor:
        """Returns row numbers ``(stop - start, batch)`` of the minibatches of a stretch of the run."""
        return context.batches(job.seed, start - job.prepared, stop - job.prepared)

    def minibatches(self, context: TaskContext, job: Job, start: int, stop: int) -> Tensor:
        """Returns the rows of a stretch of the run, of which each gradient of one step has the same."""
        rule = job.strategy.rule
        begin = job.prepared
        if rule is None or rule.evaluations == 1:
            return self.rows(context, job, start, stop)
        return repeated(
            rule.evaluations,
            start - begin,
            stop - begin,
            lambda first, last: self.rows(context, job, begin + first, begin + last),
        )

    def objective(self, context: TaskContext, job: Job, model: nn.Module) -> Objective:
        """Returns the loss of a minibatch."""
        return lambda rows, t: context.task.loss_and_output(model, context.data.train.batch(rows))[0]

    def steps_at(self, job: Job, t: int) -> bool:
        """Returns whether the optimizer steps with the evaluation after the first ``t``."""
        return True


def repeated(count: int, start: int, stop: int, rows: Callable[[int, int], Tensor]) -> Tensor:
    """Returns rows ``(stop - start, …)`` of gradients, of which ``count`` after another have the same minibatch.

    >>> repeated(2, 1, 5, lambda first, last: torch.arange(first, last)).tolist()
    [0, 1, 1, 2]
    """
    first = start // count
    return rows(first, -(-stop // count))[torch.arange(start, stop) // count - first]


def after_pretraining(context: TaskContext, guidance: Guidance, job: Job) -> Job | None:
    """Returns the job as its own steps find it, pretrained where it has not begun; None where that diverged."""
    if job.snapshot is not None or not guidance.pretrains:
        return job
    try:
        model = guidance.pretrained(context, job)
    except Diverged:
        return None
    return replace(job, snapshot=TrialState.of_model(model, context.layout, context.kept).encode())
