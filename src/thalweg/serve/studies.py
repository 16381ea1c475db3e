"""The studies below a folder: found without following a link, read without writing, watched by their files' times."""

import os
import stat
import struct
import threading
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from thalweg.compare.storage.create import FILE
from thalweg.compare.storage.facts import DESIGN, RUN, finished
from thalweg.compare.storage.store import Store
from thalweg.compare.study.results import collect
from thalweg.compare.study.unfinished import pace, progress, so_far
from thalweg.compare.user_errors import StudyError

INDEX = 48  # bytes of the header of SQLite's wal-index, https://sqlite.org/walformat.html
PAUSE = 3.0  # a pace so many times slower than the measured one is no pace: the study was stopped in between

Signature = tuple[Any, ...]


class Study:
    """One study's folder, read-only; its methods may be called from any thread, one at a time reads."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.folder = name, folder
        self._place = folder.resolve()
        self.finished = False
        self._verdict: tuple[Signature, str] | None = None
        self._shown: bytes | None = None
        self._ran: bool | None = None
        self._resumed = 0.0
        self._lock = threading.Lock()

    def signature(self) -> Signature:
        """Returns what differs when the study was written, began to run or ceased to."""
        if self._lock.acquire(blocking=False):  # while it is read, what was known of it is good enough
            try:
                running, self._shown = self._running(), _index_of(self.folder)
            finally:
                self._lock.release()
            if running and self._ran is False:
                self._resumed = time.time()
            self._ran = running
        return (*self._stamps(), self._shown, self._ran)

    @property
    def verdict(self) -> str | None:
        """The verdict of the study as it stands; empty where it has none, None before :meth:`results` was asked."""
        return self._verdict[1] if self._verdict and self._verdict[0] == (*self._stamps(), self._shown) else None

    def summary(self) -> dict[str, Any]:
        """Returns the task, the progress and the times of the study, from a few rows of its store.

        Whether it runs is what :meth:`signature` said last, so that a page shows what its version stands for.
        """
        with self._lock:
            stamps, store = self._stamps(), self._opened()
            try:
                facts = store.facts()
                shown = progress(facts, store.counts())
            finally:
                store.close()
        self.finished = finished(facts)
        shown |= {
            "name": self.name,
            "task": facts[DESIGN]["task"],
            "command": facts.get(RUN, {}).get("command"),
            "written": max(stamp[0] for stamp in stamps if stamp and stamp[1]) / 1e9,  # a log that is begun is empty
            "running": self._ran,
            "finished": self.finished,
        }
        left = _seconds_left(shown, facts, max(shown["written"], self._resumed))
        return shown | {"seconds_left": left, "until": None if left is None else time.time() + left}

    def results(self) -> dict[str, Any]:
        """Returns the results, or as much of them as there is, as plain values."""
        with self._lock:
            self._shown = _index_of(self.folder)
            stamps = (*self._stamps(), self._shown)
            self._verdict = stamps, ""
            store = self._opened()
            try:
                results = collect(store) if finished(store.facts()) else so_far(store)
            finally:
                store.close()
        if results["verdict"]:
            self._verdict = stamps, results["verdict"]["sentence"]
        return results

    def _opened(self) -> Store:
        """Opens the store, if no link leads elsewhere since it was found and no file need be made to read it."""
        main, log, index = (self.folder / f"{FILE}{end}" for end in ("", "-wal", "-shm"))
        if self.folder.resolve() != self._place or not _stamp(main):
            raise StudyError(f"{self.name} no longer contains a study")
        if (log.exists() or log.is_symlink()) and not (_stamp(log) and _stamp(index)):
            raise StudyError(f"{self.name} is missing a file of its log: the same thalweg compare command restores it")
        return Store.open(self.folder, check=False)

    def _stamps(self) -> Signature:
        return tuple(_stamp(self.folder / name) for name in (FILE, f"{FILE}-wal"))

    def _running(self) -> bool | None:
        """Says whether a process has the study open; None where the system does not tell.

        Asked while this process has it closed: closing a file drops all locks that a process holds on it.
        """
        try:
            import fcntl

            # SQLite's lock bytes: whoever has the study open holds a shared lock on some of them.
            asked = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0x40000000, 512, 0)
            file = os.open(self.folder / FILE, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                return bool(struct.unpack("hhqqi4x", fcntl.fcntl(file, fcntl.F_GETLK, asked))[0] != fcntl.F_UNLCK)
            finally:
                os.close(file)
        except (ImportError, OSError, struct.error):
            return None


def find(root: Path) -> dict[str, Path]:
    """Returns the folders below ``root`` that hold a study, by their path from it; no link is followed.

    Hidden folders are left out, and so is what lies within a study's folder. Where ``root`` is a study itself, it is
    the only one.
    """
    found: dict[str, Path] = {}
    for folder, below, files in os.walk(root):
        path = Path(folder)
        if FILE in files and _stamp(path / FILE):
            name = path.relative_to(root).as_posix() if path != root else root.resolve().name
            if name.isprintable():  # others cannot be written in an address
                found[name] = path
            below.clear()
        below[:] = sorted(name for name in below if not name.startswith("."))
    return found


def _stamp(path: Path) -> tuple[int, int] | None:
    """Returns (time of the last change in ns, size) of a regular file, None of anything else."""
    try:
        status = path.lstat()
    except OSError:
        return None
    return (status.st_mtime_ns, status.st_size) if stat.S_ISREG(status.st_mode) else None


def _index_of(folder: Path) -> bytes | None:
    """Returns what says which of the log's frames count, None where there is no log.

    A writer appends frames, waits until the disk has them, and only then lets them count: a page that was made
    meanwhile is out of date although neither file changes any more. To be read while this process has the study
    closed, as closing a file drops its locks.
    """
    try:
        file = os.open(folder / f"{FILE}-shm", os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
        try:
            return os.read(file, INDEX)
        finally:
            os.close(file)
    except OSError:
        return None


def _seconds_left(shown: dict[str, Any], facts: dict[str, Any], since: float) -> float | None:
    """Returns about how long the study still trains, which it has done for the next rung ``since``.

    The pace is that of the records so far; before there are any, or where the study was stopped in between, that
    measured when the engines were chosen.
    """
    seconds = measured = pace(facts)
    if shown["done"]:
        own = (shown["written"] - datetime.fromisoformat(facts[RUN]["started"]).timestamp()) / shown["done"]
        seconds = own if measured is None or 0 < own < PAUSE * measured else measured
    if seconds is None or not shown["left"]:
        return None
    return max(0.0, seconds * shown["left"] - (time.time() - since if shown["running"] else 0.0))
