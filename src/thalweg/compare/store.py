"""The store: one SQLite file, append-only, one writer.

A study is written rung by rung, each in one transaction, so that a kill at any moment loses the rung in
flight and nothing else. Snapshots are safetensors bytes: reading a study never unpickles or executes.
"""

import json
import math
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from thalweg.compare.engines.job import Curve, Outcome

VERSION = 1
SCHEMA = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE outcomes (
    rung TEXT NOT NULL, position INTEGER NOT NULL, key TEXT NOT NULL, strategy TEXT NOT NULL,
    hyper TEXT NOT NULL, seed INTEGER NOT NULL, status TEXT NOT NULL, steps INTEGER NOT NULL,
    curve TEXT NOT NULL, first_loss REAL, test REAL, snapshot BLOB,
    PRIMARY KEY (rung, position)
);
"""


class StudyError(Exception):
    """A folder that cannot be used as asked; the message is one line with the cause and the mend."""


class Store:
    """An open study file; use :meth:`create`, :meth:`open` or :meth:`resume_or_create`."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path, self._db = path, connection

    @classmethod
    def resume_or_create(cls, folder: Path, design: Mapping[str, Any]) -> "Store":
        """Opens the folder's study for writing if it is this one, or begins it.

        Raises:
            StudyError: the folder holds a different or damaged study, or cannot be written.
        """
        path = folder / "study.sqlite"
        if path.exists():
            store = cls.open(folder, write=True)
            try:
                held = store.fact("design")
                asked = json.loads(json.dumps(design))
                if held != asked:
                    different = sorted(k for k in {*held, *asked} if held.get(k) != asked.get(k))
                    raise StudyError(
                        f"{folder} holds a different study ({', '.join(different)} differ): choose another --out, "
                        "or move that folder away"
                    )
            except BaseException:
                store.close()
                raise
            return store
        if folder.exists() and not folder.is_dir():
            raise StudyError(f"{folder} is a file, not a folder: choose another --out")
        if folder.is_dir() and any(folder.iterdir()):
            raise StudyError(f"{folder} is not empty and holds no study: choose another --out, or empty it")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(path, isolation_level=None)
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            with connection:
                connection.execute("BEGIN IMMEDIATE")
                for statement in filter(str.strip, SCHEMA.split(";")):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version={VERSION}")
                connection.execute("INSERT INTO facts VALUES ('design', ?)", (json.dumps(design),))
        except (OSError, sqlite3.Error) as error:
            raise StudyError(
                f"cannot write to {folder} ({error}): choose a folder that can be written with --out"
            ) from error
        return cls(path, connection)

    @classmethod
    def open(cls, folder: Path, write: bool = False, check: bool = True) -> "Store":
        """Opens a folder's study; without ``check`` only what is read is known to be whole, which is quick.

        Raises:
            StudyError: there is none, or it is damaged.
        """
        path = folder / "study.sqlite"
        if not path.is_file():
            raise StudyError(f"{folder} holds no study: give the folder that thalweg compare wrote (--out)")
        try:
            mode = "mode=rw" if write else _reading(path)
            connection = sqlite3.connect(f"{path.resolve().as_uri()}?{mode}", uri=True, isolation_level=None)
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            sound = connection.execute("PRAGMA quick_check").fetchone()[0] if check else "ok"
        except sqlite3.Error as error:
            raise StudyError(
                f"{path} is damaged or not a study ({error}): restore it, or choose another --out"
            ) from error
        if sound != "ok" or version != VERSION:
            connection.close()
            why = f"version {version}, this program reads {VERSION}" if sound == "ok" else sound.splitlines()[0]
            raise StudyError(
                f"{path} is damaged or not a study of this version ({why}): restore it, or choose another --out"
            )
        store = cls(path, connection)
        try:
            store.fact("design")
        except (KeyError, ValueError, sqlite3.Error) as error:
            raise StudyError(f"{path} is damaged (no design in it): restore it, or choose another --out") from error
        return store

    def close(self) -> None:
        """Closes the file."""
        self._db.close()

    def fact(self, name: str) -> Any:
        """Returns a fact. Raises KeyError when it is not there."""
        row = self._db.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        if row is None:
            raise KeyError(name)
        return json.loads(row[0])

    def facts(self) -> dict[str, Any]:
        """Returns all facts."""
        return {
            name: json.loads(value) for name, value in self._db.execute("SELECT name, value FROM facts ORDER BY rowid")
        }

    def add_fact(self, name: str, value: Any) -> None:
        """Adds a fact; one that is there already stays."""
        with self._writing():
            self._db.execute("INSERT OR IGNORE INTO facts VALUES (?, ?)", (name, json.dumps(value)))

    def add_rung(self, rung: str, records: Sequence[tuple[str, Mapping[str, float], int, Outcome]]) -> None:
        """Writes a whole rung: (strategy, hyperparameters, seed, outcome) in one transaction."""
        with self._writing():
            for position, (strategy, hyper, seed, outcome) in enumerate(records):
                self._db.execute(
                    "INSERT INTO outcomes VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        rung, position, outcome.key, strategy, json.dumps(dict(hyper)), seed, outcome.status,
                        outcome.steps, json.dumps(vars(outcome.curve)), _number(outcome.first_loss),
                        _number(outcome.test), _encode(outcome.snapshot),
                    ),
                )  # fmt: skip

    def rung(self, rung: str, snapshots: bool = False) -> list[Outcome] | None:
        """Returns the outcomes of a rung in their order, or None when it was not written."""
        columns = "key, status, steps, curve, first_loss, test" + (", snapshot" if snapshots else "")
        rows = self._db.execute(f"SELECT {columns} FROM outcomes WHERE rung = ? ORDER BY position", (rung,)).fetchall()
        return [_outcome(row) for row in rows] or None

    def counts(self) -> dict[str, int]:
        """Returns the number of records of each rung that has any."""
        return dict(self._db.execute("SELECT rung, COUNT(*) FROM outcomes GROUP BY rung"))

    def records(self, key: str | None = None) -> Iterator[dict[str, Any]]:
        """Yields every record, or those of one configuration, as plain values, snapshots left out."""
        names = ("rung", "key", "strategy", "hyper", "seed", "status", "steps", "curve", "first_loss", "test")
        which, given = ("", ()) if key is None else ("WHERE key = ?", (key,))
        for row in self._db.execute(f"SELECT {', '.join(names)} FROM outcomes {which} ORDER BY rowid", given):
            record = dict(zip(names, row, strict=True))
            yield record | {"hyper": json.loads(record["hyper"]), "curve": json.loads(record["curve"])}

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            self._db.execute("BEGIN IMMEDIATE")
            yield
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise StudyError(
                f"cannot write to {self.path} ({error}): free some space or choose another --out"
            ) from error
        except BaseException:
            self._db.execute("ROLLBACK")
            raise


def _reading(path: Path) -> str:
    """Returns how to open the file so that reading changes no byte of it, nor of the files beside it."""
    if not path.with_name(path.name + "-wal").exists():
        return "mode=ro&immutable=1"
    return "mode=ro&readonly_shm=1" if path.with_name(path.name + "-shm").exists() else "mode=ro"


def _number(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _encode(snapshot: Mapping[str, Tensor] | None) -> bytes | None:
    if snapshot is None:
        return None
    from safetensors.torch import save

    return save({name: tensor.contiguous() for name, tensor in snapshot.items()})


def _outcome(row: tuple[Any, ...]) -> Outcome:
    key, status, steps, curve, first_loss, test = row[:6]
    first = math.nan if first_loss is None else first_loss
    outcome = Outcome(key, status, steps, Curve(**json.loads(curve)), first, test)
    if len(row) > 6 and row[6] is not None:
        from safetensors.torch import load

        outcome.snapshot = load(row[6])
    return outcome
