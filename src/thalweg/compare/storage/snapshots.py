"""The states of trials in a study's file: bytes with a digest before them, in as many rows as they need."""

import sqlite3
from collections.abc import Iterable, Mapping

from torch import Tensor

from thalweg.compare.storage.rows import DIGEST, digest_of

PIECE = 2**29  # bytes in one row; SQLite takes 10⁹ at most, which Adam's state for BERT exceeds
PIECES = """
CREATE TABLE IF NOT EXISTS pieces (
    rung TEXT NOT NULL, position INTEGER NOT NULL, number INTEGER NOT NULL, bytes BLOB NOT NULL,
    PRIMARY KEY (rung, position, number)
);
"""  # what of a snapshot does not fit into its row


def encoded(snapshot: Mapping[str, Tensor] | None) -> list[bytes | memoryview | None]:
    """Returns the tensors as bytes, their digest before them, in pieces that SQLite takes."""
    if snapshot is None:
        return [None]
    from safetensors.torch import save

    raw = memoryview(save({name: tensor.contiguous() for name, tensor in snapshot.items()}))
    rest = [raw[start : start + PIECE] for start in range(PIECE, len(raw), PIECE)]
    return [digest_of((), raw) + bytes(raw[:PIECE]), *rest]


def decoded(raw: bytes) -> dict[str, Tensor]:
    """Returns the tensors that :func:`encoded` made bytes of."""
    from safetensors.torch import load

    return load(raw[DIGEST:])


def write_rest(db: sqlite3.Connection, rung: str, position: int, rest: Iterable[bytes | memoryview | None]) -> None:
    """Writes the pieces of a snapshot that are not in the row of its record."""
    rows = [(rung, position, number, piece) for number, piece in enumerate(rest)]
    if rows:
        db.execute(PIECES)
        db.executemany("INSERT INTO pieces VALUES (?, ?, ?, ?)", rows)


def read(db: sqlite3.Connection, rung: str, position: int) -> bytes:
    """Returns all bytes of a snapshot."""
    which, given = "WHERE rung = ? AND position = ?", (rung, position)
    (raw,) = db.execute(f"SELECT snapshot FROM outcomes {which}", given).fetchone()
    if db.execute("SELECT 1 FROM sqlite_master WHERE name = 'pieces'").fetchone():
        raw = b"".join(
            [raw, *(piece for (piece,) in db.execute(f"SELECT bytes FROM pieces {which} ORDER BY number", given))]
        )
    found: bytes = raw
    return found
