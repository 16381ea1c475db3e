"""On what the verdict on a study is based: the criterion that it was run with, or one that is asked for later."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from thalweg.compare.design import Budget
from thalweg.compare.statistics import time_to_target
from thalweg.compare.storage.facts import DESIGN, SECONDS_PER_STEP, TARGET, TIMINGS, failure_of
from thalweg.compare.storage.result import TrialResult
from thalweg.compare.storage.rows import number
from thalweg.compare.study import Judge
from thalweg.compare.study.criterion import UNITS, best_curves, chosen_target
from thalweg.compare.study.judged import Judged, could_not_run, judge
from thalweg.compare.study.timed import in_time, precision_of
from thalweg.compare.study.untrained import Untrained

Record = dict[str, Any]
Source = Literal["given", "tuning trials", "final runs"]
COARSE = 3  # evaluation points before the target, under which they are few


@dataclass(frozen=True)
class Basis:
    """By what the final runs of a study are judged.

    Attributes:
        judge: by what strategies are judged.
        tuned_by: by what tuning chose.
        metric: its name.
        direction: of the metric.
        target: of the validation metric; None where there is none.
        source: whether the target was given, or what it was chosen from.
        within: the margin inside which strategies count as equivalent; None for the default one.
    """

    judge: Judge
    tuned_by: Judge
    metric: str
    direction: str
    target: float | None
    source: Source
    within: float | None

    @property
    def is_timed(self) -> bool:
        """Whether the time to the target is judged."""
        return self.judge != "metric"

    @property
    def goal(self) -> str:
        """The target in words."""
        return "" if self.target is None else f"validation {self.metric} {self.target:.4g}"

    def judged(
        self, facts: Mapping[str, Any], finals: Mapping[str, Sequence[TrialResult]], untrained: Untrained, **more: Any
    ) -> tuple[Judged, Judged]:
        """Returns the final runs as the metric judges them, and as they are judged.

        Arguments:
            facts: of the study.
            finals: what became of the final runs of each strategy.
            untrained: what a run has to get away from.
            more: attributes of :class:`Judged`.
        """
        design = facts[DESIGN]
        scores = {name: [number(r.test) for r in own] for name, own in finals.items()}
        known = {
            "steps": {name: [self._steps_to(r) for r in own] for name, own in finals.items()},
            "within": self.within,
            "unmeasured": [name for name, own in finals.items() if self._is_unmeasured(own)],
            "goal": self.goal,
            "impossible": {
                name: facts.get(failure_of(name), "")
                for name, own in finals.items()
                if could_not_run(r.status for r in own)
            },
        }
        starts = {s["name"]: s["start"] for s in design["strategies"]}
        seconds = facts.get(SECONDS_PER_STEP, {})
        timings = facts.get(TIMINGS) or {name: [value] for name, value in seconds.items()}
        timings = {name: found for name, found in timings.items() if None not in found}  # it could not run
        precision, budget = precision_of(timings), Budget.from_design(design)
        lengths = {name: budget.of(name).steps for name in finals}
        # A guidance's first steps cost otherwise; runs of a given time cost the same.
        is_like = all(s["guidance"] == "none" for s in design["strategies"]) and budget.lengths is None
        costs = {name: lengths[name] * seconds[name] for name in timings} if is_like else {}
        known |= {"costs": costs, "precision_of_costs": precision if costs else {}}
        plainly = judge(design, scores, untrained, starts, **known, **more)
        if not self.is_timed:
            return plainly, plainly
        return plainly, in_time(plainly, self.judge, lengths, seconds, precision)

    def _steps_to(self, run: TrialResult) -> int | None:
        """Returns the evaluations after which a run reaches the target; where it is judged, not one that diverged."""
        if self.target is None or (self.is_timed and run.status != "finished"):
            return None
        return time_to_target(run.curve.step, run.curve.valid_metric, self.target, self.direction)

    def _is_unmeasured(self, runs: Sequence[TrialResult]) -> bool:
        """Says whether what is judged is a number for none of the runs that ended."""
        ended = [r for r in runs if r.status == "finished"]
        if self.is_timed:
            return bool(ended) and not any(math.isfinite(x) for r in ended for x in r.curve.valid_metric)
        return bool(ended) and all(number(r.test) is None for r in ended)

    def as_dict(self) -> dict[str, Any]:
        """Returns it as plain values."""
        unit = UNITS[self.judge] or self.metric
        return {
            "by": self.judge,
            "unit": unit,
            "target_from": self.source,
            "tuned_by": self.tuned_by,
            "text": self.text,
        }

    @property
    def text(self) -> str:
        """By what it is judged, in a sentence; empty for the metric."""
        if not self.is_timed:
            return ""
        goal = self.goal or f"a target of the validation {self.metric}"
        what = "seconds of training on this machine" if self.judge == "seconds-to-target" else "gradient evaluations"
        return f"Judged by the {what} until {goal} is reached."

    def notes(self, typical: Sequence[float], intervals: Sequence[int]) -> list[str]:
        """Returns what the reader should know of it.

        Arguments:
            typical: the median evaluations to the target of strategies.
            intervals: evaluations between two points of their curves.
        """
        found = []
        if self.tuned_by != self.judge and not (self.is_timed and self.tuned_by != "metric"):
            found.append(
                f"Tuning chose by {_in_words(self.tuned_by)}, and the final runs are judged by "
                f"{_in_words(self.judge)}: tuned by that, strategies may rank otherwise."
            )
        if not self.is_timed:
            return found
        if self.source == "tuning trials":
            found.append(
                "The target lies 95 % of the way from the first point of the learning curves to the mean end of the "
                "best strategy's three best tuning trials, so that no final run has a part in it."
            )
        least, most = min(intervals), max(intervals)
        every = f"{least:,}" if least == most else f"{least:,} to {most:,}"
        found.append(
            f"Whether a run has reached the target is seen every {every} evaluations. A run that diverged or "
            "failed counts as one that has not reached it."
        )
        if any(steps <= COARSE * interval for steps, interval in zip(typical, intervals, strict=True)):
            found.append(
                "The target is reached within a few evaluation points: a harder --target, or fewer --steps, would tell "
                "strategies apart more finely."
            )
        return found


def _in_words(judge: Judge) -> str:
    return {"metric": "the metric", "time-to-target": "evaluations to the target"}.get(judge, "seconds to the target")


def judged_by(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Returns by what a study is judged and tuned, its unit and its target, for its records; nothing for the metric."""
    judge: Judge = facts[DESIGN]["judge"]
    if judge == "metric":
        return {}
    given = facts[DESIGN]["task"]["target"]
    return {"judge": judge, "unit": UNITS[judge], "target": facts.get(TARGET) if given is None else given}


def basis_of(
    facts: Mapping[str, Any],
    records: Sequence[Record],
    within: float | None = None,
    by: Judge | None = None,
    target: float | None = None,
) -> Basis:
    """Returns on what a finished study is judged.

    Arguments:
        facts: of the study.
        records: of the study, of which the first and the last point of tuning curves are enough.
        within, by, target: what is asked for in place of the study's own; None for that.
    """
    design = facts[DESIGN]
    task, judge = design["task"], by or design["judge"]
    known = task["target"] if target is None else target
    source: Source = "given" if known is not None else "final runs" if judge == "metric" else "tuning trials"
    if source == "final runs":
        known = _target_of_finals(design, records)
    elif source == "tuning trials":
        known = facts[TARGET] if TARGET in facts else _target_of_tuning(design, records)
    margin = design["within"] if within is None and judge == design["judge"] else within
    return Basis(judge, design["judge"], task["metric"], task["direction"], known, source, margin)


def _target_of_finals(design: Mapping[str, Any], records: Sequence[Record]) -> float | None:
    curves = []
    for s in design["strategies"]:
        own = [r for r in records if r["rung"] == "final" and r["strategy"] == s["name"]]
        sound = [r["curve"]["valid_metric"] for r in own if r["status"] == "finished"]
        curves.append(sound if len(sound) == len(own) else [])
    return chosen_target(design["task"]["direction"], curves)


def _target_of_tuning(design: Mapping[str, Any], records: Sequence[Record]) -> float | None:
    direction, curves = design["task"]["direction"], []
    for s in design["strategies"]:
        trials: dict[str, list[Record]] = {}
        for r in records:
            if r["rung"] != "final" and r["strategy"] == s["name"]:
                trials.setdefault(r["key"], []).append(r)
        most = max((own[-1]["steps"] for own in trials.values() if own[-1]["status"] == "finished"), default=0)
        tried = [_first_and_last(own) for own in trials.values()]
        curves.append(best_curves(direction, tried, [own[-1]["steps"] == most for own in trials.values()]))
    return chosen_target(direction, curves)


def _first_and_last(trial: Sequence[Record]) -> list[float]:
    if trial[-1]["status"] != "finished":
        return []
    return [trial[0]["curve"]["valid_metric"][0], trial[-1]["curve"]["valid_metric"][-1]]
