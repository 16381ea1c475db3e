"""Whole studies through the library, without its command line and report: on real training, and on banks of runs.

The first say how often one strategy under two names is told apart where nothing is simulated. The second hold the
simulation of :mod:`benchmarks.truth` to the library: at one root both come to the same runs and the same verdict.
"""

import math
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bank import POOL, TASKS, Bank, Whole
from thalweg.compare.execution.choice import Choice
from thalweg.compare.execution.job import Engine, Job, Progress, ResultCallback, ignore_results
from thalweg.compare.execution.lanes import Lanes
from thalweg.compare.execution.serial import Serial
from thalweg.compare.statistics import proportion
from thalweg.compare.storage.facts import RUN, SECONDS
from thalweg.compare.storage.result import Curve, TrialResult
from thalweg.compare.storage.store import Store
from thalweg.compare.strategy import DEFAULT_STRATEGIES, Strategy
from thalweg.compare.study.config import StudyConfig
from thalweg.compare.study.prepare import Prepared, prepare
from thalweg.compare.study.reporter import Reporter
from thalweg.compare.study.results import collect
from thalweg.compare.study.study import Study
from thalweg.compare.study.verdict import Verdict
from thalweg.compare.task.loading import load_task

SHIFT = 0.2  # decades
NULLS = {"quadratic": 150, "breast-cancer": 150}  # steps of a run
TRIALS, SEEDS = 12, 10

Place = Callable[[int, bool], int]


class _Kept:
    """Engines that are made once: one that trains, and one that runs a strategy by itself."""

    choices: Sequence[Choice] = ()

    def __init__(self, engine: Engine, alone: Any) -> None:
        self.engine, self.alone = engine, alone

    def connect(self) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Does nothing."""

    def choose(self, seed: int) -> None:
        """Does nothing."""

    def choose_again(self, seed: int, rung: int) -> None:
        """Does nothing."""

    def reuse(self, stored: Sequence[dict[str, Any]]) -> None:
        """Does nothing."""

    def engine_of(self, strategy: Strategy) -> Engine:
        """Returns the one engine."""
        return self.engine

    def serial_of(self, strategy: Strategy) -> Any:
        """Returns what runs a strategy by itself."""
        return self.alone


def _results(prepared: Prepared, seed: int, engines: _Kept) -> dict[str, Any]:
    """Returns the results of the study at a root seed."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "study"
        prepared = replace(prepared, config=replace(prepared.config, seed=seed, out=out), folder=out)
        store = Store.resume_or_create(out, prepared.design())
        try:
            store.add_fact(RUN, {})
            sign, spent = prepared.context.sign, prepared.spent
            Study(prepared.config, prepared.budget, store, engines, Reporter(), sign, spent).run()  # type: ignore[arg-type]
            store.add_fact(SECONDS, 0.0)
            return collect(store)
        finally:
            store.close()


def twins() -> list[Strategy]:
    """Returns Adam, and Adam under another name with everything about its learning rate shifted."""
    adam, factor = Strategy.parse("adam"), 10**SHIFT
    low, high = adam.space["lr"]
    defaults = {**adam.defaults, "lr": factor * adam.defaults["lr"]}
    return [adam, replace(adam, name="twin", defaults=defaults, space={"lr": (factor * low, factor * high)})]


def null_studies(count: int, seconds: float, say: Callable[[str], None]) -> dict[str, Any]:
    """Returns how many of so many studies, on several tasks in turn, call one strategy under two names better."""
    began, found = time.perf_counter(), {name: {"studies": 0, "better": 0, "faster": 0} for name in NULLS}
    ready = [(name, *_trained(name, steps)) for name, steps in NULLS.items()]
    for root in range(-(-count // len(NULLS))):
        for name, prepared, engines in ready:
            if time.perf_counter() - began < seconds:
                results = _results(prepared, root, engines)
                found[name]["studies"] += 1
                found[name]["better"] += results["pairs"][0]["better"] is not None
                found[name]["faster"] += results["verdict"]["fastest"] is not None
        if root % 20 == 19:
            say(f"{sum(f['studies'] for f in found.values())} whole studies")
    return {"tasks": found, "steps": NULLS, "trials": TRIALS, "seeds": SEEDS, "asked": count}


def shown(found: Mapping[str, Any]) -> str:
    """Returns in words what the studies said."""
    said = []
    for name, one in found["tasks"].items():
        low, high = proportion(one["better"], one["studies"]) if one["studies"] else (0.0, 1.0)
        said.append(
            f"on {name}, {found['steps'][name]} steps, {one['better']} of {one['studies']} studies call one better "
            f"(true rate {low:.1%} to {high:.1%}), and {one['faster']} call one faster"
        )
    done = sum(one["studies"] for one in found["tasks"].values())
    rest = f" Time was up after {done} of {found['asked']} studies." if done < found["asked"] else ""
    return (
        f"Whole studies of Adam and a twin with its range shifted by a fifth of a decade, {found['trials']} trials and "
        f"{found['seeds']} seeds, through the library on real training (goal ≤ 5 % called better): {'; '.join(said)}."
        f"{rest}"
    )


def _trained(name: str, steps: int) -> tuple[Prepared, _Kept]:
    prepared = prepare(StudyConfig(name, twins(), trials=TRIALS, steps=steps, seeds=SEEDS, device="cpu"))
    lanes, alone = Lanes(prepared.context, 2 * SEEDS), Serial(prepared.context)
    lanes.threads = alone.threads = 1
    return prepared, _Kept(lanes, alone)


class _OnBank:
    """An engine that looks runs up, and what runs a strategy by itself there."""

    name = "bank"

    def __init__(self, bank: Bank, alone: Serial, place: Place) -> None:
        self.bank, self.alone, self.place = bank, alone, place

    def run(
        self, jobs: Sequence[Job], progress: Progress, on_results: ResultCallback = ignore_results
    ) -> list[TrialResult]:
        """Returns the results of the nearest runs in the bank."""
        results = [self._found(job) for job in jobs]
        on_results(results)
        return results

    def _found(self, job: Job) -> TrialResult:
        land = self.bank.strategies[job.strategy.name]
        runs, at = land.runs, int(land.nearest(np.log10([job.hyper["lr"]]))[0])
        seed = self.place(job.seed, job.test)
        last = int(abs(runs.points - (job.total if job.stop == job.total else job.total / 3)).argmin())
        curve = Curve()
        for point, loss, metric in zip(runs.points, runs.loss[at, seed], runs.valid[at, seed], strict=True):
            if point <= runs.points[last] and math.isfinite(metric):
                curve.add(int(point), 0.0, float(loss), float(metric))
        test = float(runs.test[at, seed])
        sound = math.isfinite(runs.valid[at, seed, last]) and (job.stop < job.total or math.isfinite(test))
        scored = test if job.test and sound else None
        return TrialResult(job.key, "finished" if sound else "diverged", job.stop, curve, 1.0, scored, {})

    def seconds_per_step(self, job: Job) -> float:
        """Returns a second."""
        return 1.0

    def untrained_test(self, scheme: str, seed: int) -> float:
        """Returns that of the bank."""
        return float(self.bank.untrained[self.place(seed, True)])

    def constant_test(self) -> float:
        """Returns that of the task."""
        return self.bank.constant


def library(bank: Bank, roots: Iterable[int]) -> Iterator[dict[str, Any]]:
    """Yields the results of the library's own study on a bank at each root."""
    yield from carried_out(bank, ((root, _pooled) for root in roots))


def _pooled(seed: int, is_final: bool) -> int:
    return seed % POOL + (POOL if is_final else 0)


def carried_out(bank: Bank, roots: Iterable[tuple[int, Place]], **options: Any) -> Iterator[dict[str, Any]]:
    """Yields the results of the library's own study on a bank at each root.

    Arguments:
        bank: of the task.
        roots: each with what gives the position in the bank of a seed, and of a final one.
        options: of the study.
    """
    task = replace(load_task(bank.name.removesuffix("-150")), steps=TASKS[bank.name][0])
    strategies = [Strategy.parse(name) for name in DEFAULT_STRATEGIES]
    prepared = prepare(StudyConfig(task, strategies, device="cpu", **options))
    alone = Serial(prepared.context)
    for root, place in roots:
        on_bank = _OnBank(bank, alone, place)
        yield _results(prepared, root, _Kept(on_bank, on_bank))


def agreement(
    bank: Bank,
    scores: Mapping[str, Sequence[Sequence[float | None]]],
    recommended: Mapping[str, Whole],
    verdicts: Iterator[Verdict],
    count: int,
) -> int:
    """Returns at how many of the first roots the library has these runs, choices and verdicts."""
    same = 0
    for root, (results, verdict) in enumerate(zip(library(bank, range(count)), verdicts, strict=False)):
        said, found = results["verdict"], results["strategies"]
        chosen = {s["name"]: bank.strategies[s["name"]].nearest(np.log10([s["hyperparameters"]["lr"]])) for s in found}
        same += (
            {s["name"]: s["test"]["per_seed"] for s in found} == {n: list(s[root]) for n, s in scores.items()}
            and {n: int(at[0]) for n, at in chosen.items()} == {n: int(at[root]) for n, at in recommended.items()}
            and (said["candidates"], said["fastest"]) == (verdict.candidates, verdict.fastest)
        )
    return same
