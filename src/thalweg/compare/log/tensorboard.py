"""Runs as TensorBoard's event files: a folder a run, with its curve, its hyperparameters and what it came to."""

import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from thalweg.compare.log.tracker import TrackedRun

EVENTS = "events.out.tfevents.*"


class TensorBoard:
    """Writes below a folder, by default TensorBoard's usual ``runs``."""

    def __init__(self, place: str | None, here: Path) -> None:
        self.place = place or "runs"
        self._root = here / self.place
        self._root.mkdir(parents=True, exist_ok=True)

    def begin(self, project: str, study: str, about: Mapping[str, Any]) -> None:
        """Begins a study or goes on with it."""
        self.folder = self._root / _safe(study)

    def holds(self, name: str) -> bool:
        """Says whether a run is there."""
        return any(self._at(name).glob(EVENTS))

    def write(self, run: TrackedRun) -> None:
        """Writes a run's events elsewhere and moves them in place, whole."""
        target = self._at(run.name)
        target.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as apart:
            with SummaryWriter(apart) as writer:
                self._events(writer, run)
            for made in Path(apart).glob(EVENTS):
                shutil.copyfile(made, target / "part")
                os.replace(target / "part", target / made.name)

    def conclude(self, run: TrackedRun) -> None:
        """Writes what the study came to, as text and scalars."""
        self.write(run)

    def _at(self, name: str) -> Path:
        return self.folder.joinpath(*map(_safe, name.split("/")))

    def _events(self, writer: Any, run: TrackedRun) -> None:
        for step, values in run.points:
            for name, value in values.items():
                writer.add_scalar(name, value, step)
        for name, value in run.summary.items():
            writer.add_scalar(name, value, run.points[-1][0] if run.points else 0)
        if run.text:
            writer.add_text("verdict", run.text)
        if run.config:
            # Without the summary of an experiment TensorBoard gathers the columns from all runs, which differ here.
            metrics = {name: 0.0 for values in [run.summary, *(v for _, v in run.points[-1:])] for name in values}
            _, started, ended = hparams({**run.config, **run.tags}, metrics)
            for summary in (started, ended):
                writer.file_writer.add_summary(summary)


def _safe(name: str) -> str:
    """Returns a name that is one folder's wherever it is made."""
    return re.sub(r"[^\w.+@ -]", "_", name).lstrip(".") or "_"


def make(place: str | None, here: Path) -> TensorBoard:
    """Returns the tracker; a relative path starts from ``here``."""
    return TensorBoard(place, here)
