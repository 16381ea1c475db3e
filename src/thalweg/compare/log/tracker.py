"""What a tracker of experiments is given, and how one is named: ``tensorboard``, ``mlflow=DIR``, ``wandb``."""

import difflib
import importlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from thalweg.extras import needs
from thalweg.tensors.renamed import former_attributes

TrackerName = Literal["tensorboard", "mlflow", "wandb"]
# What each reads of the environment when it is imported and later, as far as the user has not said otherwise: that
# nothing but a server that was named is called, and that a study does not wait four minutes for one.
TRACKERS: Mapping[str, Mapping[str, str]] = {
    "tensorboard": {},
    "mlflow": {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    },
    "wandb": {"WANDB_ERROR_REPORTING": "false"},
}


@dataclass(frozen=True)
class TrackedRun:
    """One run as trackers know it, whole.

    Arguments:
        name: unique within its study, parts separated by slashes; the first part is what kind of run it is.
        config: what it was run with.
        points: (step, values) of its curve; values that are not finite are left out.
        summary: what it came to.
        tags: words about it.
        text: what a person should read of it.
        files: that belong to it.
    """

    name: str
    config: Mapping[str, Any] = field(default_factory=dict)
    points: Sequence[tuple[int, Mapping[str, float]]] = ()
    summary: Mapping[str, float] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    text: str = ""
    files: Sequence[Path] = ()


class Tracker(Protocol):
    """Writes runs where a tracker of experiments looks for them."""

    place: str

    def begin(self, project: str, study: str, about: Mapping[str, Any]) -> None:
        """Begins a study or goes on with it.

        Arguments:
            project: what studies of the same kind share.
            study: name of this one and no other.
            about: what it is of.
        """
        ...

    def holds(self, name: str) -> bool:
        """Says whether the study's run of that name is there, whole."""
        ...

    def write(self, run: TrackedRun) -> None:
        """Writes a run, so that after a cut at any moment it is there whole or is written again."""
        ...

    def conclude(self, run: TrackedRun) -> None:
        """Writes what the study came to."""
        ...


def tracker_of(spec: str, here: Path | None = None) -> Tracker:
    """Returns the tracker that is named as ``NAME`` or ``NAME=PLACE``.

    A place that is a relative path starts from ``here``, the current folder by default.

    Raises:
        ValueError: an unknown name, a package that is not installed, a place that cannot be written to.
    """
    if not isinstance(spec, str):
        raise ValueError(f"log contains {spec!r}: give names of trackers, such as 'tensorboard' or 'mlflow=PLACE'")
    name, _, place = spec.partition("=")
    if name not in TRACKERS:
        near = difflib.get_close_matches(name, TRACKERS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"choose among {', '.join(TRACKERS)}"
        raise ValueError(f"unknown tracker {name!r}: {hint}")
    here = here or Path.cwd()
    for variable, value in TRACKERS[name].items():
        os.environ.setdefault(variable, value)
    try:
        with needs(name, f"--log {name}"):
            found: Tracker = importlib.import_module(f"thalweg.compare.log.{name}").make(place or None, here)
    except OSError as error:
        raise ValueError(f"cannot write to {place} ({error.strerror}): choose another place for {name}") from error
    return found


__getattr__ = former_attributes(__name__, {"Run": "TrackedRun"})
