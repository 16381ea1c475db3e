"""Runs in MLflow: an experiment a study's folder, a run a study, and nested in it a run a record."""

import logging
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from thalweg.compare.arguments import check_reachable
from thalweg.compare.log.tracker import TrackedRun

STUDY, NAME, NOTE = "thalweg.study", "thalweg.run", "mlflow.note.content"
BATCH = 1000  # metrics that MLflow takes at once


class MLflow:
    """Writes to a server, to a data base, or to ``mlflow.db`` in a folder; by default where MLflow is set to write."""

    def __init__(self, place: str | None, here: Path) -> None:
        self._folder = (here / place).resolve() if place and "://" not in place else None
        if self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True)
            uri: str | None = f"sqlite:///{self._folder / 'mlflow.db'}"
        else:
            uri = place
            try:
                check_reachable(place or "")
            except OSError as error:
                why = error.strerror or error
                raise ValueError(f"cannot log to {place} ({why}): start that server, or choose another") from error
        logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)  # it tells of every table that it makes
        self.client = MlflowClient(tracking_uri=uri)
        self.place = place or "MLflow"
        self._held: set[str] = set()

    def begin(self, project: str, study: str, about: Mapping[str, Any]) -> None:
        """Begins a study or goes on with it; what was cut off is deleted, to be written again."""
        found = self.client.get_experiment_by_name(project)
        if found is not None and found.lifecycle_stage != "active":
            raise ValueError(f"the experiment {project!r} was deleted: restore it, or delete it permanently")
        artifacts = (self._folder / "artifacts").as_uri() if self._folder else None
        self._experiment = found.experiment_id if found else self.client.create_experiment(project, artifacts)
        self._study, self._parent = study, ""
        for run in self._runs():
            nested, whole = MLFLOW_PARENT_RUN_ID in run.data.tags, run.info.status == "FINISHED"
            if not nested:
                self._parent = run.info.run_id
            if whole:
                self._held.add(run.data.tags[NAME])
            elif nested:
                self.client.delete_run(run.info.run_id)
        if not self._parent:
            self._parent = self._begun("", study, {})
            self._put(self._parent, TrackedRun("", config=about))

    def holds(self, name: str) -> bool:
        """Says whether a run is there."""
        return name in self._held

    def write(self, run: TrackedRun) -> None:
        """Writes a run; it is finished once all of it is there."""
        at = self._begun(run.name, run.name, {**run.tags, MLFLOW_PARENT_RUN_ID: self._parent})
        self._put(at, run)
        self._end(at, run.name)

    def conclude(self, run: TrackedRun) -> None:
        """Writes what the study came to into the study's own run."""
        self._put(self._parent, run)
        self.client.set_tag(self._parent, NAME, run.name)
        self._end(self._parent, run.name)

    def _runs(self) -> list[Any]:
        found: list[Any] = []
        token = None
        while True:
            page = self.client.search_runs([self._experiment], f"tags.`{STUDY}` = '{self._study}'", page_token=token)
            found += page
            token = page.token
            if not token:
                return found

    def _begun(self, name: str, shown: str, tags: Mapping[str, str]) -> str:
        tags = {STUDY: self._study, NAME: name, **tags}
        return str(self.client.create_run(self._experiment, run_name=shown, tags=tags).info.run_id)

    def _put(self, at: str, run: TrackedRun) -> None:
        now = int(time.time() * 1000)
        last = run.points[-1][0] if run.points else 0
        points = [*run.points, (last, run.summary)]
        metrics = [Metric(_named(name), value, now, step) for step, values in points for name, value in values.items()]
        params = [Param(_named(name), str(value)) for name, value in run.config.items()]
        self.client.log_batch(at, metrics[:BATCH], params, [RunTag(NOTE, run.text)] if run.text else [])
        for start in range(BATCH, len(metrics), BATCH):
            self.client.log_batch(at, metrics[start : start + BATCH])
        for path in run.files:
            self.client.log_artifact(at, str(path))

    def _end(self, at: str, name: str) -> None:
        self.client.set_terminated(at)
        self._held.add(name)


def _named(name: str) -> str:
    """Returns the name in letters that MLflow takes.

    >>> _named("test/loss/adam+he@cosine")
    'test/loss/adam_he:cosine'
    """
    return re.sub(r"[^\w\-. :/]", "_", name.replace("@", ":"))


def make(place: str | None, here: Path) -> MLflow:
    """Returns the tracker; a relative path starts from ``here``."""
    return MLflow(place, here)
