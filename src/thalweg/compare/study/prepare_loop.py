"""What is known and chosen before the first trial of a study of a training loop of the user's own."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from thalweg.compare.arguments import check_whole
from thalweg.compare.design import Budget
from thalweg.compare.execution.cannot_run import CannotRun
from thalweg.compare.execution.engine_set import EngineSet
from thalweg.compare.execution.loop.engines import LoopEngines, Loops, Tried, check_strategies
from thalweg.compare.names import as_folder
from thalweg.compare.strategy import Strategy
from thalweg.compare.strategy.third_party import finds_in_words
from thalweg.compare.study.config import StudyConfig
from thalweg.compare.study.description import described, digest_of, study_of
from thalweg.compare.study.lengths import Lengths, budget_of, check_target
from thalweg.compare.study.notes import partners_in_words
from thalweg.compare.task.loop import TrainingLoop
from thalweg.compare.user_errors import TaskError
from thalweg.diagnosis import Diagnosis, Finding

NOT_DIAGNOSED = "the model was not diagnosed, since the training loop is your own"
VARIES = "a seed varies what the training loop draws from the global generators, and the order of its batches"


@dataclass(frozen=True)
class PreparedLoop:
    """A study of a training loop that can begin; see :class:`~thalweg.compare.study.prepare.Prepared`."""

    config: StudyConfig
    tried: Tried
    budget: Budget
    folder: Path
    device: torch.device

    @property
    def trained_on(self) -> str:
        """Name of the device that trains."""
        return str(self.device)

    @property
    def sign(self) -> float:
        """By what the metric is multiplied so that less is better."""
        return -1.0 if self.tried.task.direction == "max" else 1.0

    @property
    def charged(self) -> dict[str, dict[str, int]]:
        """What a run of each strategy spends before its first step: nothing."""
        return {s.name: {} for s in self.config.strategies}

    @property
    def spent(self) -> dict[str, int]:
        """How many gradient evaluations a run of each strategy spends before its first step."""
        return {s.name: 0 for s in self.config.strategies}

    @property
    def lines(self) -> list[str]:
        """What the user should know of the runs."""
        rates = [line for s in self.config.strategies for line in finds_in_words(s.name, s.factory, s.space)]
        return [VARIES, *self.tried.groups, *rates, *self.notes]

    @property
    def notes(self) -> list[str]:
        """What the optimizers of matrices step, in lines."""
        lines = partners_in_words(self.config.strategies, self.tried.roles)
        return [f"{line}, as the types of its modules show" for line in lines]

    def design(self) -> dict[str, Any]:
        """Returns what makes the study what it is."""
        task, unknown = self.tried.task, dict.fromkeys(("train_size", "valid_size", "test_size", "batch_size"))
        own = {"parameters": self.tried.parameters, "is_given": False, "model": self.tried.model, "guides": {}}
        digest = digest_of(self.tried.start, [task.source])
        whole = {**described(task), **unknown, **own, **task.grouping.described, "digest": digest}
        return study_of(whole, self.config, self.budget, self.trained_on)

    def only(self, names: Sequence[str], seeds: int) -> "PreparedLoop":
        """Returns the part of the study with strategies of these names, in their order, and so many seeds."""
        config = self.config.only(names, seeds)
        budget = budget_of(config, Lengths.of_budget(self.budget, names), self.spent)
        return replace(self, config=config, budget=budget)

    def engines(self, say: Callable[[str], None]) -> EngineSet:
        """Returns the engine of the study."""
        loops = Loops(self.tried.task, self.device, self.config.decay, self.tried.usual)
        return LoopEngines(loops, self.config.strategies, self.budget)

    def diagnosis(self) -> dict[str, Any]:
        """Returns that there is none."""
        return Diagnosis((Finding("not diagnosed", "note", "", math.nan, NOT_DIAGNOSED),)).as_dict()


def _tried(loops: Loops, strategies: Sequence[Strategy]) -> Tried:
    """Returns what the first strategy that can run shows of a loop. Raises ValueError where none can."""
    failures = []
    for strategy in strategies:
        try:
            return loops.tried(strategy)
        except CannotRun as failure:
            failures.append(failure.refusal(strategy.name))
    raise failures[0]


def prepare_loop(config: StudyConfig, task: TrainingLoop, device: torch.device) -> PreparedLoop:
    """Checks that every strategy can train a loop, and tries it.

    Raises:
        ValueError: one cannot, or the loop does not do what a run needs.
    """
    needing = {"--epochs": config.epochs, "--budget": config.budget, "--precision": config.precision}
    needing |= {"--accumulate": config.accumulate, "--clip-norm": config.clip_norm}
    for option, value in needing.items():
        if value is not None:
            raise ValueError(f"{option} needs a task, and this is a training loop: set it there")
    if config.engine in ("ray", "lanes"):
        raise ValueError(f"--engine {config.engine} cannot run a training loop of your own: use --engine auto")
    check_strategies(config.strategies)
    steps = config.steps if config.steps is not None else task.steps
    check_whole("steps", steps, kind=TaskError)
    task = task if config.no_decay is None else replace(task, no_decay=config.no_decay)
    task = task if config.target is None else replace(task, target=config.target)
    tried = _tried(Loops(task, device, config.decay), config.strategies)
    check_target(tried.task)
    budget = budget_of(config, Lengths(steps), {s.name: 0 for s in config.strategies})
    folder = config.here / (config.out if config.out is not None else f"thalweg-{as_folder(task.name)}")
    return PreparedLoop(config, tried, budget, folder, device)
