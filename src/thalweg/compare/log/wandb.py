"""Runs for Weights & Biases, offline: a group a study, a run a record, to be sent by ``wandb sync``."""

import hashlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import wandb

from thalweg.compare.log.tracker import TrackedRun

DONE = "thalweg.done"  # stands beside W&B's own file of a run once all of it was handed over


class WandB:
    """Writes below ``wandb`` in a folder, by default this one; ``WANDB_MODE=online`` sends runs as they are written."""

    def __init__(self, place: str | None, here: Path) -> None:
        named = Path(place or os.environ.get("WANDB_DIR") or ".")
        self.place, self._folder = str(named / "wandb"), here / named
        self._runs = self._folder / "wandb"
        self._runs.mkdir(parents=True, exist_ok=True)
        self._held: set[str] = set()

    def begin(self, project: str, study: str, about: Mapping[str, Any]) -> None:
        """Begins a study or goes on with it."""
        self._project, self._study, self._about = os.environ.get("WANDB_PROJECT", project), study, about

    def holds(self, name: str) -> bool:
        """Says whether a run is there, with what was noted beside it at its end."""
        if name not in self._held and any((folder / DONE).exists() for folder in self._of(name)):
            self._held.add(name)
        return name in self._held

    def write(self, run: TrackedRun) -> None:
        """Writes a run; a part of it that a cut has left is removed first."""
        for folder in self._of(run.name):
            shutil.rmtree(folder)
        kind = run.name.partition("/")[0]
        with wandb.init(
            dir=str(self._folder),
            mode=_mode(),
            project=self._project,
            group=self._study,
            job_type=kind,
            name=run.name,
            id=self._id(run.name),
            config={**self._about, **run.config},
            tags=sorted(run.tags.values()),
            notes=run.text or None,
            reinit="create_new",
            settings=_settings(),
        ) as written:
            for step, values in run.points:
                written.log(dict(values), step=step)
            written.summary.update(dict(run.summary))
        for folder in self._of(run.name):
            (folder / DONE).touch()
        self._held.add(run.name)

    def conclude(self, run: TrackedRun) -> None:
        """Writes what the study came to as a run of its own."""
        self.write(run)

    def _id(self, name: str) -> str:
        return hashlib.sha256(f"{self._study}\n{name}".encode()).hexdigest()[:16]

    def _of(self, name: str) -> list[Path]:
        return list(self._runs.glob(f"*run-*-{self._id(name)}"))


def _mode() -> Any:
    return os.environ.get("WANDB_MODE", "offline")


def _settings() -> Any:
    """Returns settings by which a record is numbers: neither the machine nor the code that ran goes with it."""
    return wandb.Settings(
        console="off",
        silent=True,
        disable_git=True,
        save_code=False,
        x_disable_meta=True,
        x_disable_stats=True,
        x_disable_machine_info=True,
        x_save_requirements=False,
        x_service_wait=300.0,
    )


def make(place: str | None, here: Path) -> WandB:
    """Returns the tracker; a relative path starts from ``here``."""
    return WandB(place, here)
