"""``thalweg.gate``: from two recipes, or the runs of two, to an answer."""

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from thalweg.compare.arguments import SEED, SEEDS, check_above, check_whole, duration, in_words
from thalweg.compare.execution.loop.run import Run as LoopRun
from thalweg.compare.gate.folder import SIDES, VERSION, GateFolder
from thalweg.compare.gate.judgement import Judgement, check_runs, judge
from thalweg.compare.gate.page import render_gate
from thalweg.compare.gate.process import ProcessSide
from thalweg.compare.gate.result import EXPECTATIONS, Ended, Expectation, Gate, meets
from thalweg.compare.gate.runs import paired, read_records
from thalweg.compare.gate.sentences import unlike
from thalweg.compare.gate.side import STRATEGY, LocalSide, Measure, Recipe, Side
from thalweg.compare.names import as_folder
from thalweg.compare.strategy import Strategy
from thalweg.compare.study.reporter import Reporter
from thalweg.compare.task import Task
from thalweg.compare.task.loop import TrainingLoop
from thalweg.compare.task.task import DIRECTIONS
from thalweg.compare.user_errors import TaskError
from thalweg.tensors import derive_seed
from thalweg.tensors.files import check_utf8

Given = Recipe | str | Task | TrainingLoop | Callable[[LoopRun], None]
Recorded = Path | Iterable[Mapping[str, Any]]


def gate(
    baseline: Given | Recorded,
    candidate: Given | Recorded,
    *,
    strategy: str | Strategy = STRATEGY,
    settings: Mapping[str, float | str] | None = None,
    steps: int | None = None,
    metric: str | None = None,
    higher_is_better: bool | None = None,
    within: float | None = None,
    expect: Expectation | None = None,
    seeds: int = 10,
    at_most: str | float | None = None,
    device: str | None = None,
    out: str | Path | None = None,
    seed: int = 0,
    reporter: Reporter | None = None,
    here: Path | None = None,
) -> Gate:
    """Finds out whether a change is real, or a seed: whether the candidate trains better than the baseline.

    Both are trained under the same seeds, one seed after another, until the answer is sure or ``seeds`` are spent. The
    test metric judges. Nothing is tuned. The bounds hold at every look, see
    :func:`thalweg.compare.sequential.difference`: whenever one stops, a change that does nothing is called better in at
    most 4 %, and worse in at most 1 % of gates.

    Arguments:
        baseline, candidate: what is trained, as the ``task`` of a :class:`thalweg.Recipe`, or a recipe with a strategy,
            settings and steps of its own. A recipe that is given by names is trained in a process of its own. Or for
            both, runs that were made elsewhere: a file ``.jsonl`` of one JSON object a run, with its ``seed`` and the
            metric, or a list of such mappings.
        strategy, settings, steps: of the sides that are no :class:`thalweg.Recipe`.
        metric: the name of the number that judges; by default the task's metric, or the only number of a record.
        higher_is_better: direction of the metric, where its name does not tell.
        within: the difference of the metric inside which the sides count as equal; without it only sides that run
            alike, bit for bit, are equal.
        expect: ``"better"``, ``"not-worse"`` or ``"equal"``, with which the gate also ends once the runs bear it out.
            ``"not-worse"``: worse by less than ``within``, if at all.
        seeds: pairs of runs at most. A gate that has spent them goes on when it is called with more.
        at_most: the time after which no pair begins, as ``"20min"`` or a number of seconds, over all processes that
            resume the gate; judging by the pairs before, none begins that would end later.
        device: such as ``"cpu"`` or ``"cuda"``; by default CUDA if it is available.
        out: folder of the gate; by default ``thalweg-gate-TASK``. An interrupted gate is resumed.
        seed: the seed from which those of the runs are derived.
        reporter: receives the progress; by default nothing is shown.
        here: the folder against which relative paths are resolved; by default the current folder at the call.

    Returns:
        The :class:`Gate`.

    Raises:
        ValueError: the input is invalid, or the runs cannot tell anything; the message is one line.
        StudyError: the folder cannot be used.

    >>> before = [{"seed": s, "accuracy": 0.90 + 0.002 * (s % 3)} for s in range(6)]
    >>> after = [{"seed": s, "accuracy": 0.93 + 0.002 * (s % 2)} for s in range(6)]
    >>> gate(before, after).answer
    'better'

    Source: repeated confidence intervals, Jennison and Turnbull 1989; Deep Learning, §11.4.
    """
    check_whole("seeds", seeds, most=SEEDS)
    check_whole("seed", seed, *SEED)
    if within is not None:
        check_above("within", within)
    if expect is not None and expect not in EXPECTATIONS:
        raise ValueError(f"expect is {expect!r}: use {', '.join(EXPECTATIONS)}")
    if expect == "not-worse" and within is None:
        raise ValueError("expect='not-worse' (--expect not-worse) needs within (--within): the loss that is acceptable")
    here = here or Path.cwd()
    measure = Measure(metric, higher_is_better, device)
    recorded = [_is_recorded(given) for given in (baseline, candidate)]
    if any(recorded):
        if not all(recorded):
            raise ValueError(
                "one side is given as records and the other as a task: give both as records, or both as tasks"
            )
        return _recorded(baseline, candidate, measure, within, here)  # type: ignore[arg-type]
    limit = None if at_most is None else duration("at_most", at_most)
    recipes = [_recipe(given, strategy, settings or {}, steps) for given in (baseline, candidate)]
    if out is not None and not str(out):
        raise ValueError("out is empty: name a folder, or omit it")
    check_utf8(here / (out or ""))
    with ExitStack() as ended:
        sides: dict[str, Side] = {}
        for name, recipe in zip(SIDES, recipes, strict=True):
            sides[name] = _side(name, recipe, measure, here)
            ended.callback(sides[name].close)
        facts = {name: side.facts for name, side in sides.items()}
        task = facts["baseline"]["task"]
        _check_alike(facts)
        folder = GateFolder.open(
            here / (out if out is not None else f"thalweg-gate-{as_folder(facts['candidate']['task']['name'])}"),
            {"version": VERSION, "seed": seed, **facts},
            task["metric"],
            lambda i: derive_seed(seed, "gate", i) % 2**31,
        )
        ended.callback(folder.close)
        pairs = _Pairs(sides, facts, folder, reporter or Reporter(), within, expect, seed)
        found = pairs.until_decided(seeds, limit)
        done = Gate(
            found,
            task["metric"],
            task["direction"],
            within,
            folder.runs["baseline"],
            folder.runs["candidate"],
            facts,
            seeds,
            pairs.ended_by,
            [*unlike(facts), *pairs.notes],
            folder.path,
        )
        folder.write(done, render_gate(done.as_dict()))
        return done


class _Pairs:
    """Adds pairs of runs to a folder, and judges them."""

    def __init__(
        self,
        sides: Mapping[str, Side],
        facts: Mapping[str, Any],
        folder: GateFolder,
        reporter: Reporter,
        within: float | None,
        expect: Expectation | None,
        seed: int,
    ) -> None:
        self.sides, self.facts, self.folder, self.reporter = sides, facts, folder, reporter
        self.within, self.expect, self.seed = within, expect, seed
        self.ended_by: Ended = "decided"
        self.notes: list[str] = []

    def until_decided(self, cap: int, limit: float | None) -> Judgement:
        """Returns the judgement of the first pairs that decide it, or of all that the cap or the limit allow."""
        runs, steps = self.folder.runs, sum(self.facts[name]["steps"] for name in SIDES)
        for line in unlike(self.facts):
            self.reporter.say(line)
        if held := sum(map(len, runs.values())):
            self.reporter.say(f"resuming: {held} runs are in the folder")
        title = "paired runs"
        done = sum(len(runs[name]) * self.facts[name]["steps"] for name in SIDES)
        self.reporter.stage(title, cap * steps, cap * steps)
        self.reporter.advance(done)
        began, before = time.monotonic(), sum(run.seconds for own in runs.values() for run in own)
        while True:
            whole = len(runs["baseline"]) == len(runs["candidate"])
            found = self._judged()
            if whole:
                self._tell(found)
                if found.answer != "not decided" or (self.expect and meets(found, self.expect, self.within)):
                    self.ended_by = "decided"
                    return found
                if found.pairs >= cap:
                    self.ended_by = "cap"
                    return found
                spent = before + time.monotonic() - began
                if limit is not None and found.pairs and spent * (1 + 1 / found.pairs) > limit:
                    self.ended_by = "time"
                    self.notes.append(
                        f"The limit of {in_words(limit)} ended this after {found.pairs} of at most {cap} seeds."
                    )
                    return found
            name = min(SIDES, key=lambda side: len(runs[side]))
            number = derive_seed(self.seed, "gate", len(runs[name])) % 2**31
            run = self.sides[name].run(number, self.reporter.advance)
            self.folder.add(name, run)
            if run.why:
                self.reporter.say(f"seed {run.seed}: the run of the {name} failed: {run.why}")

    def _judged(self) -> Judgement:
        pairs = min(map(len, self.folder.runs.values()))
        one, two = (self.folder.runs[name][:pairs] for name in SIDES)
        task = self.facts["baseline"]["task"]
        check_runs(one, two, task["metric"])
        constants = (self.facts["baseline"]["constant"], self.facts["candidate"]["constant"])
        return judge(one, two, task["direction"], self.within, constants)

    def _tell(self, found: Judgement) -> None:
        if not found.pairs:
            return
        one, two = (self.folder.runs[name][found.pairs - 1].score for name in SIDES)
        shown = ["failed" if score is None else f"{score:.5g}" for score in (one, two)]
        task = self.facts["baseline"]["task"]
        words = f"{task['metric']} {shown[0]}, then {shown[1]}"
        gain = found.gain
        low, high = (gain.low, gain.high) if task["direction"] == "max" else (-gain.high, -gain.low)
        bounds = "" if abs(low) == float("inf") else f"; the difference is {low:+.3g} to {high:+.3g}"
        self.reporter.say(f"pair {found.pairs}: {words}{bounds}")


def _recipe(given: Any, strategy: str | Strategy, settings: Mapping[str, Any], steps: int | None) -> Recipe:
    recipe = given if isinstance(given, Recipe) else Recipe(given, strategy, dict(settings), steps)
    if recipe.steps is not None:
        check_whole("steps", recipe.steps)
    return recipe


def _side(name: str, recipe: Recipe, measure: Measure, here: Path) -> Side:
    if isinstance(recipe.task, str) and isinstance(recipe.strategy, str):
        return ProcessSide(name, recipe, measure, here)
    return LocalSide(name, recipe, measure, here)


def _check_alike(facts: Mapping[str, Mapping[str, Any]]) -> None:
    """Raises TaskError where the sides are not judged by one metric."""
    one, two = (facts[name]["task"] for name in SIDES)
    if one["metric"] != two["metric"]:
        raise TaskError(
            f"the baseline measures {one['metric']} and the candidate {two['metric']}: choose one with --metric"
        )
    if one["direction"] != two["direction"]:
        raise TaskError(
            f"a larger {one['metric']} is better for one side and worse for the other: give higher_is_better "
            "(--higher-is-better or --lower-is-better)"
        )


def _is_recorded(given: Any) -> bool:
    if isinstance(given, str):
        return given.endswith(".jsonl")
    return isinstance(given, Path) or (isinstance(given, Iterable) and not isinstance(given, Recipe))


def _recorded(baseline: Recorded, candidate: Recorded, measure: Measure, within: float | None, here: Path) -> Gate:
    """Returns the answer of runs that were made elsewhere."""
    one, two = (
        read_records(given, name, measure.metric, here)
        for name, given in zip(SIDES, (baseline, candidate), strict=True)
    )
    if one.metric != two.metric:
        raise TaskError(
            f"{one.name} holds {one.metric} and {two.name} {two.metric}: name one that both hold (--metric)"
        )
    if measure.higher_is_better is None and one.metric not in DIRECTIONS:
        raise TaskError(
            f"nothing says whether a larger {one.metric!r} is better: give higher_is_better (--higher-is-better or "
            "--lower-is-better)"
        )
    direction = DIRECTIONS.get(one.metric, "max")
    if measure.higher_is_better is not None:
        direction = "max" if measure.higher_is_better else "min"
    first, second, notes = paired(one, two)
    check_runs(first, second, one.metric)
    found = judge(first, second, direction, within)
    return Gate(found, one.metric, direction, within, first, second, {}, None, "records", notes)
