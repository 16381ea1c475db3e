"""One trained model in trackers: a run with the rows of its history."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from thalweg.compare.log.log import finite
from thalweg.compare.log.tracker import TrackedRun, Tracker
from thalweg.compare.user_errors import brief

NO_VALUES = ("stage", "step", "epoch", "seconds")


def log_training(trackers: Sequence[Tracker], folder: Path, record: Mapping[str, Any]) -> None:
    """Writes a training run that has ended; one that a tracker has is not written twice.

    Arguments:
        trackers: to write to.
        folder: of the run, with ``history.json`` in it.
        record: what that file holds.

    Raises:
        ValueError: a tracker cannot be written to.
    """
    project = folder.resolve().name
    # Its seconds make a run's history its own; the same run, asked for again, has the same.
    own = hashlib.sha256(json.dumps(record["rows"]).encode()).hexdigest()[:8]
    test = {f"test/{name.removeprefix('test_')}": v for name, v in record.items() if name.startswith("test_")}
    run = TrackedRun(
        name=f"train/{record['strategy']}",
        config={
            "task": record["task"],
            "strategy": record["strategy"],
            "seed": record["seed"],
            **record["hyperparameters"],
        },
        points=list(_points(record["rows"])),
        summary=finite(test),
        files=[folder / "history.json"],
    )
    for tracker in trackers:
        try:
            tracker.begin(project, f"{project} {own}", {})
            if not tracker.holds(run.name):
                tracker.conclude(run)
        except Exception as error:
            raise ValueError(
                f"cannot log to {tracker.place} ({brief(error)}): weights and history are in {folder}"
            ) from error


def _points(rows: Sequence[Mapping[str, Any]]) -> Iterator[tuple[int, dict[str, float]]]:
    """Yields (step of all stages, values) of each row."""
    before = last = 0
    stage = None
    for row in rows:
        if row["stage"] != stage:
            stage, before = row["stage"], last
        last = before + row["step"]
        named = {name.replace("_", "/", 1): value for name, value in row.items() if name not in NO_VALUES}
        yield last, finite(named)
