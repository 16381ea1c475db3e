"""The engine that runs a training loop of the user's own, one trial at a time."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import nn

from thalweg.compare.design import Budget
from thalweg.compare.execution.cannot_run import CannotRun
from thalweg.compare.execution.choice import Choice
from thalweg.compare.execution.divergence import LoopDiverged
from thalweg.compare.execution.job import Job, Progress, ResultCallback, could_not_run, ignore_results
from thalweg.compare.execution.loop.run import Run
from thalweg.compare.execution.shortage import TookTooLong, within
from thalweg.compare.storage.result import Curve, TrialResult
from thalweg.compare.strategy import Strategy
from thalweg.compare.strategy.variants import Variant
from thalweg.compare.task.loop import TrainingLoop
from thalweg.compare.user_errors import TaskError, user_errors
from thalweg.optim.decay import Decay
from thalweg.optim.roles import Role, parameter_roles
from thalweg.tensors import derive_seed
from thalweg.tensors.draws import own_draws

TINY = 1e-6  # learning rate of a loop that is tried, beside the default one by which it diverges
TRIED = 4  # batches of the run that tries a loop
TIMED = 12  # batches of a run that measures a step
SHORT = 1e-3  # seconds of a step that ended before it was measured
REASON = "a training loop of your own trains one model at a time"


@dataclass(frozen=True)
class Tried:
    """What the first batches of a loop show.

    Attributes:
        task: with the name of its metric.
        parameters: number of trained parameters.
        model: its modules as text.
        roles: what its parameters are to it, as far as its modules show.
        start: first trained parameters, by which a study is told from another.
        usual: the largest loss, beside which a later one is judged.
        groups: settings that parameters have of their own, in words.
    """

    task: TrainingLoop
    parameters: int
    model: str
    roles: Mapping[str, Role]
    start: Sequence[torch.Tensor]
    usual: float
    groups: Sequence[str]


class Loops:
    """Runs jobs of a training loop one after another."""

    name = "serial"

    def __init__(self, task: TrainingLoop, device: torch.device, decay: Decay, usual: float = 0.0) -> None:
        self.task, self.device, self.decay, self.usual = task, device, decay, usual
        if device.type == "cuda":
            torch.cuda.init()  # so that its generators are seeded before the loop's first model is there

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
        """Returns the median seconds of a batch of the job, evaluation left out; NaN of what cannot run it."""
        try:
            return self.timed(job)
        except CannotRun:
            return math.nan

    def timed(self, job: Job) -> float:
        """Returns what :meth:`seconds_per_step` does; may raise :class:`CannotRun`."""
        steps = min(TIMED, job.total)
        run = self._trained(replace(job, stop=steps, evaluate_every=steps))
        return median(run.seconds[1:-1] or run.seconds or [SHORT])

    def untrained_test(self, scheme: str, seed: int) -> float:
        """Returns the test metric of the model before any step; NaN where the loop tests what a batch has left."""
        some = Strategy.parse("sgd")
        job = Job("untrained", some, some.stepping(some.default_configuration()), seed, 0, 0, 1, 1, test=True)
        try:
            found = self._trained(job).test
        except TaskError:
            return math.nan
        return math.nan if found is None else found

    def constant_test(self) -> float:
        """Returns NaN: which constant model is best is not known."""
        return math.nan

    def tried(self, strategy: Strategy) -> Tried:
        """Returns what a short run shows. Raises TaskError where the loop does not do what a run needs."""
        hyper = strategy.stepping(strategy.default_configuration())
        job = Job("tried", strategy, hyper, 0, 0, TRIED, TRIED, TRIED // 2, test=True)
        run = self._trained(job, math.inf, note_at=TRIED // 2)
        if run.diverged is not None:  # by the learning rate, or there is no loss that is a number
            job = replace(job, hyper={**hyper, "lr": hyper.get("lr", 0.0) * TINY})
            run = self._trained(job, math.inf, note_at=TRIED // 2)
        if run.diverged is not None:
            raise TaskError(
                f"the loss that the loop gives run.loss is no finite number in batch {run.diverged}: check the loss "
                "and the scale of the inputs"
            )
        models = [value for value in run.state.objects.values() if isinstance(value, nn.Module)]
        trained = [p for group in run.state.objects["optimizer"].param_groups for p in group["params"]]
        if not models:
            raise TaskError(
                "the loop registers no model: call run.optimizer(model), or run.track(model=model) beside groups of "
                "parameters"
            )
        task = replace(self.task, metric=run.metric)
        assert task.direction  # or what is better is not known
        self._check_repeats(run, job)
        shuffled = self._trained(replace(job, stop=TRIED // 2, test=False), math.inf, is_shuffled=True)
        usual = max(run.largest_loss, shuffled.largest_loss)
        start = [p.detach().cpu() for p in trained[:1]]
        groups = [*task.grouping.lines(run.state.objects["model"])] if task.grouping else []
        count, roles = sum(p.numel() for p in trained), parameter_roles(models[0])
        return Tried(task, count, str(models[0]), roles, start, usual, groups)

    def _check_repeats(self, straight: Run, job: Job) -> None:
        """Raises TaskError where the loop does something else when it is called again, or goes on after a pause."""
        half, held, loss = job.evaluate_every, straight.state.noted, straight.first_loss
        rest = self._trained(replace(job, start=half, snapshot=held, first_loss=loss), math.inf, note_at=half)
        begun, again = (run.state.initial for run in (straight, rest))
        alike = len(begun) == len(again) and all(a.shape == b.shape for a, b in zip(begun, again, strict=True))
        goes_on = self._are_equal(_last(straight), _last(rest))
        if goes_on and alike and all(map(torch.equal, begun, again)):
            return
        first = self._trained(replace(job, stop=half, test=False), math.inf)
        if not self._are_equal([straight.first_loss or 0.0], [first.first_loss or 0.0]):
            raise TaskError(
                f"the loop does something else when it is called again with the same seed (first loss "
                f"{straight.first_loss:g}, then {first.first_loss:g}): make whatever it changes in it, the model too, "
                "and draw from the generators of torch, NumPy and Python"
            )
        if not goes_on:
            raise TaskError(
                "the loop does not go on where it was when it is interrupted: call run.track(name=...) with whatever "
                "it changes beside the model, such as a mean of weights, and take batches of two loaders from "
                "run.batches(lambda seed: zip(one, two))"
            )

    def _are_equal(self, one: Sequence[float], two: Sequence[float]) -> bool:
        bound = 1e-6 if self.device.type == "cpu" else 0.1  # kernels of other devices need not be repeatable
        return bool(np.allclose(one, two, bound, bound, equal_nan=True))

    def _one(self, job: Job, progress: Progress) -> TrialResult:
        run = self._run(job, self.usual)
        run.progress = progress
        try:
            with within(job.limit):
                self._call(run, job)
        except TookTooLong:
            return TrialResult(job.key, "timed out", job.start, Curve(), math.nan)
        except CannotRun as failure:
            return could_not_run(job, run.step, failure)
        except LoopDiverged as diverged:
            first = math.nan if run.first_loss is None else run.first_loss
            return TrialResult(job.key, "diverged", diverged.step, run.curve, first)
        assert run.first_loss is not None
        if not run.has_stepped and (job.start, job.stop) == (0, job.total):
            raise TaskError("the loop never calls optimizer.step(): call it on what run.optimizer returns")
        return TrialResult(job.key, "finished", run.step, run.curve, run.first_loss, run.test, run.state.held)

    def _trained(
        self, job: Job, usual: float | None = None, is_shuffled: bool = False, note_at: int | None = None
    ) -> Run:
        """Returns the run of a job, which may have diverged."""
        run = self._run(job, self.usual if usual is None else usual, is_shuffled)
        run.state.note_at = note_at
        try:
            self._call(run, job)
        except LoopDiverged as diverged:
            run.diverged = diverged.step
        return run

    def _run(self, job: Job, usual: float, is_shuffled: bool = False) -> Run:
        task = self.task
        return Run(job, self.device, self.decay, task.metric, usual, is_shuffled, task.grouping)

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


def _last(run: Run) -> list[float]:
    """Returns the last point of the run's curve, and its test."""
    curve, test = run.curve, math.nan if run.test is None else run.test
    return [curve.train_loss[-1], curve.valid_loss[-1], curve.valid_metric[-1], test]


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
        """Measures a batch of each strategy.

        Raises:
            ValueError: no strategy can train the model.
        """
        self._try(self.strategies, seed)

    def extend(self, stored: Sequence[dict[str, Any]], added: Sequence[str], seed: int) -> None:
        """Takes up stored choices, and measures a batch of the strategies of these names.

        Raises:
            ValueError: none of them can train the model.
        """
        self.reuse(stored)
        self._try([strategy for strategy in self.strategies if strategy.name in added], seed)

    def _try(self, strategies: Sequence[Strategy], seed: int) -> None:
        failures = list[ValueError]()
        for strategy in strategies:
            steps = self.budget.of(strategy.name).steps
            hyper = strategy.stepping(strategy.default_configuration())
            job = Job("specimen", strategy, hyper, derive_seed(seed, "specimen") % 2**31, 0, steps, steps, steps)
            try:
                self.choices.append(Choice(strategy.name, "serial", REASON, 1 / self.loops.timed(job)))
            except CannotRun as failure:
                failures.append(failure.refusal(strategy.name))
                self.choices.append(Choice.of_failure(strategy.name, failure))
        if failures and len(failures) == len(strategies):
            raise failures[0]

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
