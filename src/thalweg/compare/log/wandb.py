"""Runs for Weights & Biases, offline: a group a study, a run a record, to be sent by ``wandb sync``."""

import hashlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # before the import: nothing here calls anyone

import wandb

from thalweg.compare.log.tracker import Run

WHOLE = "thalweg-whole"  # file beside a run that was written to its end


class WandB:
    """Writes below ``wandb`` in a folder, by default this one; ``WANDB_MODE=online`` sends runs as they are written."""

    def __init__(self, place: str | None) -> None:
        self._folder = Path(place or os.environ.get("WANDB_DIR") or ".")
        self.place = str(self._folder / "wandb")
        Path(self.place).mkdir(parents=True, exist_ok=True)

    def begin(self, project: str, study: str, about: Mapping[str, Any]) -> None:
        """Begins a study or goes on with it."""
        self._project, self._study, self._about = os.environ.get("WANDB_PROJECT", project), study, about

    def holds(self, name: str) -> bool:
        """Says whether a run is there."""
        return any((folder / WHOLE).exists() for folder in self._of(name))

    def write(self, run: Run) -> None:
        """Writes a run; a part of it that a cut has left is removed first."""
        for folder in self._of(run.name):
            shutil.rmtree(folder)
        kind = run.name.partition("/")[0]
        with wandb.init(
            dir=str(self._folder), mode=_mode(), project=self._project, group=self._study, job_type=kind, name=run.name,
            id=self._id(run.name), config={**self._about, **run.config}, tags=sorted(run.tags.values()),
            notes=run.text or None, reinit="create_new", settings=SETTINGS,
        ) as written:  # fmt: skip
            for step, values in run.points:
                written.log(dict(values), step=step)
            written.summary.update(dict(run.summary))
        for folder in self._of(run.name):
            (folder / WHOLE).touch()

    def conclude(self, run: Run) -> None:
        """Writes what the study came to as a run of its own."""
        self.write(run)

    def _id(self, name: str) -> str:
        return hashlib.sha256(f"{self._study}\n{name}".encode()).hexdigest()[:16]

    def _of(self, name: str) -> list[Path]:
        return list(Path(self.place).glob(f"*run-*-{self._id(name)}"))


def _mode() -> Any:
    return os.environ.get("WANDB_MODE", "offline")


SETTINGS = wandb.Settings(  # a record is numbers: neither the machine nor the code that ran goes with it
    console="off", silent=True, disable_git=True, save_code=False, x_disable_meta=True, x_disable_stats=True,
    x_disable_machine_info=True, x_save_requirements=False,
)  # fmt: skip


def make(place: str | None) -> WandB:
    """Returns the tracker."""
    return WandB(place)
