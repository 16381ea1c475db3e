"""What a row of the store holds, and the digest by which a change of it is found."""

import hashlib
import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from thalweg.compare.storage.result import Curve, TrialResult

FIELDS = ("rung", "position", "key", "strategy", "hyper", "seed", "status", "steps", "curve", "first_loss", "test")
DIGEST = 16  # bytes
PIECE = 2**29  # bytes of a snapshot in one row; SQLite takes 10⁹ at most, which Adam's state for BERT exceeds


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


def result_of(record: Mapping[str, Any]) -> TrialResult:
    """Returns a record as what an engine gave, without its snapshot."""
    first = math.nan if record["first_loss"] is None else record["first_loss"]
    return TrialResult(
        record["key"], record["status"], record["steps"], Curve(**record["curve"]), first, record["test"]
    )
