"""A new study's file: its tables, and its design as the first fact."""

import json
import os
import sqlite3
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from thalweg.compare.storage.errors import cannot_write
from thalweg.compare.storage.facts import DESIGN
from thalweg.compare.storage.rows import sealed
from thalweg.compare.user_errors import StudyError
from thalweg.tensors.files import sync_folder

VERSION = 2
FILE = "study.sqlite"
PART = f"{FILE}.part"
SCHEMA = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL, digest BLOB NOT NULL);
CREATE TABLE outcomes (
    rung TEXT NOT NULL, position INTEGER NOT NULL, key TEXT NOT NULL, strategy TEXT NOT NULL,
    hyper TEXT NOT NULL, seed INTEGER NOT NULL, status TEXT NOT NULL, steps INTEGER NOT NULL,
    curve TEXT NOT NULL, first_loss REAL, test REAL, digest BLOB NOT NULL, snapshot BLOB,
    PRIMARY KEY (rung, position)
);
"""


def create(folder: Path, design: Mapping[str, Any]) -> None:
    """Writes an empty study beside its place and puts it there, so that a kill leaves a whole one or none.

    Raises:
        StudyError: the folder holds something else, or cannot be written to.
    """
    part = folder / PART
    beside = [folder / f"{PART}{end}" for end in ("", "-journal", "-wal", "-shm")]
    try:
        for file in beside:  # what a kill left
            file.unlink(missing_ok=True)
        if any(folder.iterdir()):
            raise StudyError(f"{folder} is not empty and contains no study: choose another --out, or empty it")
        connection = sqlite3.connect(part, isolation_level=None)
        try:
            connection.executescript(f"PRAGMA synchronous=FULL; BEGIN; {SCHEMA} PRAGMA user_version={VERSION}; COMMIT")
            connection.execute("INSERT INTO facts VALUES (?, ?, ?)", sealed(DESIGN, json.dumps(design)))
            connection.execute("PRAGMA journal_mode=WAL")
        finally:
            connection.close()
        os.replace(part, folder / FILE)
        sync_folder(folder)
    except (OSError, sqlite3.Error) as error:
        for file in beside:
            with suppress(OSError):
                file.unlink(missing_ok=True)
        raise cannot_write(folder, error) from error
