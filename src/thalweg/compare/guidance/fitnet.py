"""FitNets: a teacher is trained, its hints lead the model's first half, and its softened answers help it after that."""

from typing import Any

import torch
from torch import Tensor, nn

from thalweg.compare.engines.job import Job, Workshop
from thalweg.compare.guidance.guidance import Guidance, Objective
from thalweg.compare.guidance.staging import stage_of
from thalweg.compare.guidance.teacher import SHARE, Teacher, teacher_of
from thalweg.compare.strategy import Strategy
from thalweg.compare.theirs import TaskError
from thalweg.pretraining import HintTraining
from thalweg.stages import Plan, Stage
from thalweg.tensors import generator


class FitNet(Guidance):
    """A quarter of the run trains the teacher, an eighth the hints; τ = 3, λ from 4 to 1 as in Romero et al. 2014."""

    pretrains = True
    reason = "a teacher's answers are part of its objective"

    def charged(self, shop: Workshop, strategy: Strategy, total: int) -> dict[str, int]:
        teacher, model = self._teacher(shop), shop.fresh_model("default", 0)
        stage = stage_of(shop, strategy, strategy.default_configuration(), 1, 0)
        _hints(shop, teacher.own.fresh_model("default", 0), model, 0).plan(stage, 1)  # refuses what cannot be joined
        return {**teacher.charged(total, looks=True), "hints": _steps(total)}

    def objective(self, shop: Workshop, job: Job, model: nn.Module) -> Objective:
        plan = self.plan(shop, job, model, self.stage(shop, job))
        x, y = shop.data.train_x, shop.data.train_y
        teacher = self._teacher(shop).model(job)
        answers = shop.kept(("answers", id(teacher)), lambda: _answers(teacher, x))
        whole, learned = plan.model.train(), plan.stages[-1].objective
        return lambda rows, t: learned(whole, (x[rows], y[rows], answers[rows]), t - job.prepared)

    def plan(self, shop: Workshop, job: Job, model: nn.Module, stage: Stage) -> Plan:
        teacher = self._teacher(shop).model(job)
        return _hints(shop, teacher, model, job.seed).plan(stage, _steps(job.total))

    def _teacher(self, shop: Workshop) -> Teacher:
        guides = shop.task.guides
        if guides.teacher is None or not guides.hint or not guides.guided:
            raise TaskError(
                "fitnet takes a teacher, a layer of it and one of the model: "
                "give Task(guides=Guides(teacher=..., hint=..., guided=...))"
            )
        return teacher_of(shop, guides.teacher)


def _hints(shop: Workshop, teacher: nn.Module, model: nn.Module, seed: int) -> HintTraining:
    guides = shop.task.guides
    return HintTraining(teacher, model, guides.hint, guides.guided, generator=generator(seed, "regressors"))


def _steps(total: int) -> int:
    return max(1, total // SHARE // 2)


def _answers(teacher: nn.Module, x: Any) -> Tensor:
    with torch.no_grad():
        return torch.cat([teacher(part) for part in x.split(1024)])
