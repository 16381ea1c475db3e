"""The engine that runs a training loop of the user's own, one trial at a time."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import torch
from torch import nn

from thalweg.compare.design import Budget
from thalweg.compare.execution.job import Job, Progress, ResultCallback, ignore_results
from thalweg.compare.execution.loop.run import LoopDiverged, Run
from thalweg.compare.execution.selection import Choice
from thalweg.compare.execution.shortage import TookTooLong, within
from thalweg.compare.storage.result import Curve, TrialResult
from thalweg.compare.strategy import Strategy
from thalweg.compare.strategy.variants import Variant
from thalweg.compare.task.loop import TrainingLoop
from thalweg.compare.task.reading import own_draws
from thalweg.compare.user_errors import TaskError, user_errors
from thalweg.optim.decay import Decay
from thalweg.tensors import derive_seed

TRIED = 4  # batches of the run that tries a loop
TIMED = 12  # batches of a run that measures a step
REASON = "a training loop of your own trains one model at a time"


@dataclass(frozen=True)
class Tried:
    """What the first batches of a loop show.

    Attributes:
        task: with the name of its metric.
        parameters: number of trained parameters.
        model: its modules as text.
        start: first trained parameters, by which a study is told from another.
        usual: the largest loss, beside which a later one is judged.
    """

    task: TrainingLoop
    parameters: int
    model: str
    start: Sequence[torch.Tensor]
    usual: float


class Loops:
    """Runs jobs of a training loop one after another."""

    name = "serial"

    def __init__(self, task: TrainingLoop, device: torch.device, decay: Decay, usual: float = 0.0) -> None:
        self.task, self.device, self.decay, self.usual = task, device, decay, usual

    def run(
        self, jobs: Sequence[Job], progress: Progress, on_results: ResultCallback = ignore_results
    ) -> list[TrialResult]:
        """Runs every job to its end."""
        results = []
        for job in jobs:
            results.append(self._one(job, progress))
            on_results(results[-1:])
        return results

    def seconds_per_step(self, job: Job) -> float:
        """Returns the median seconds of a batch of the job, evaluation left out."""
        steps = min(TIMED, job.total)
        run = self._trained(replace(job, stop=steps, evaluate_every=steps))
        return median(run.seconds[1:-1] or run.seconds)

    def untrained_test(self, scheme: str, seed: int) -> float:
        """Returns the test metric of the model before any step."""
        some = Strategy.parse("sgd")
        job = Job("untrained", some, some.stepping(some.default_configuration()), seed, 0, 0, 1, 1, test=True)
        return math.nan if (found := self._trained(job).test) is None else found

    def constant_test(self) -> float:
        """Returns NaN: which constant model is best is not known."""
        return math.nan

    def tried(self, strategy: Strategy) -> Tried:
        """Returns what a short run shows. Raises TaskError where the loop does not do what a run needs."""
        hyper = strategy.stepping(strategy.default_configuration())
        job = Job("tried", strategy, hyper, 0, 0, TRIED, TRIED, TRIED // 2, test=True)
        run = self._trained(job)
        models = [value for value in run.state.objects.values() if isinstance(value, nn.Module)]
        trained = [p for group in run.state.objects["optimizer"].param_groups for p in group["params"]]
        if not models:
            raise TaskError(
                "the loop registers no model: call run.optimizer(model), or run.track(model=model) beside groups of "
                "parameters"
            )
        task = replace(self.task, metric=run.metric)
        assert task.direction  # or what is better is not known
        start = [p.detach().cpu() for p in trained[:1]]
        return Tried(task, sum(p.numel() for p in trained), str(models[0]), start, run.largest_loss)

    def _one(self, job: Job, progress: Progress) -> TrialResult:
        run = Run(job, self.device, self.decay, self.task.metric, self.usual)
        run.progress = progress
        try:
            with within(job.limit):
                self._call(run, job)
        except TookTooLong:
            return TrialResult(job.key, "timed out", job.start, Curve(), math.nan)
        except LoopDiverged as diverged:
            first = math.nan if run.first_loss is None else run.first_loss
            return TrialResult(job.key, "diverged", diverged.step, run.curve, first)
        assert run.first_loss is not None
        return TrialResult(job.key, "finished", run.step, run.curve, run.first_loss, run.test, run.state.held)

    def _trained(self, job: Job) -> Run:
        run = Run(job, self.device, self.decay, self.task.metric, self.usual)
        self._call(run, job)
        return run

    def _call(self, run: Run, job: Job) -> None:
        with user_errors("the training loop"), own_draws(derive_seed(job.seed, "loop") % 2**63):
            self.task.train(run)
        if run.step < job.stop:
            raise TaskError(
                f"the training loop has ended after {run.step} of {job.stop} batches: iterate over run.batches(loader) "
                "to its end"
            )
        if job.test and run.test is None:
            raise TaskError("the training loop reports no test result: call run.report(test=...) after the last batch")


class LoopEngines:
    """The engine of a study of a training loop, as an :class:`~thalweg.compare.execution.engine_set.EngineSet`."""

    def __init__(self, loops: Loops, strategies: Sequence[Strategy], budget: Budget) -> None:
        self.loops, self.strategies, self.budget = loops, strategies, budget
        self.choices: list[Choice] = []

    def connect(self) -> None:
        """Does nothing: this process trains."""

    def close(self) -> None:
        """Does nothing: the process stays."""

    def choose(self, seed: int) -> None:
        """Measures a batch of each strategy."""
        steps = self.budget.steps
        for strategy in self.strategies:
            hyper = strategy.stepping(strategy.default_configuration())
            job = Job("specimen", strategy, hyper, derive_seed(seed, "specimen") % 2**31, 0, steps, steps, steps)
            self.choices.append(Choice(strategy.name, "serial", REASON, 1 / self.loops.seconds_per_step(job)))

    def choose_again(self, seed: int, rung: int) -> None:
        """Does nothing: there is one engine."""

    def reuse(self, stored: Sequence[dict[str, Any]]) -> None:
        """Takes up the choices that the store recorded."""
        self.choices = [Choice(**choice) for choice in stored]

    def engine_of(self, strategy: Strategy) -> Loops:
        """Returns the engine."""
        return self.loops

    def serial_of(self, strategy: Strategy) -> Loops:
        """Returns the engine."""
        return self.loops


def check_strategies(strategies: Sequence[Strategy]) -> None:
    """Raises ValueError where a strategy changes more than the optimizer and its schedule, which a loop asks for."""
    for strategy in strategies:
        if strategy.closure:
            raise ValueError(
                f"strategy {strategy.name!r} evaluates the loss several times a step, and a training loop does it "
                "once: compare it by thalweg.Task(step=...)"
            )
        plain = strategy.variant == Variant() and strategy.initialization == "default"
        if not plain or strategy.guidance != "none" or strategy.averaging != "none":
            raise ValueError(
                f"strategy {strategy.name!r} changes more than the optimizer and its schedule, which is what a "
                "training loop takes: omit those words, or compare it by thalweg.Task(step=...)"
            )
