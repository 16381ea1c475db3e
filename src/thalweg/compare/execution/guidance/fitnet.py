"""FitNets: a teacher is trained, its hints lead the model's first half, and its softened answers help it after that."""

from torch import nn

from thalweg.compare.execution.context import TaskContext
from thalweg.compare.execution.guidance.guidance import Guidance, Objective
from thalweg.compare.execution.guidance.staging import stage_of
from thalweg.compare.execution.guidance.teacher import SHARE, Teacher, teacher_of
from thalweg.compare.execution.job import Job
from thalweg.compare.strategy import Strategy
from thalweg.compare.user_errors import TaskError
from thalweg.pretraining import HintTraining
from thalweg.stages import Plan, Stage
from thalweg.tensors import generator


class FitNet(Guidance):
    """A quarter of the run trains the teacher, an eighth the hints; τ = 3, λ from 4 to 1 as in Romero et al. 2014."""

    pretrains = True
    reason = "its objective includes the outputs of a teacher"

    def charged(self, context: TaskContext, strategy: Strategy, total: int) -> dict[str, int]:
        teacher, model = self._teacher(context), context.fresh_model("default", 0)
        stage = stage_of(context, strategy, strategy.default_configuration(), 1, 0)
        _hints(context, teacher.own.fresh_model("default", 0), model, 0).plan(stage, 1)  # refuses what cannot be joined
        return {**teacher.charged(total, looks=True), "hints": _steps(total)}

    def objective(self, context: TaskContext, job: Job, model: nn.Module) -> Objective:
        plan = self.plan(context, job, model, self.stage(context, job, model))
        train, teacher = context.pairs, self._teacher(context).model(job)
        answers = context.cached(("answers", id(teacher)), lambda: train.evaluate(teacher, lambda output, _: output))
        taught, whole, learned = train.beside(answers), plan.model.train(), plan.stages[-1].objective
        return lambda rows, t: learned(whole, taught.batch(rows), t - job.prepared)

    def plan(self, context: TaskContext, job: Job, model: nn.Module, stage: Stage) -> Plan:
        teacher = self._teacher(context).model(job)
        return _hints(context, teacher, model, job.seed).plan(stage, _steps(job.total))

    def _teacher(self, context: TaskContext) -> Teacher:
        inputs = context.task.guidance_inputs
        if inputs.teacher is None or not inputs.hint or not inputs.guided:
            raise TaskError(
                "fitnet needs a teacher, a layer of the teacher and a layer of the model: give "
                "Task(guidance_inputs=GuidanceInputs(teacher=..., hint=..., guided=...))"
            )
        return teacher_of(context, inputs.teacher)


def _hints(context: TaskContext, teacher: nn.Module, model: nn.Module, seed: int) -> HintTraining:
    inputs = context.task.guidance_inputs
    return HintTraining(teacher, model, inputs.hint, inputs.guided, generator=generator(seed, "regressors"))


def _steps(total: int) -> int:
    return max(1, total // SHARE // 2)
