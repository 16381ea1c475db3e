"""A study for Optuna and its dashboard: one study there a strategy, of its tuning, and one of the final runs.

================================= ==========================================================
here                              there
================================= ==========================================================
a configuration                   a trial; what is searched are its parameters, the rest and
                                  the seed its user attributes
points of the learning curve      intermediate values, of the validation metric
trained to the end                ``COMPLETE``, with the last of them as its value
trained to the first rung alone   ``PRUNED``
diverged                          ``FAIL``
a final run                       a trial of the parameters ``strategy`` and ``seed``, whose
                                  value is the test metric
================================= ==========================================================
"""

import math
import os
import shutil
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from thalweg.compare.design import Budget
from thalweg.compare.ranges import OneOf, Range, as_range
from thalweg.compare.storage.facts import DESIGN
from thalweg.compare.storage.store import Store
from thalweg.compare.study.basis import Record, judged_by
from thalweg.compare.study.results import last_of_each
from thalweg.extras import needs


def to_optuna(store: Store, path: Path) -> list[str]:
    """Writes a storage, whole or not at all; returns the names of its studies.

    Arguments:
        store: the study's, finished or not.
        path: of the file, which is not there yet: Optuna's journal, which takes a twentieth of the time of its SQLite.

    Raises:
        ValueError: Optuna is not installed, the file is there, it cannot be written.
    """
    with needs("optuna", "--format optuna"):
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend
    if path.exists():
        raise ValueError(f"{path} already exists and may contain other studies: name a new file with --to")
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    part = path.with_name(f".{path.name}.part")
    try:
        with tempfile.TemporaryDirectory() as apart, warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # of naming the metric
            made = str(Path(apart) / "journal")
            names = _written(JournalStorage(JournalFileBackend(made)), store)
            shutil.copyfile(made, part)
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise ValueError(f"cannot write {path} ({error.strerror}): choose another file with --to") from error
    finally:
        optuna.logging.set_verbosity(level)
    return names


def _written(storage: Any, store: Store) -> list[str]:
    import optuna

    design, records = store.fact(DESIGN), list(store.records())
    task, by = design["task"], judged_by(store.facts())
    direction = optuna.study.StudyDirection.MAXIMIZE if task["direction"] == "max" else None
    names = []

    def study_of(what: str, metric: str, trials: Sequence[Any]) -> None:
        names.append(f"{task['name']}: {what}")
        study = optuna.create_study(storage=storage, study_name=names[-1], direction=direction)
        study.set_metric_names([f"{metric} {task['metric']}"])
        study.set_user_attr("thalweg", {"task": task["name"], "budget": design["budget"], "seed": design["seed"], **by})
        study.add_trials(trials)

    for described in design["strategies"]:
        study_of(
            described["name"],
            "validation",
            _tuning(described, records, Budget.from_design(design).of(described["name"]).steps),
        )
    finals = [record for record in records if record["rung"] == "final"]
    if finals:
        study_of("final runs", "test", _finals(finals))
    return names


def _tuning(described: Mapping[str, Any], records: Sequence[Record], steps: int) -> list[Any]:
    last = last_of_each(records, described["name"])
    ranges = {}
    for name, bounds in described["space"].items():
        ranges[name] = _distribution(as_range(bounds), [record["hyper"][name] for record in last.values()])
    made = []
    for key, record in last.items():
        stretches = [r["curve"] for r in records if r["key"] == key]
        points = [p for curve in stretches for p in zip(curve["step"], curve["valid_metric"], strict=True)]
        state = "FAIL" if record["status"] != "finished" else "COMPLETE" if record["steps"] == steps else "PRUNED"
        rest = {name: value for name, value in record["hyper"].items() if name not in ranges}
        params = {name: record["hyper"][name] for name in ranges}
        attributes = {"configuration": key, "seed": record["seed"], **rest}
        made.append(_trial(state, points[-1][1] if points else None, params, ranges, attributes, points))
    return made


def _distribution(bounds: Range | OneOf, tried: Sequence[float]) -> Any:
    """Returns a range as Optuna's, with all values that were tried: the default may lie outside."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(bounds, OneOf):
        return CategoricalDistribution(list(dict.fromkeys([*bounds.values, *tried])))
    low, high = min([bounds.low, *tried]), max([bounds.high, *tried])
    is_log = bounds.scale == "log" and low > 0
    if bounds.whole:
        return IntDistribution(int(low), int(high), log=is_log)
    return FloatDistribution(low, high, log=is_log)


def _finals(records: Sequence[Record]) -> list[Any]:
    from optuna.distributions import CategoricalDistribution

    ranges = {
        "strategy": CategoricalDistribution(list(dict.fromkeys(r["strategy"] for r in records))),
        "seed": CategoricalDistribution(list(dict.fromkeys(r["seed"] for r in records))),
    }
    made = []
    for record in records:
        points = list(zip(record["curve"]["step"], record["curve"]["valid_metric"], strict=True))
        state = "FAIL" if record["status"] != "finished" else "COMPLETE"
        params = {"strategy": record["strategy"], "seed": record["seed"]}
        made.append(_trial(state, record["test"], params, ranges, record["hyper"], points))
    return made


def _trial(
    state: str,
    value: float | None,
    params: Mapping[str, Any],
    ranges: Mapping[str, Any],
    attributes: Mapping[str, Any],
    points: Sequence[tuple[int, float]],
) -> Any:
    from optuna.trial import TrialState, create_trial

    return create_trial(
        state=TrialState[state],
        value=value if state == "COMPLETE" else None,
        params=dict(params),
        distributions=dict(ranges),
        user_attrs=dict(attributes),
        intermediate_values={step: v for step, v in points if v is not None and math.isfinite(v)},
    )
