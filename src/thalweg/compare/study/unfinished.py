"""What can be shown of a study that is not finished, from its records alone."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from thalweg.compare.design import Budget
from thalweg.compare.storage.facts import DESIGN, DIAGNOSIS, ENGINE, RUN, additions, engine_choices, finished
from thalweg.compare.storage.store import Store
from thalweg.compare.study.basis import Record
from thalweg.compare.study.looks import all_looks
from thalweg.compare.study.results import curves, end, expected_best, last_of_each, plain, slim, tried


def progress(facts: Mapping[str, Any], counts: Mapping[str, int]) -> dict[str, Any]:
    """Returns the ``stage`` in words and the trial-steps ``done`` and ``left``; ``counts`` are records of each rung.

    A run counts when it is in the store, one that diverged with all the steps that it was given.

    >>> budget = {"trials": 4, "steps": 30, "seeds": 2, "warmup": 0, "trial_seconds": None}
    >>> facts = {"design": {"protocol": 2, "budget": budget, "strategies": [{"name": "sgd"}]}, "engine": []}
    >>> progress(facts, {"tune-1": 4, "tune-2": 1})
    {'stage': 'tuning, the best to the end', 'done': 50, 'left': 120}
    >>> progress(facts, {"tune-1": 3})
    {'stage': 'tuning, first rung', 'done': 30, 'left': 140}
    """
    names, looks = [s["name"] for s in facts[DESIGN]["strategies"]], all_looks(facts)
    stages = [stage for stage in Budget.from_design(facts[DESIGN]).stages_of(names) if stage.runs * stage.steps]
    done = sum(counts.get(rung, 0) * steps for rung, steps in {(s.rung, s.steps) for s in stages})
    ended = bool(looks and looks[-1]["ended_by"])
    added = additions(facts)
    before = looks[-1].get("records", {}) if looks else added[-1]["to"]["records"] if added else {}
    now = {rung: count - before.get(rung, 0) for rung, count in counts.items()}  # records of the batch in progress
    begun = [i for i, s in enumerate(stages) if s.look == len(looks) + 1 and now.get(s.rung)]
    first = max(begun, default=next((i for i, s in enumerate(stages) if s.look > len(looks)), len(stages)))
    strategies = len(looks[-1]["candidates"]) if looks and "candidates" in looks[-1] else len(names)
    there = counts if added else now
    unneeded = added[-1]["unneeded"] if added else {}  # of what was planned before
    left = [
        (
            s.title,
            max(0, strategies * s.runs - there.get(s.rung, 0) * (s.look == len(looks) + 1) - unneeded.get(s.rung, 0))
            * s.steps,
        )
        for s in ([] if ended else stages[first:])
    ]
    stage = next((title for title, steps in left if steps), "timing the finalists")
    if ENGINE not in facts:
        stage = "setting up"
    return {"stage": "finished" if finished(facts) else stage, "done": done, "left": sum(n for _, n in left)}


def pace(facts: Mapping[str, Any]) -> float | None:
    """Returns the seconds of a trial-step as measured when the study last chose its engines; None before."""
    chosen, count = list(engine_choices(facts)), len(facts[DESIGN]["strategies"])
    if not chosen or not chosen[-1][1]:
        return None
    engines = chosen[-1][1]
    alone = {s["name"] for s in facts[DESIGN]["strategies"]} & {e["group"] for e in engines}
    shared = sum(e["group"] not in alone for e in engines)
    weights = [1.0 if e["group"] in alone else (count - len(alone)) / shared for e in engines]
    return sum(w / e["trial_steps_per_second"] for w, e in zip(weights, engines, strict=True)) / count


def so_far(store: Store) -> dict[str, Any]:
    """Returns what :func:`thalweg.compare.study.results.collect` does, as far as the tuning records say.

    ``verdict`` is None, and so is what final runs alone can tell. Strategies are ranked by the validation metric of
    their best configuration, of those that went furthest.
    """
    facts, records = store.facts(), slim(store.records())
    design = facts[DESIGN]
    direction = design["task"]["direction"]
    strategies = [_strategy(s, records, design, store) for s in design["strategies"]]
    sign = -1 if direction == "max" else 1
    strategies.sort(key=lambda s: math.inf if s["valid"] is None else sign * s["valid"])
    best = {s["name"]: expected_best(s, direction) for s in strategies}
    shown = {"strategies": strategies, "expected_best": best, "verdict": None, "diagnosis": facts.get(DIAGNOSIS)}
    return plain(
        {"task": design["task"], "budget": design["budget"], "decay": design["decay"], "run": facts.get(RUN), **shown}
    )


def _strategy(
    described: Mapping[str, Any], records: Sequence[Record], design: Mapping[str, Any], store: Store
) -> dict[str, Any]:
    name, direction = described["name"], design["task"]["direction"]
    last = last_of_each(records, name)
    best = _best(list(last.values()), direction)
    finals = [r for r in records if r["rung"] == "final" and r["strategy"] == name]
    return {
        "name": name,
        "hyperparameters": best["hyper"] if best else {},
        "valid": end(best) if best else None,
        "at": best["steps"] if best else None,
        **tried(last, Budget.from_design(design).of(name).steps),
        "seconds_per_step": None,
        "curves": curves(finals or ([_whole(best, store)] if best else []), direction),
        "space": described["space"],
        "fixed": {k: v for k, v in best["hyper"].items() if k not in described["space"]} if best else {},
    }


def _best(records: Sequence[Record], direction: str) -> Record | None:
    """Returns the best of the records that went furthest; the validation loss breaks ties, as in the study."""
    sound = [r for r in records if r["status"] == "finished" and math.isfinite(r["curve"]["valid_metric"][-1])]
    most = max((r["steps"] for r in sound), default=0)
    sign = -1 if direction == "max" else 1

    def score(record: Record) -> tuple[float, float]:
        return sign * record["curve"]["valid_metric"][-1], record["curve"]["valid_loss"][-1]

    return min((r for r in sound if r["steps"] == most), key=score, default=None)


def _whole(record: Record, store: Store) -> Record:
    """Returns the record with the learning curve of all its rungs."""
    curves = [r["curve"] for r in store.records(record["key"])]
    return record | {"curve": {field: [v for curve in curves for v in curve[field]] for field in record["curve"]}}
