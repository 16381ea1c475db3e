"""Greedy supervised pretraining: a quarter of the run goes to the hidden blocks, one after another."""

from torch import nn

from thalweg.compare.execution.context import TaskContext
from thalweg.compare.execution.guidance.guidance import Guidance
from thalweg.compare.execution.guidance.staging import stage_of
from thalweg.compare.execution.job import Job
from thalweg.compare.strategy import Strategy
from thalweg.pretraining import greedy
from thalweg.stages import Plan, Stage
from thalweg.tensors import generator

SHARE = 4


class Greedy(Guidance):
    """Each block's stage has the strategy's optimizer, configuration and schedule; so has the joint one after them."""

    pretrains = True

    def charged(self, context: TaskContext, strategy: Strategy, total: int) -> dict[str, int]:
        plan = self._plan(
            context, context.model, stage_of(context, strategy, strategy.default_configuration(), 1, 0), 1, 0
        )
        blocks = len(plan.stages) - 1
        return {"pretraining": max(1, total // SHARE // blocks) * blocks}

    def plan(self, context: TaskContext, job: Job, model: nn.Module, stage: Stage) -> Plan:
        blocks = len(self._plan(context, model, stage, 1, job.seed).stages) - 1
        return self._plan(context, model, stage, job.prepared // blocks, job.seed)

    def _plan(self, context: TaskContext, model: nn.Module, stage: Stage, steps: int, seed: int) -> Plan:
        heads = generator(seed, "heads")
        return greedy(model, stage, steps, blocks=context.task.guidance_inputs.blocks, generator=heads)
