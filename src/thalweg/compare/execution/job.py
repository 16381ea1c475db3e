"""What an engine is given and what it gives back."""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from thalweg.compare.execution.cannot_run import CannotRun
from thalweg.compare.storage.result import Curve, TrialResult
from thalweg.compare.strategy import Strategy
from thalweg.compare.user_errors import user_errors


@dataclass(frozen=True)
class Job:
    """One stretch of one trial: a configuration under a seed, from step ``start`` to step ``stop``.

    ``total`` is the length of the whole run, of which ``prepared`` gradient evaluations are spent before the first
    step, on a teacher or on pretraining; the schedule spans the rest. ``evaluate_every`` spaces the points of the
    learning curve; ``test`` asks for the test metric at the end. ``snapshot`` holds the parameters and state at
    ``start``, None for a fresh run. ``limit`` bounds the seconds that this stretch may take.
    """

    key: str
    strategy: Strategy
    hyper: Mapping[str, float]
    seed: int
    start: int
    stop: int
    total: int
    evaluate_every: int
    test: bool = False
    snapshot: Mapping[str, Tensor] | None = None
    first_loss: float | None = None
    prepared: int = 0
    limit: float | None = None

    def next_event(self, t: int) -> int:
        """Returns the next step after ``t`` at which the run is evaluated: grid points and its end."""
        return min(self.stop, (t // self.evaluate_every + 1) * self.evaluate_every)


def diverged_before_start(job: Job) -> TrialResult:
    """Returns the result of a job that diverged in what comes before its first step."""
    return TrialResult(job.key, "diverged", job.prepared, Curve(), math.nan)


def could_not_run(job: Job, step: int, failure: CannotRun) -> TrialResult:
    """Returns the result of a job whose optimizer cannot train the model."""
    return TrialResult(job.key, "could not run", step, Curve(), math.nan, reason=str(failure))


Progress = Callable[[int], None]  # receives the number of trial-steps that were done
ResultCallback = Callable[[Sequence[TrialResult]], None]  # given results as they come; may drop their snapshots


def ignore_results(results: Sequence[TrialResult]) -> None:
    """Leaves the results to the end."""


class Engine(Protocol):
    """Runs jobs; the order of the results is the order of the jobs.

    Results that come together were trained together: the jobs that are left, given again in their order, have the
    results that they would have had, bit for bit.
    """

    name: str

    def run(
        self, jobs: Sequence[Job], progress: Progress, on_results: ResultCallback = ignore_results
    ) -> list[TrialResult]:
        """Trains every job to its end."""
        ...


def training() -> AbstractContextManager[None]:
    """Returns what runs its body, which runs the user's code. Raises TaskError, a line, where that raises anything."""
    return user_errors("training", "correct it, and resume with the same command")
