"""The store: one SQLite file, append-only, one writer.

A study is written as its trials end, in one transaction what ended together, so that a kill at any moment loses what
was trained just then and nothing else. Every row bears its digest, so that a byte that turned over is found when it is
read.
Snapshots are safetensors bytes: reading a study never unpickles or executes.
"""

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from thalweg.compare.storage.create import FILE, VERSION, create
from thalweg.compare.storage.differences import different, in_a_line
from thalweg.compare.storage.errors import cannot_write, damaged, fault
from thalweg.compare.storage.facts import ADDED, DESIGN, ENGINE, as_they_stand, finished, stored_name
from thalweg.compare.storage.folder_lock import FolderLock
from thalweg.compare.storage.old_designs import as_meant, check_names, is_former
from thalweg.compare.storage.result import TrialResult
from thalweg.compare.storage.rows import DIGEST, FIELDS, digest_of, number, result_of, sealed
from thalweg.compare.storage.snapshots import decoded, encoded, read, write_rest
from thalweg.compare.user_errors import StudyError

EMPTY_LOG = 32  # bytes of a write-ahead log that holds nothing yet


class Store:
    """An open study file; use :meth:`create`, :meth:`open` or :meth:`resume_or_create`."""

    def __init__(self, path: Path, connection: sqlite3.Connection, lock: FolderLock | None = None) -> None:
        self.path, self._db, self._lock = path, connection, lock
        self._snapshot: dict[tuple[str, int], dict[str, Tensor]] = {}

    @classmethod
    def resume_or_create(
        cls, folder: Path, design: Mapping[str, Any], extends: Callable[[Mapping[str, Any]], bool] = lambda held: False
    ) -> "Store":
        """Opens the folder's study for writing if it is this one, or begins it; no other process may write it then.

        Another study that was never set up, so that nothing was trained, gives way.

        Arguments:
            folder: of the study.
            design: that is asked for.
            extends: says whether that only adds to a stored design that is another; the study is then opened as it is.

        Raises:
            StudyError: the folder holds a different or damaged study, is being written, or cannot be written.
        """
        path = folder / FILE
        try:
            if folder.exists() and not folder.is_dir():
                raise StudyError(f"{folder} is a file, not a folder: choose another --out")
            folder.mkdir(parents=True, exist_ok=True)
            lock = FolderLock(folder)
        except BlockingIOError as error:
            raise StudyError(
                f"another thalweg compare is running in {folder}: wait until it ends, or choose another --out"
            ) from error
        except OSError as error:
            raise cannot_write(folder, error) from error
        try:
            if not path.exists():
                create(folder, design)
            store = cls.open(folder)
        except BaseException:
            lock.release()
            raise
        store._lock = lock
        try:
            store._take_up(json.loads(json.dumps(design)), extends)
        except BaseException:
            store.close()
            raise
        return store

    def _take_up(self, asked: Mapping[str, Any], extends: Callable[[Mapping[str, Any]], bool]) -> None:
        """Makes the study ready to go on by a design. Raises StudyError where it is another."""
        folder, facts = self.path.parent, self.facts()
        with self.reading():
            held = facts[DESIGN]
            parts = different(held, asked)
        gives_way = bool(parts) and ENGINE not in facts and not self.counts()
        if parts and not gives_way:
            if held["protocol"] != asked["protocol"] and is_former(held):
                raise StudyError(
                    f"{folder} contains a study of a former protocol, which cannot be continued: thalweg report shows "
                    "it; choose another --out, or move the folder"
                )
            if not extends(held):
                raise StudyError(
                    f"{folder} contains a different study: {in_a_line(parts)}: choose another --out, or move the folder"
                )
        if parts or not finished(facts):  # a finished one need not be written any more
            self._db.close()
            self._db = Store.open(folder, write=True)._db
        if gives_way:
            with self._writing():
                self._db.execute("DELETE FROM facts")
                self._db.execute("INSERT INTO facts VALUES (?, ?, ?)", sealed(DESIGN, json.dumps(asked)))

    @classmethod
    def open(cls, folder: Path, write: bool = False, check: bool = True) -> "Store":
        """Opens a folder's study; without ``check`` only what is read is known to be whole, which is quick.

        Raises:
            StudyError: there is none, or it is damaged.
        """
        path, connection = folder / FILE, None
        try:
            if not path.is_file():
                raise StudyError(f"{folder} contains no study: name the folder that thalweg compare wrote (--out)")
            mode = "mode=rw" if write else _reading(path)
            connection = sqlite3.connect(f"{path.resolve().as_uri()}?{mode}", uri=True, isolation_level=None)
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            sound = connection.execute("PRAGMA integrity_check(1)").fetchone()[0] if check else "ok"
        except (sqlite3.Error, UnicodeError, OSError) as error:
            if connection:
                connection.close()
            raise fault(path, error, write) from error
        if sound != "ok" or version != VERSION:
            connection.close()
            why = (
                f"version {version}, while this program reads version {VERSION}"
                if sound == "ok"
                else sound.splitlines()[0]
            )
            raise StudyError(
                f"{path} is damaged or not a study of this version ({why}): restore it, or choose another --out"
            )
        store = cls(path, connection)
        try:
            if write:
                connection.execute("PRAGMA synchronous=FULL")
            with store.reading():
                check_names(store.fact(DESIGN))
        except KeyError as error:
            store.close()
            raise StudyError(f"{path} is damaged (no design in it): restore it, or choose another --out") from error
        except BaseException:
            store.close()
            raise
        return store

    def close(self) -> None:
        """Closes the file, and lets others write it."""
        self._db.close()
        if self._lock:
            self._lock.release()

    def fact(self, name: str) -> Any:
        """Returns a fact. Raises KeyError when it is not there, StudyError when it is damaged."""
        return self.facts()[name]

    def facts(self) -> dict[str, Any]:
        """Returns all facts, as they stand after what was added last. Raises StudyError when one is damaged."""
        with self.reading():
            stored = dict[str, Any]()
            for name, value, digest in self._db.execute("SELECT * FROM facts ORDER BY rowid"):
                self._check((name, value), digest)
                stored[name] = json.loads(value)
            found = as_they_stand(stored)
            return {name: as_meant(value) if name == DESIGN else value for name, value in found.items()}

    def add_fact(self, name: str, value: Any) -> None:
        """Adds a fact; one that is there already stays."""
        with self._writing():
            self._write_fact(stored_name(name, self._added()), value)

    def extend(self, value: Mapping[str, Any]) -> None:
        """Writes that something is added to the study, which is then not finished; see :data:`ADDED`."""
        with self._writing():
            self._write_fact(f"{ADDED} {self._added() + 1}", value)

    def _added(self) -> int:
        """Returns how many times something was added."""
        return int(self._db.execute("SELECT COUNT(*) FROM facts WHERE name LIKE ?", (f"{ADDED} %",)).fetchone()[0])

    def _write_fact(self, name: str, value: Any) -> None:
        self._db.execute("INSERT OR IGNORE INTO facts VALUES (?, ?, ?)", sealed(name, json.dumps(value)))

    def add(self, rung: str, records: Iterable[tuple[int, str, Mapping[str, float], int, TrialResult]]) -> None:
        """Writes (position in the rung, strategy, hyperparameters, seed, result) in one transaction.

        What is there already stays.
        """
        with self._writing():
            for position, strategy, hyper, seed, result in records:
                row = sealed(
                    rung,
                    position,
                    result.key,
                    strategy,
                    json.dumps(dict(hyper)),
                    seed,
                    result.status,
                    result.steps,
                    json.dumps(vars(result.curve)),
                    number(result.first_loss),
                    number(result.test),
                )
                first, *rest = encoded(result.snapshot)
                done = self._db.execute(f"INSERT OR IGNORE INTO outcomes VALUES ({'?, ' * len(row)}?)", (*row, first))
                if done.rowcount == 1:
                    write_rest(self._db, rung, position, rest)

    def rung(self, rung: str) -> dict[str, TrialResult]:
        """Returns the results of a rung that were written, by their keys, snapshots left out.

        Raises:
            StudyError: a record is damaged.
        """
        with self.reading():
            return {record["key"]: result_of(record) for record in self._rows("WHERE rung = ?", (rung,))}

    def snapshot(self, rung: str, position: int) -> dict[str, Tensor]:
        """Returns the snapshot at the end of a run; the last one asked for is not read again.

        Raises:
            StudyError: there is none, or it is damaged.
        """
        if (rung, position) not in self._snapshot:
            with self.reading():
                raw = read(self._db, rung, position)
                self._check((), raw[:DIGEST], raw[DIGEST:])
                self._snapshot = {(rung, position): decoded(raw)}
        return self._snapshot[rung, position]

    def counts(self) -> dict[str, int]:
        """Returns the number of records of each rung that has any."""
        with self.reading():
            return dict(self._db.execute("SELECT rung, COUNT(*) FROM outcomes GROUP BY rung"))

    def records(self, key: str | None = None) -> Iterator[dict[str, Any]]:
        """Yields every record, or those of one configuration, as plain values in the order of the plan.

        Snapshots are left out.

        Raises:
            StudyError: a record is damaged.
        """
        rungs = sorted(self.counts(), key=lambda rung: (rung == "final", rung))
        for rung in rungs if key is None else [""]:
            which, given = ("rung = ?", rung) if key is None else ("key = ?", key)
            for record in self._rows(f"WHERE {which} ORDER BY rung, position", (given,)):
                del record["position"]
                yield record

    def _rows(self, which: str, given: tuple[str, ...]) -> Iterator[dict[str, Any]]:
        columns = ", ".join((*FIELDS, "digest"))
        with self.reading():
            for *row, digest in self._db.execute(f"SELECT {columns} FROM outcomes {which}", given):
                self._check(tuple(row), digest)
                record = dict(zip(FIELDS, row, strict=True))
                yield record | {"hyper": json.loads(record["hyper"]), "curve": json.loads(record["curve"])}

    def _check(self, row: tuple[Any, ...], digest: Any, more: bytes = b"") -> None:
        if digest_of(row, more) != digest:
            what = ", ".join(map(str, row[:3])) if row else "a snapshot"
            raise damaged(self.path, f"{what}: its bytes have changed since they were written")

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Runs its body, which reads the study and what was read. Raises StudyError where that fails."""
        try:
            yield
        except StudyError:
            raise
        except Exception as error:  # also where digests are right, but somebody made them for what is no record
            raise fault(self.path, error) from error

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            self._db.execute("BEGIN IMMEDIATE")
            yield
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise fault(self.path, error, write=True) from error
        except BaseException:
            if self._db.in_transaction:  # an interruption may come before it is begun, or once it is committed
                self._db.execute("ROLLBACK")
            raise


def _reading(path: Path) -> str:
    """Returns how to open the file so that reading changes no byte of it, nor of the files beside it."""
    log = path.with_name(path.name + "-wal")
    if not log.exists() or log.stat().st_size <= EMPTY_LOG:  # a kill left its head alone, at which SQLite would balk
        return "mode=ro&immutable=1"
    return "mode=ro&readonly_shm=1" if path.with_name(path.name + "-shm").exists() else "mode=ro"
