"""A study's records in trackers: those that a tracker lacks are written to it, whenever that is asked for."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from thalweg.compare.comparison import Comparison
from thalweg.compare.log.tracker import TrackedRun, Tracker
from thalweg.compare.storage.facts import DESIGN, RUN, finished
from thalweg.compare.storage.store import Store
from thalweg.compare.study.reporter import Reporter
from thalweg.compare.user_errors import brief


class Log:
    """A study's store, followed by trackers.

    One that fails is let go with a line, so that a study never ends for it: the same command, or ``thalweg export``,
    writes what it lacks.

    Arguments:
        store: of the study.
        trackers: that follow it.
        failed: receives the line; without it the error is raised.
    """

    def __init__(self, store: Store, trackers: Sequence[Tracker], failed: Callable[[str], None] | None = None) -> None:
        self.store, self.failed = store, failed
        self._trackers, self._begun = list(trackers), False

    def catch_up(self) -> None:
        """Writes the records that the trackers lack."""
        if not self._trackers:
            return
        facts = self.store.facts()
        if not self._begun:
            project, self._begun = self.store.path.parent.resolve().name, True
            self._each(lambda tracker: tracker.begin(project, name_of(project, facts), _about(facts[DESIGN])))
        for run in _runs(self.store, facts[DESIGN]):
            self._each(lambda tracker, run=run: None if tracker.holds(run.name) else tracker.write(run))  # type: ignore[misc]

    def conclude(self, comparison: Comparison) -> None:
        """Writes what the finished study came to, after all its records."""
        self.catch_up()
        if self._trackers:
            run = _verdict(comparison)
            self._each(lambda tracker: None if tracker.holds(run.name) else tracker.conclude(run))

    def all_of_it(self) -> None:
        """Writes all that there is of the study."""
        folder = self.store.path.parent
        self.catch_up()
        if finished(self.store.facts()):
            self.conclude(Comparison.from_store(self.store, folder))

    def _each(self, do: Callable[[Tracker], None]) -> None:
        for tracker in list(self._trackers):
            try:
                do(tracker)
            except Exception as error:
                if self.failed is None:
                    raise ValueError(f"cannot log to {tracker.place} ({brief(error)})") from error
                self._trackers.remove(tracker)
                self.failed(
                    f"logging to {tracker.place} failed ({brief(error)}): the study continues, and the same command "
                    "or thalweg export logs the rest"
                )


SHARE = 20  # the pause after a catching up, in the time that it took


class Logging(Reporter):
    """A reporter that has a log catch up when a stage begins, and now and then as trials end."""

    def __init__(self, reporter: Reporter, log: Log) -> None:
        self.reporter, self.log = reporter, log
        self._due = -math.inf

    def stage(self, title: str, steps: int, left: int) -> None:
        """A stage begins."""
        self.log.catch_up()
        self.reporter.stage(title, steps, left)

    def advance(self, steps: int) -> None:
        """Trial-steps were done."""
        self.reporter.advance(steps)

    def standing(self, best: Mapping[str, float]) -> None:
        """Trials ended."""
        self.reporter.standing(best)
        if (began := time.monotonic()) >= self._due:
            self.log.catch_up()
            self._due = time.monotonic() + SHARE * (time.monotonic() - began)

    def say(self, line: str) -> None:
        """Something that the user should know."""
        self.reporter.say(line)


VERDICT = "verdict"


def name_of(project: str, facts: Mapping[str, Any]) -> str:
    """Returns the name of a study and no other: its folder's, and when it began.

    >>> name_of("thalweg-digits", {"run": {"started": "2026-01-31T12:30:59+00:00"}})
    'thalweg-digits 2026-01-31 12.30.59'
    """
    started = facts.get(RUN, {}).get("started", "")
    return f"{project} {started[:19].replace('T', ' ').replace(':', '.')}"


def _runs(store: Store, design: Mapping[str, Any]) -> Iterator[TrackedRun]:
    """Yields the study's records as runs, each with the stretch of the curve that it trained."""
    metric = design["task"]["metric"]
    for record in store.records():
        curve = record["curve"]
        names = {"train_loss": "train/loss", "valid_loss": "valid/loss"}
        if metric != "loss":
            names["valid_metric"] = f"valid/{metric}"
        points = [(step, {names[field]: curve[field][i] for field in names}) for i, step in enumerate(curve["step"])]
        yield TrackedRun(
            name=f"{record['rung']}/{record['key']}",
            config={"strategy": record["strategy"], "seed": record["seed"], **record["hyper"]},
            points=[(step, finite(values)) for step, values in points],
            summary=finite({f"test/{metric}": record["test"]}),
            tags={"rung": record["rung"], "status": record["status"], "strategy": record["strategy"]},
        )


def _about(design: Mapping[str, Any]) -> dict[str, Any]:
    task, budget = design["task"], design["budget"]
    of_task = {f"task.{name}": task[name] for name in ("name", "metric", "direction", "parameters", "batch_size")}
    return {
        **of_task,
        **{name: budget[name] for name in ("trials", "steps", "seeds")},
        "decay": design["decay"],
        "seed": design["seed"],
        **({"judge": design["judge"]} if design["judge"] != "metric" else {}),
    }


def _verdict(comparison: Comparison) -> TrackedRun:
    results = comparison.results
    metric = results["task"]["metric"]
    means = {f"test/{metric}/{s['name']}": s["test"]["typical"] for s in results["strategies"]}
    if results["judge"]["by"] != "metric":
        field = "seconds" if results["judge"]["by"] == "seconds-to-target" else "gradient_evaluations"
        means |= {f"to target/{field}/{s['name']}": s["to_target"][field] for s in results["strategies"]}
    looks = 1 + len(results["run"]["added"])
    name = VERDICT if looks == 1 else f"{VERDICT} {looks}"
    files = [path for path in (comparison.report, comparison.folder / "results.json") if path.is_file()]
    return TrackedRun(name, summary=finite(means), text=" ".join([comparison.verdict, *comparison.words]), files=files)


def finite(values: Mapping[str, float | None]) -> dict[str, float]:
    """Returns the values that are numbers.

    >>> finite({"a": 1.0, "b": None, "c": math.nan})
    {'a': 1.0}
    """
    return {name: float(value) for name, value in values.items() if value is not None and math.isfinite(value)}
