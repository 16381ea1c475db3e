"""``thalweg.suite``: one strategy against others on a dozen tasks that differ in kind."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from thalweg.compare.comparison import Comparison
from thalweg.compare.execution import EngineName
from thalweg.compare.execution.ray.engines import Cluster
from thalweg.compare.run import run
from thalweg.compare.strategy import Strategy
from thalweg.compare.study.config import StudyConfig, listed, parsed
from thalweg.compare.study.judged import level_of
from thalweg.compare.study.reporter import Reporter
from thalweg.compare.study.verdict import least_seeds
from thalweg.compare.suite.page import render
from thalweg.compare.suite.summary import Summary, summarize
from thalweg.compare.task.builtin import TASKS
from thalweg.tensors.files import write_text

SizeName = Literal["S", "M", "L"]
AGAINST = ("adamw", "momentum", "sgd")


@dataclass(frozen=True)
class Size:
    """How much a suite spends on each task: configurations, final runs, and the length of a run."""

    trials: int
    seeds: int
    steps: float  # times the task's own


SIZES: Mapping[SizeName, Size] = {"S": Size(5, 8, 0.5), "M": Size(12, 10, 1.0), "L": Size(24, 20, 4.0)}
# The tasks, each of another kind; none of them needs a download.
SUITE = (
    "breast-cancer",  # convex
    "quadratic",  # ill-conditioned, noisy
    "deep-linear",
    "digits-deep",  # ten layers of sigmoids
    "digits-autoencoder",
    "digits-conv-norm",  # batch normalization
    "factorization",  # embeddings
    "characters",  # a transformer
    "recall",  # a recurrent network
    "modular-addition",  # memorizes before it understands
    "poisson",  # physics-informed
    "diabetes",  # tabular regression
    "digits-noisy",  # noisy labels
)


@dataclass(frozen=True)
class SuiteResult:
    """The answer of a suite, in ``suite.json`` and ``suite.html`` of its folder too.

    Attributes:
        summary: see :class:`Summary`.
        comparisons: by task, the finished :class:`thalweg.compare.comparison.Comparison`.
        folder: of the suite; the study of each task has a folder in it.
    """

    summary: Summary
    comparisons: Mapping[str, Comparison]
    folder: Path

    @property
    def report(self) -> Path:
        """Path of the report."""
        return self.folder / "suite.html"

    def as_dict(self) -> dict[str, Any]:
        """Returns what ``suite.json`` holds."""
        tasks = {
            task: {
                "metric": done.results["task"]["metric"],
                "direction": done.results["task"]["direction"],
                "verdict": done.verdict,
                "steps": done.results["budget"]["steps"],
                "typical": {s["name"]: s["test"]["typical"] for s in done.results["strategies"]},
                "failed": {s["name"]: [s["failed"]["count"], s["failed"]["of"]] for s in done.results["strategies"]},
                "steps_to_target": {s["name"]: s["to_target"]["steps"] for s in done.results["strategies"]},
            }
            for task, done in self.comparisons.items()
        }
        return {"summary": self.summary.as_dict(), "tasks": tasks}

    def write(self) -> None:
        """Writes ``suite.json`` and ``suite.html``."""
        found = self.as_dict()
        write_text(json.dumps(found, indent=1, allow_nan=False) + "\n", self.folder / "suite.json")
        write_text(render(found), self.report)


def suite(
    candidate: str | Strategy,
    against: str | Strategy | Sequence[str | Strategy] = AGAINST,
    *,
    size: SizeName = "S",
    tasks: str | Sequence[str] = SUITE,
    engine: EngineName = "auto",
    cluster: Cluster | None = None,
    device: str | None = None,
    out: str | Path | None = None,
    seed: int = 0,
    reporter: Reporter | None = None,
    command: str | None = None,
    here: Path | None = None,
) -> SuiteResult:
    """Finds out whether a strategy is better than others in general: on a dozen tasks that differ in kind.

    Each task is a study of :func:`thalweg.compare`, tuned and judged by its protocol; how the
    answers are put together, :mod:`thalweg.compare.suite.summary` says.

    Arguments:
        candidate: the strategy in question, as for :func:`thalweg.compare`.
        against: its rivals; by default AdamW, momentum and plain gradient descent.
        size: ``"S"`` takes up to ten minutes for four strategies on two cores, ``"M"`` about an hour; ``"L"`` is
            for a cluster.
        tasks: names of built-in tasks, a list or one string with commas; by default the thirteen of ``SUITE``, which
            need no download.
        engine, cluster, device, seed: as for :func:`thalweg.compare`.
        out: folder of the suite; by default ``thalweg-suite``. What is there is resumed.
        reporter: receives the progress.
        command: the command line that the reports show.
        here: the folder against which relative paths are resolved.

    Returns:
        The :class:`SuiteResult`.

    Raises:
        ValueError: the input is invalid; the message is one line with the cause and the remedy.
        StudyError: the folder cannot be used.
    """
    here, reporter = here or Path.cwd(), reporter or Reporter()
    strategies, tasks = parsed([candidate], here) + parsed(against, here), listed(tasks, "tasks")
    names = [s.name for s in strategies]
    if len(names) < 2:
        raise ValueError("there is no rival: name at least one (--against adamw)")
    if size not in SIZES:
        raise ValueError(f"size is {size!r}: choose among {', '.join(SIZES)}")
    unknown = [task for task in tasks if task not in TASKS]
    if unknown or not tasks:
        raise ValueError(
            f"{'there are no tasks' if not tasks else f'unknown task {unknown[0]!r}'}: see thalweg list tasks"
        )
    if len(set(tasks)) < len(tasks):
        raise ValueError("a task is named twice: omit one")
    spent, folder = SIZES[size], here / (out or "thalweg-suite")
    seeds = max(spent.seeds, least_seeds(level_of(len(names))))
    configs = {
        task: StudyConfig(
            task,
            strategies,
            trials=spent.trials,
            seeds=seeds,
            steps=max(50, round(TASKS[task]().steps * spent.steps)),
            engine=engine,
            cluster=cluster,
            device=device,
            out=folder / task,
            seed=seed,
            here=here,
        )
        for task in tasks
    }
    done: dict[str, Comparison] = {}
    for i, (task, config) in enumerate(configs.items()):
        reporter.say(f"task {i + 1} of {len(configs)}: {task}")
        done[task] = run(config, reporter, command)
        reporter.say(f"{task}: {done[task].verdict}")
    found = {task: comparison.results for task, comparison in done.items()}
    result = SuiteResult(summarize(found, names[0], names[1:]), done, folder)
    result.write()
    return result
