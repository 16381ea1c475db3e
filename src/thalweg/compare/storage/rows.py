"""What a row of the store holds, and the digest by which a change of it is found."""

import hashlib
import math
from collections.abc import Mapping
from typing import Any

from thalweg.compare.storage.result import Curve, TrialResult

FIELDS = ("rung", "position", "key", "strategy", "hyper", "seed", "status", "steps", "curve", "first_loss", "test")
DIGEST = 16  # bytes


def digest_of(row: tuple[Any, ...], more: bytes | memoryview = b"") -> bytes:
    """Returns the digest of a row's values, or of bytes; it guards against faults, not against forgery.

    >>> digest_of(("sgd/0", 0.5)) == digest_of(("sgd/0", 0.25))
    False
    """
    digest = hashlib.blake2b(repr(row).encode(), digest_size=DIGEST)
    digest.update(more)
    return digest.digest()


def sealed(*row: Any) -> tuple[Any, ...]:
    """Returns the row with its digest behind it."""
    return (*row, digest_of(row))


def number(value: float | None) -> float | None:
    """Returns the number as SQLite gives it back: it knows neither NaN nor a negative zero.

    >>> number(-0.0), number(math.nan), number(2)
    (0.0, None, 2.0)
    """
    return float(value) + 0.0 if value is not None and math.isfinite(value) else None


def result_of(record: Mapping[str, Any]) -> TrialResult:
    """Returns a record as what an engine gave, without its snapshot."""
    first = math.nan if record["first_loss"] is None else record["first_loss"]
    return TrialResult(
        record["key"], record["status"], record["steps"], Curve(**record["curve"]), first, record["test"]
    )
