"""From the store to ``results.json``: everything that the report shows, computed from the records alone."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from statistics import median
from typing import Any

from thalweg.compare import statistics
from thalweg.compare.design import PROTOCOL, Budget, edge
from thalweg.compare.ranges import shown
from thalweg.compare.rungs import TITLES
from thalweg.compare.storage.facts import (
    CHARGED,
    CONSTANT_TEST,
    DESIGN,
    DIAGNOSIS,
    RUN,
    SECONDS,
    SECONDS_PER_STEP,
    UNTRAINED_TEST,
    engine_choices,
    failure_of,
    finished,
    winner_of,
)
from thalweg.compare.storage.rows import result_of
from thalweg.compare.storage.store import Store
from thalweg.compare.study import Judge, verdict
from thalweg.compare.study.basis import Basis, Record, basis_of
from thalweg.compare.study.judged import Judged, Runs, trained
from thalweg.compare.study.looks import ended_in_words, last_look
from thalweg.compare.study.notes import added_to, notes_of
from thalweg.compare.study.recipe import recipe
from thalweg.compare.study.untrained import Untrained
from thalweg.compare.user_errors import StudyError


def collect(
    store: Store, within: float | None = None, by: Judge | None = None, target: float | None = None
) -> dict[str, Any]:
    """Returns the results of a finished study as plain values; see the guide for the fields.

    Arguments:
        store: of the study.
        within: the margin inside which strategies count as equivalent; None for the study's own.
        by: by what strategies are judged; None for the study's own.
        target: of the validation metric; None for the study's own.

    Raises:
        StudyError: the study is not finished.
    """
    facts = store.facts()
    if not finished(facts):
        raise StudyError(
            f"the study in {store.path.parent} is not finished: the same thalweg compare command resumes it"
        )
    design, records = facts[DESIGN], slim(store.records())
    direction, names = design["task"]["direction"], [s["name"] for s in design["strategies"]]
    finals = {name: [r for r in records if r["rung"] == "final" and r["strategy"] == name] for name in names}
    basis = basis_of(facts, records, within, by, target)
    plainly, judged = _judged(facts, finals, basis)
    strategies = [
        _strategy(s, records, finals[s["name"]], _runs(plainly, s["name"]), judged, design, facts)
        for s in design["strategies"]
    ]
    found = verdict.decide(judged)
    order = [*found.candidates, *(one.name for one in found.behind), *judged.impossible]
    strategies.sort(key=lambda s: order.index(s["name"]))
    budget = Budget.from_design(design)
    made = _made(budget, judged.seeds)
    spent = made.stated() | {"trials": made.trials_by(made.looks), "seeds": judged.seeds}
    intervals = [budget.of(s["name"]).evaluation_interval for s in strategies]
    to_targets = [s["to_target"]["steps"] for s in strategies]
    results = {
        "task": {**design["task"], "target": basis.target},
        "judge": basis.as_dict(),
        "protocol": design["protocol"],
        "budget": {name: spent[name] if name != "looks" else judged.looks for name in design["budget"]},
        "decay": design["decay"],
        "engine": engines(facts),
        "strategies": strategies,
        "pairs": verdict.pairs(judged),
        "expected_best": {s["name"]: expected_best(s, direction) for s in strategies},
        "verdict": found.as_dict(),
        "diagnosis": facts.get(DIAGNOSIS),
        "run": {
            **facts[RUN],
            "seed": design["seed"],
            "seconds": facts.get(SECONDS),
            "last_look": last_look(facts),
            "added": added_to(facts),
        },
        "notes": [*basis.notes(to_targets, intervals), *notes_of(strategies, facts, design)],
    }
    late = sum(r["status"] == "timed out" for r in records)
    if late:
        runs = "run" if late == 1 else "runs"
        results["notes"].append(f"{late} {runs} exceeded the time limit and count as diverged.")
    return plain(results)


def _judged(facts: Mapping[str, Any], finals: Mapping[str, Sequence[Record]], basis: Basis) -> tuple[Judged, Judged]:
    """Returns the final runs as the metric judges them, and as they are judged."""
    spaces = {s["name"]: s["space"] for s in facts[DESIGN]["strategies"]}
    return basis.judged(
        facts,
        {name: [result_of(r) for r in own] for name, own in finals.items()},
        Untrained(facts[UNTRAINED_TEST], facts.get(CONSTANT_TEST)),
        choices={
            name: ", ".join(f"{k} {shown(v)}" for k, v in facts[winner_of(name)]["hyper"].items() if k in space)
            for name, space in spaces.items()
        },
        ended=ended_in_words(last_look(facts)),
    )


def _runs(judged: Judged, name: str) -> Runs:
    """Returns a strategy's runs as they are judged; of one that could not run all failed."""
    lost = [None] * judged.seeds
    return judged.runs.get(name, Runs(lost, [True] * judged.seeds, lost))


def _made(budget: Budget, runs: int) -> Budget:
    """Returns the part of a budget that a strategy with so many final runs was given."""
    return replace(budget, looks=budget.look_of(runs - 1))


def engines(facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns the choices of engines, each with the rung ``from`` which on it holds, None for the first."""
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    for rung, choices in engine_choices(facts):
        for choice in choices:
            key = choice["group"], choice.get("variant", ""), choice["reason"]
            found.setdefault(key, {**choice, "from": TITLES.get(rung)})
    return list(found.values())


def plain(value: Any) -> Any:
    """Returns the value with tuples as lists and non-finite numbers as None, fit for strict JSON."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value.item() if hasattr(value, "item") else value


def in_json(results: Mapping[str, Any]) -> str:
    """Returns the text of ``results.json``."""
    return json.dumps(results, indent=1, allow_nan=False) + "\n"


def _strategy(
    described: Mapping[str, Any],
    records: Sequence[Record],
    finals: Sequence[Record],
    runs: Runs,
    judged: Judged,
    design: Mapping[str, Any],
    facts: Mapping[str, Any],
) -> dict[str, Any]:
    name, direction, space = described["name"], design["task"]["direction"], described["space"]
    last, length = last_of_each(records, name), Budget.from_design(design).of(name).steps
    hyper = facts[winner_of(name)]["hyper"]
    least, most = design["task"]["range"]
    within = (-math.inf if least is None else least, math.inf if most is None else most)
    level, count = (
        statistics.typical(trained(runs), within, halves=design["protocol"] >= PROTOCOL),
        sum(runs.failed),
    )
    low, high = statistics.proportion(count, len(finals))
    steps, per_step = _runs(judged, name).steps, facts[SECONDS_PER_STEP][name]
    given = _made(Budget.from_design(design).of(name), len(finals))
    ends = [value for r in finals if (value := end(r)) is not None]
    return {
        "name": name,
        "hyperparameters": hyper,
        "valid": median(ends) if ends else None,
        "test": {"typical": level.mean, "low": level.low, "high": level.high, "per_seed": list(runs.scores)},
        "failed": {"count": count, "of": len(finals), "low": low, "high": high},
        "runs": [
            {"hyperparameters": r["hyper"], "test": r["test"], "valid": end(r), "failed": bad, "steps_to_target": to}
            for r, bad, to in zip(finals, runs.failed, steps, strict=True)
        ],
        "to_target": to_target(steps, per_step),
        "could_not_run": facts.get(failure_of(name)),
        **tried(last, given.steps),
        "gradient_evaluations": given.tuning_evaluations + given.final_evaluations,
        "on_edge": edge(space, hyper),
        "steps": length,
        "seconds_per_step": per_step,
        "charged": facts.get(CHARGED, {}).get(name, {}),
        "curves": curves(finals, direction),
        "space": space,
        "fixed": {k: v for k, v in hyper.items() if k not in space},
        "recipe": recipe(
            described, hyper, length, {name: {**design, **facts}[name] for name in ("task", "decay", "run")}
        ),
    }


def to_target(steps: Sequence[int | None], per_step: float) -> dict[str, Any]:
    """Returns the median evaluations and seconds to the target, and how many runs reach it, with their intervals."""
    typical, of = statistics.median_time(steps), len(steps)
    reached = sum(s is not None for s in steps)
    low, high = statistics.proportion(reached, of)
    return {
        "steps": typical.mean,
        "gradient_evaluations": typical.mean,
        "seconds": typical.mean * per_step,
        "low_steps": typical.low,
        "high_steps": typical.high,
        "low_seconds": typical.low * per_step,
        "high_seconds": typical.high * per_step,
        "reached": reached,
        "of": of,
        "rate": {"low": low, "high": high},
    }


def slim(records: Iterable[Record]) -> list[Record]:
    """Returns the records, of tuning curves the first and the last point: a large study has millions of points."""
    return [
        r if r["rung"] == "final" else r | {"curve": {field: _ends(points) for field, points in r["curve"].items()}}
        for r in records
    ]


def _ends(points: Sequence[Any]) -> Sequence[Any]:
    return [points[0], points[-1]] if len(points) > 2 else points


def last_of_each(records: Sequence[Record], name: str) -> dict[str, Record]:
    """Returns the furthest tuning record of each configuration of a strategy, by its key."""
    return {r["key"]: r for r in records if r["rung"] != "final" and r["strategy"] == name}


def tried(last: Mapping[str, Record], steps: int) -> dict[str, Any]:
    """Returns what a strategy's configurations came to; ``steps`` are those of a whole run."""
    return {
        "trials": len(last),
        "diverged": sum(r["status"] != "finished" for r in last.values()),
        "sensitivity": [
            {"lr": r["hyper"].get("lr"), "valid": end(r), "status": _status(r, steps)} for r in last.values()
        ],
    }


def _status(record: Record, steps: int) -> str:
    if record["status"] != "finished":
        return "diverged"
    return "finished" if record["steps"] == steps else "stopped"


def end(record: Record) -> float | None:
    """Returns the validation metric at the record's end, None where it diverged or is not a number."""
    value = record["curve"]["valid_metric"][-1] if record["status"] == "finished" else math.nan
    return value if math.isfinite(value) else None


def curves(runs: Sequence[Record], direction: str) -> dict[str, Any]:
    """Returns median and quartile band over the seeds at each step; a run that diverged is the worst after it."""
    steps: list[int] = max((r["curve"]["step"] for r in runs), key=len, default=[])

    def band(field: str, worst: float) -> dict[str, list[float | None]]:
        at = [dict(zip(r["curve"]["step"], r["curve"][field], strict=True)) for r in runs]
        rows = [[points.get(step) for points in at] for step in steps]
        return statistics.median_and_band(rows, worst)

    worst = -math.inf if direction == "max" else math.inf
    return {"step": steps, "train_loss": band("train_loss", math.inf), "valid_metric": band("valid_metric", worst)}


def expected_best(strategy: Mapping[str, Any], direction: str) -> list[float | None]:
    """Returns the expected best validation metric of k of the configurations, for k = 1 … N."""
    return statistics.expected_best([s["valid"] for s in strategy["sensitivity"]], direction)
