"""Numbers to read, and the table of them: one row a strategy, of what is judged first."""

from collections.abc import Mapping
from typing import Any

from thalweg.compare.ranges import shown
from thalweg.compare.report.traces import Results

Cell = str | list[str]  # a list wraps between its parts


def columns(results: Results) -> dict[str, list[Cell]]:
    """Returns the columns of the table by their titles, a cell for each strategy in their order."""
    found: dict[str, list[Cell]]
    strategies, metric = results["strategies"], results["task"]["metric"]
    judge = results.get("judge", {}).get("by", "metric")
    test: dict[str, list[Cell]] = {f"test {metric}": [number(s["test"]["typical"]) for s in strategies]}
    failed: dict[str, list[Cell]] = {
        "failed runs": [f"{s['failed']['count']} of {s['failed']['of']}" for s in strategies]
    }
    times = [s["to_target"] for s in strategies]
    steps: dict[str, list[Cell]] = {"steps to target": [number(t["steps"]) for t in times]}
    seconds: dict[str, list[Cell]] = {"seconds to target": [number(t["seconds"], 3) for t in times]}
    if judge == "metric":
        found = {**test, "95 % interval": [interval(s["test"]) for s in strategies], **failed, **steps, **seconds}
    else:
        of_steps: dict[str, list[Cell]] = {"95 % interval of steps": [interval(t, kind="_steps") for t in times]}
        of_seconds: dict[str, list[Cell]] = {"95 % interval of seconds": [interval(t, 3, "_seconds") for t in times]}
        reached: dict[str, list[Cell]] = {"reached it": [f"{t['reached']} of {t['of']}" for t in times]}
        rate: dict[str, list[Cell]] = {"true rate": [interval(t["rate"], 2) for t in times]}
        found = steps | of_steps | seconds | of_seconds | reached | rate | test | failed
    per = [None if s["seconds_per_step"] is None else s["seconds_per_step"] * 1e6 for s in strategies]
    found["µs per step"] = [number(value, 3) for value in per]
    found["diverged trials"] = [f"{s['diverged']} of {s['trials']}" for s in strategies]
    found["tuned to"] = [
        [f"{k} {shown(v)}" for k, v in s["hyperparameters"].items() if k in s["space"]] for s in strategies
    ]
    if any(s.get("charged") for s in strategies):
        found["spent before the first step"] = [
            [f"{what} {number(count)}" for what, count in s["charged"].items()] for s in strategies
        ]
    return found


def number(value: Any, digits: int = 4) -> str:
    """Returns a number to read; a dash for None."""
    if value is None:
        return "–"
    if isinstance(value, int) or 1000 <= abs(value) < 1e9:
        return f"{round(value):,}".replace(",", "\u202f")
    return f"{value:.{digits}g}"


def interval(of: Mapping[str, Any], digits: int = 4, kind: str = "") -> str:
    """Returns an interval to read, of bounds of a ``kind``; one dash where it has none.

    >>> interval({"low": 0.25, "high": 0.5}), interval({"low": None, "high": None})
    ('0.25 to 0.5', '–')
    >>> interval({"low_seconds": 0.25, "high_seconds": None}, kind="_seconds")
    '0.25 or more'
    """
    of = {name: of[name + kind] for name in ("low", "high")}
    bounds = number(of["low"], digits), number(of["high"], digits)
    if kind and of["high"] is None is not of["low"]:
        return f"{bounds[0]} or more"
    return bounds[0] if of["low"] is of["high"] is None else " to ".join(bounds)
