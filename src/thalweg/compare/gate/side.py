"""One side of a gate: a fixed recipe, trained once under each seed that is asked for."""

import hashlib
import json
import math
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from thalweg.compare.execution.job import Job, Progress, training
from thalweg.compare.execution.loop.engines import Loops
from thalweg.compare.execution.loop.run import Run as LoopRun
from thalweg.compare.execution.serial import Serial
from thalweg.compare.gate.runs import Run, check_metric
from thalweg.compare.storage.result import TrialResult
from thalweg.compare.storage.rows import number
from thalweg.compare.strategy import Strategy
from thalweg.compare.study.config import StudyConfig
from thalweg.compare.study.description import digest_of
from thalweg.compare.study.prepare import Prepared, prepare
from thalweg.compare.task import HeldSplit, Task
from thalweg.compare.task.loading import load_task
from thalweg.compare.task.loop import TrainingLoop
from thalweg.compare.user_errors import TaskError, is_users, user_errors

STRATEGY = "adam@cosine"


@dataclass(frozen=True)
class Recipe:
    """A task and how it is trained, without any tuning: one side of :func:`thalweg.gate`.

    Arguments:
        task: ``"my.py:task"``, the name of a built-in task, a :class:`thalweg.Task`, or a training loop: a function of
            a :class:`thalweg.Run`, ``"my.py:train"``, or a :class:`thalweg.TrainingLoop`.
        strategy: the name of a strategy, see :meth:`Strategy.parse`, or a :class:`thalweg.Strategy`.
        settings: hyperparameters in place of the strategy's default ones, such as ``{"lr": 0.01}``.
        steps: gradient evaluations of a run; by default the task's own.

    >>> Recipe("digits", "sgd", {"lr": 0.1}).configured(Path()).default_configuration()["lr"]
    0.1
    """

    task: str | Task | TrainingLoop | Callable[[LoopRun], None]
    strategy: str | Strategy = STRATEGY
    settings: Mapping[str, float | str] = field(default_factory=dict)
    steps: int | None = None

    def configured(self, here: Path) -> Strategy:
        """Returns the strategy with its settings, of which none is tuned; a relative path starts from ``here``."""
        strategy = self.strategy if isinstance(self.strategy, Strategy) else Strategy.parse(self.strategy, here)
        strategy = strategy.with_settings(self.settings)
        middle = strategy.default_configuration()
        return strategy.with_settings({name: middle[name] for name in strategy.space})


@dataclass(frozen=True)
class Measure:
    """What both sides are judged by, and where they train.

    Attributes:
        metric: the name of the metric; None for the task's own.
        higher_is_better: its direction; None for the task's own.
        device: None for CUDA if it is available.
    """

    metric: str | None = None
    higher_is_better: bool | None = None
    device: str | None = None


class Side(Protocol):
    """Trains a recipe."""

    @property
    def facts(self) -> dict[str, Any]:
        """What the recipe is, as plain values; equal for equal recipes."""
        ...

    def run(self, seed: int, progress: Progress) -> Run:
        """Trains once under a seed. Raises TaskError where a file of the recipe has changed meanwhile."""
        ...

    def close(self) -> None:
        """Lets go of what trains."""


class LocalSide:
    """Trains a recipe in this process.

    Arguments:
        name: of the side.
        recipe: of the side.
        measure: by which it is judged.
        here: the folder that relative paths start from.
        alone: whether this process runs nothing but this side, so that the user's files here are those of the recipe.

    Raises:
        ValueError: the recipe cannot be trained, in a line.
    """

    def __init__(self, name: str, recipe: Recipe, measure: Measure, here: Path, alone: bool = False) -> None:
        self.name = name
        self.strategy = recipe.configured(here)
        with user_errors(f"the {name}"):
            task = _judged_by(load_task(recipe.task, here), measure)
        self._sources = _sources() if alone else {}
        config = StudyConfig(
            task,
            [self.strategy],
            trials=1,
            seeds=1,
            steps=recipe.steps,
            engine="serial",
            device=measure.device,
            here=here,
        )
        self._prepared = prepare(config)
        design = self._prepared.design()
        check_metric(design["task"]["metric"])
        self._engine: Serial | Loops = self._prepared.engines(lambda line: None).serial_of(self.strategy)  # type: ignore[assignment]
        self._hyper = self.strategy.default_configuration()
        with training():
            constant = number(self._engine.constant_test())
        self.facts: dict[str, Any] = {
            "task": design["task"],
            "strategy": self.strategy.describe(),
            "steps": self._prepared.budget.steps,
            "device": self._prepared.trained_on,
            "torch": design["torch"],
            "constant": constant,
            "sources": {os.path.relpath(path, here): digest for path, digest in self._sources.items()},
            **_tested_on(self._prepared),
        }
        self.facts = json.loads(json.dumps(self.facts))  # as they are read again

    def run(self, seed: int, progress: Progress) -> Run:
        """Trains once under a seed."""
        self._check_sources()
        began = time.perf_counter()
        try:
            with training():
                (result,) = self._engine.run([self._job(seed)], progress)
                untrained = None
                if not self.facts["task"]["is_given"]:
                    untrained = number(self._engine.untrained_test(self.strategy.initialization, seed))
        except TaskError as error:
            return Run(seed, None, "failed", _cause(error), seconds=time.perf_counter() - began)
        score = number(result.test) if result.status == "finished" else None
        status, why = result.status, ""
        if result.status == "finished" and score is None:
            status, why = "failed", f"its {self.facts['task']['metric']} is {result.test}"
        elif score is None:
            why = f"it {'diverged' if result.status == 'diverged' else 'took too long'} at step {result.steps:,}"
        trace = _trace(result) if score is not None else ""
        return Run(seed, score, status, why, untrained, trace, time.perf_counter() - began)

    def close(self) -> None:
        """Does nothing: the process stays."""

    def _job(self, seed: int) -> Job:
        budget, spent = self._prepared.budget, self._prepared.spent[self.strategy.name]
        return Job(
            self.name,
            self.strategy,
            self._hyper,
            seed,
            spent,
            budget.steps,
            budget.steps,
            budget.evaluation_interval,
            test=True,
            prepared=spent,
        )

    def _check_sources(self) -> None:
        for path, digest in self._sources.items():
            if _digest(path) != digest:
                raise ChangedError(
                    f"{path.name} of the {self.name} has changed since the gate began: start the gate again with "
                    "another --out, and leave the file alone while it runs"
                )


class ChangedError(ValueError):
    """A file of a recipe has changed between two runs."""


def _judged_by(task: Task | TrainingLoop, measure: Measure) -> Task | TrainingLoop:
    """Returns the task with the metric that is asked for."""
    changed: dict[str, Any] = {"metric": measure.metric, "higher_is_better": measure.higher_is_better}
    return replace(task, **{name: value for name, value in changed.items() if value is not None})


def _tested_on(prepared: Any) -> dict[str, Any]:
    """Returns what tells the test data of a task from other ones."""
    if not isinstance(prepared, Prepared):
        return {}
    split, task = prepared.context.data.test, prepared.context.task
    known = {"test_size": split.count, "test_digest": digest_of(split.known_by())}
    if task.step is None and isinstance(split, HeldSplit):
        known["test_targets"] = digest_of([split.target])
    return known


def _sources() -> dict[Path, str]:
    """Returns the digests of the user's files that this process has imported."""
    files = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
    paths = {Path(file).resolve() for file in files if isinstance(file, str) and os.path.isabs(file)}
    return {path: _digest(path) for path in sorted(paths) if path.suffix == ".py" and is_users(path)}


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    except OSError:
        return ""


def _trace(result: TrialResult) -> str:
    """Returns a digest of a learning curve and its test, which two runs have in common if they are one."""
    curve = [result.first_loss, *result.curve.train_loss, *result.curve.valid_metric, result.test or 0.0]
    text = ",".join("nan" if math.isnan(value) else float(value).hex() for value in curve)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _cause(error: TaskError) -> str:
    """Returns what an error says without its remedy, which is another one here."""
    return str(error).rpartition(": ")[0] or str(error)
