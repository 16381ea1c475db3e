"""Transfer: the first blocks come from the model of a related task, which a quarter of the run trains."""

from collections.abc import Sequence

from torch import nn

from thalweg.compare.execution.context import TaskContext
from thalweg.compare.execution.guidance.guidance import Guidance
from thalweg.compare.execution.guidance.staging import stage_of
from thalweg.compare.execution.guidance.teacher import Teacher
from thalweg.compare.execution.job import Job
from thalweg.compare.strategy import Strategy
from thalweg.compare.user_errors import TaskError
from thalweg.pretraining import transfer
from thalweg.pretraining.blocks import blocks_of
from thalweg.stages import Plan, Stage


class Transfer(Guidance):
    """What was taken is trained with the rest, at the same learning rate."""

    pretrains = True

    def charged(self, context: TaskContext, strategy: Strategy, total: int) -> dict[str, int]:
        source, model = self._source(context), context.fresh_model("default", 0)
        stage = stage_of(context, strategy, strategy.default_configuration(), 1, 0)
        other = source.own.fresh_model("default", 0)
        transfer(model, other, stage, self._parts(context, model), scheme=None)  # refuses what does not fit
        return {"related task": source.charged(total, looks=False)["teacher"]}

    def plan(self, context: TaskContext, job: Job, model: nn.Module, stage: Stage) -> Plan:
        return transfer(
            model, self._source(context).model(job), stage, self._parts(context, model), rate=1.0, scheme=None
        )

    def _source(self, context: TaskContext) -> Teacher:
        source = context.task.guidance_inputs.source
        if source is None:
            raise TaskError(
                "transfer needs the model of a related task: give Task(guidance_inputs=GuidanceInputs(source=...))"
            )
        return context.cached(("source", id(source)), lambda: Teacher(context, source(), alike=True))

    def _parts(self, context: TaskContext, model: nn.Module) -> int | Sequence[str]:
        parts = context.task.guidance_inputs.parts
        return parts if parts is not None else len(blocks_of(model)) // 2
