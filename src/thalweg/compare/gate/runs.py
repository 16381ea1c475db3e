"""The runs of one side of a gate, and the lines of a file that hold them: a JSON object a run."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thalweg.compare.names import check_name
from thalweg.compare.user_errors import TaskError

COMMON = 3  # seeds in common, from which on runs are paired by their seeds
FIELDS = ("seed", "status", "why", "untrained", "trace", "seconds")  # beside the metric, under its own name


@dataclass(frozen=True)
class Run:
    """What became of one run.

    Attributes:
        seed: of the run, by which it is paired; a number or a text.
        score: its test metric; None where it failed.
        status: ``finished``, ``diverged``, ``timed out`` or ``failed``.
        why: what made it fail, in words.
        untrained: the test metric before any step; None where it is not known.
        trace: a digest of its learning curve and its score; empty where it is not known.
        seconds: that it took.
    """

    seed: int | str
    score: float | None
    status: str = "finished"
    why: str = ""
    untrained: float | None = None
    trace: str = ""
    seconds: float = 0.0

    def as_dict(self, metric: str) -> dict[str, Any]:
        """Returns it as plain values, the score under the name of the metric."""
        return {"seed": self.seed, metric: self.score, **{name: getattr(self, name) for name in FIELDS[1:]}}


@dataclass(frozen=True)
class Records:
    """The runs that a file holds.

    Attributes:
        name: of the file.
        metric: the name of the field that holds it.
        runs: in their order.
    """

    name: str
    metric: str
    runs: Sequence[Run]


def check_metric(metric: str) -> None:
    """Raises TaskError where a metric has the name of another field of a record.

    >>> check_metric("seconds")
    Traceback (most recent call last):
    thalweg.compare.user_errors.TaskError: the metric is called 'seconds', which records hold beside it: give ...
    """
    check_name("the metric", metric)
    if metric in FIELDS:
        raise TaskError(f"the metric is called {metric!r}, which records hold beside it: give it another name")


def read_records(
    source: "str | Path | Iterable[Mapping[str, Any]]", name: str, metric: str | None, here: Path
) -> Records:
    """Returns the runs of a file of JSON lines, or of a list of mappings, each with a seed and the metric.

    Arguments:
        source: the file, a relative path from ``here``, or the mappings.
        name: what the runs are called in errors, where they come from no file.
        metric: the field to read; by default the only one that holds numbers beside seed and the like.
        here: a folder.

    Raises:
        TaskError: it cannot be read, a line is no such record, or a seed comes twice.
    """
    if isinstance(source, (str, Path)):
        name, rows = str(source), _lines(here / source, str(source))
    else:
        rows = [(f"{name}, record {i}", row) for i, row in enumerate(source, start=1)]
    if not rows:
        raise TaskError(f"{name} holds no run: give one record a run, such as {EXAMPLE}")
    for place, row in rows:
        if not isinstance(row, Mapping):
            raise TaskError(f"{place}: {json.dumps(row)[:80]} is no record: write one such as {EXAMPLE}")
    metric = metric or _only_number(name, [row for _, row in rows])
    check_metric(metric)
    runs, seen = [], dict[int | str, str]()
    for place, row in rows:
        run = _run_of(place, row, metric)
        if run.seed in seen:
            raise TaskError(f"{place}: seed {run.seed} comes again, after {seen[run.seed]}: keep one run for each seed")
        seen[run.seed] = place.rpartition(", ")[2]
        runs.append(run)
    return Records(name, metric, runs)


EXAMPLE = '{"seed": 0, "accuracy": 0.97}'


def _lines(path: Path, name: str) -> list[tuple[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no UTF-8"
        raise TaskError(f"cannot read {name} ({why}): give a file of one JSON object a line") from error
    rows = []
    for i, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            try:
                rows.append((f"{name}, line {i}", json.loads(line)))
            except (ValueError, RecursionError) as error:
                raise TaskError(f"{name}, line {i} is no JSON: write one object a line, such as {EXAMPLE}") from error
    return rows


def _only_number(name: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """Returns the name of the one field that holds numbers."""
    found = dict.fromkeys(k for row in rows for k, v in row.items() if k not in FIELDS and _is_number(v))
    if len(found) != 1:
        held = f"holds {', '.join(map(str, found))}" if found else "holds no field with numbers beside the seed"
        raise TaskError(f"{name} {held}: name the one to judge with --metric")
    return str(next(iter(found)))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _run_of(place: str, row: Mapping[str, Any], metric: str) -> Run:
    if "seed" not in row:
        raise TaskError(f"{place} has no seed: write one such as {EXAMPLE}")
    seed = row["seed"]
    if not isinstance(seed, (int, str)) or isinstance(seed, bool):
        raise TaskError(f"{place}: the seed is {json.dumps(seed)[:80]}: give a whole number or a text")
    if metric not in row:
        raise TaskError(
            f"{place} has no {metric!r}: write null for a run that failed, or name another field (--metric)"
        )
    score, status = row[metric], row.get("status", "finished")
    if score is not None and not _is_number(score):
        raise TaskError(f"{place}: {metric} is {json.dumps(score)[:80]}: give a number, or null for a run that failed")
    if score is not None and (abs(score) > 1e300 or math.isinf(score)):
        raise TaskError(f"{place}: {metric} is {str(score)[:40]}: give a finite number, or null for a run that failed")
    failed = score is None or math.isnan(score) or status != "finished"
    why = str(
        row.get("why") or ("" if not failed else f"its {metric} is {score}" if score is not None else "no result")
    )
    untrained, seconds = (row.get(name) for name in ("untrained", "seconds"))
    return Run(
        seed,
        None if failed else float(score),
        (status if isinstance(status, str) and status != "finished" else "failed") if failed else "finished",
        why if failed else "",
        float(untrained) if untrained is not None and _is_number(untrained) else None,
        str(row.get("trace") or ""),
        float(seconds) if seconds is not None and _is_number(seconds) else 0.0,
    )


def paired(one: Records, two: Records) -> tuple[list[Run], list[Run], list[str]]:
    """Returns the runs of two files in pairs, and how they were paired, in lines.

    >>> a, b = (Records(name, "loss", [Run(s, 0.5) for s in seeds]) for name, seeds in (("a", "xyz"), ("b", "uv")))
    >>> paired(a, b)[2]
    ['the seeds do not match, so the runs are paired in their order, as independent ones; 1 run of a is left over']
    """
    other = {run.seed: run for run in two.runs}
    common = [run for run in one.runs if run.seed in other]
    if len(common) >= min(COMMON, len(one.runs), len(two.runs)):
        pairs = [(run, other[run.seed]) for run in common]
        notes = []
    else:
        pairs = list(zip(one.runs, two.runs, strict=False))
        notes = ["the seeds do not match, so the runs are paired in their order, as independent ones"]
    left = [(len(records.runs) - len(pairs), records.name) for records in (one, two)]
    over = " and ".join(f"{n} run{'s' * (n > 1)} of {name}" for n, name in left if n)
    if over:
        verb = "are" if sum(n for n, _ in left) > 1 else "is"
        notes = [*notes[:-1], f"{notes[-1]}; {over} {verb} left over" if notes else f"{over} {verb} left over: no pair"]
    return [a for a, _ in pairs], [b for _, b in pairs], notes
