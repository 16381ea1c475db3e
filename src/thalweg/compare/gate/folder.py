"""The folder of a gate: what is compared, a file of runs for each side, the answer and its page."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from thalweg.compare.gate.result import Gate
from thalweg.compare.gate.runs import Run, read_records
from thalweg.compare.storage.errors import cannot_write
from thalweg.compare.storage.folder_lock import FolderLock
from thalweg.compare.study.results import in_json
from thalweg.compare.user_errors import StudyError, TaskError
from thalweg.tensors.files import is_partial, write_text

DESIGN, ANSWER, PAGE = "design.json", "gate.json", "report.html"
VERSION = 1  # of the design; another judgement gets another one, so that older gates are not continued by it
SIDES = ("baseline", "candidate")


class GateFolder:
    """Holds a gate against other processes, and its runs as they come; use :meth:`open`.

    Attributes:
        path: of the folder.
        runs: of each side, in their order.
    """

    def __init__(self, path: Path, metric: str, lock: FolderLock) -> None:
        self.path, self.metric, self._lock = path, metric, lock
        self.runs: dict[str, list[Run]] = {name: [] for name in SIDES}

    @classmethod
    def open(cls, path: Path, design: Mapping[str, Any], metric: str, seed_of: Callable[[int], int]) -> "GateFolder":
        """Opens the gate of a folder if it is this one, or begins it.

        Arguments:
            path: of the folder.
            design: what is compared, as plain values.
            metric: the name of the metric.
            seed_of: gives the seed of the run at a position.

        Raises:
            StudyError: the folder holds something else, or a gate of something else; it is damaged, or in use.
        """
        try:
            if path.exists() and not path.is_dir():
                raise StudyError(f"{path} is a file, not a folder: choose another --out")
            path.mkdir(parents=True, exist_ok=True)
            lock = FolderLock(path)
        except BlockingIOError as error:
            raise StudyError(
                f"another thalweg gate is running in {path}: wait until it ends, or choose another --out"
            ) from error
        except OSError as error:
            raise cannot_write(path, error) from error
        folder = cls(path, metric, lock)
        try:
            folder._take_up(design, seed_of)
        except BaseException:
            lock.release()
            raise
        return folder

    def add(self, name: str, run: Run) -> None:
        """Adds a run of a side; a cut at any moment loses at most this one."""
        line = json.dumps(run.as_dict(self.metric), allow_nan=False) + "\n"
        try:
            with self._file(name).open("a", encoding="utf-8") as file:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise StudyError(
                f"cannot write to {self._file(name)} ({error.strerror}): free some space or choose another --out"
            ) from error
        self.runs[name].append(run)

    def write(self, gate: Gate, page: str) -> None:
        """Writes the answer and its page."""
        write_text(in_json(gate.as_dict()), self.path / ANSWER)
        write_text(page, self.path / PAGE)

    def close(self) -> None:
        """Lets others have the folder."""
        self._lock.release()

    def _take_up(self, design: Mapping[str, Any], seed_of: Callable[[int], int]) -> None:
        file = self.path / DESIGN
        if not file.exists():
            if present := [p for p in self.path.iterdir() if not is_partial(p)]:
                raise StudyError(
                    f"{self.path} holds {present[0].name} and no gate: choose another --out, or empty the folder"
                )
            write_text(in_json(design), file)
        try:
            held = json.loads(file.read_text(encoding="utf-8"))
            parts = sorted(part for part in {*held, *design} if held.get(part) != design.get(part))
        except (OSError, ValueError, AttributeError, TypeError) as error:
            raise StudyError(f"{file} is damaged ({error}): choose another --out, or remove the folder") from error
        if parts:
            raise StudyError(
                f"{self.path} holds the gate of something else ({', '.join(_differing(held, design, parts))} differ): "
                "choose another --out, or remove the folder"
            )
        for name in SIDES:
            self.runs[name] = self._read(name, seed_of)

    def _read(self, name: str, seed_of: Callable[[int], int]) -> list[Run]:
        file = self._file(name)
        if not file.exists():
            return []
        raw = file.read_bytes()
        whole = raw[: raw.rfind(b"\n") + 1]  # a kill may have cut the last line
        if whole != raw:
            file.write_bytes(whole)
        if not whole:
            return []
        try:
            runs = list(read_records(file, name, self.metric, Path()).runs)
        except TaskError as error:
            raise StudyError(f"{file} is damaged ({error}): choose another --out, or remove the folder") from error
        if [run.seed for run in runs] != [seed_of(i) for i in range(len(runs))]:
            raise StudyError(f"{file} holds runs of other seeds: choose another --out, or remove the folder")
        return runs

    def _file(self, name: str) -> Path:
        return self.path / f"{name}.jsonl"


def _differing(held: Mapping[str, Any], asked: Mapping[str, Any], parts: Sequence[str]) -> list[str]:
    """Returns in which parts two designs differ, of a side with what of it."""
    found = []
    for part in parts:
        one, two = held.get(part), asked.get(part)
        if isinstance(one, dict) and isinstance(two, dict):
            found += [f"{part}'s {name}" for name in sorted({*one, *two}) if one.get(name) != two.get(name)]
        else:
            found.append(part)
    return found
