"""Products with a few long rows, kept in the vectors' type or in a narrower one: memory is read once, and no more.

    (k, n) @ (n,) → (k,)      and      out + (k, n)ᵀ @ (k,)  → (n,)

Rows in a narrower type are widened a stretch of columns at a time, in a buffer that stays in cache.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

BUFFER = 2**21  # numbers widened at a time: 8 MiB of float32


def times(rows: Tensor, vector: Tensor) -> Tensor:
    """Returns ``rows @ vector`` ``(k,)`` in double precision.

    >>> times(torch.ones(2, 3, dtype=torch.bfloat16), torch.ones(3)).tolist()
    [3.0, 3.0]
    """
    if rows.dtype == vector.dtype:
        return (rows @ vector).double()
    total = torch.zeros(len(rows), dtype=torch.float64, device=rows.device)
    for columns, part in _widened(rows, vector.dtype):
        total += part @ vector[columns]
    return total


def add_rows_(out: Tensor, rows: Tensor, weights: Tensor) -> None:
    """Adds Σ weights_i rows_i to ``out`` ``(n,)``."""
    weights = weights.to(out.dtype)
    if rows.dtype == out.dtype:
        out.addmv_(rows.T, weights)
        return
    for columns, part in _widened(rows, out.dtype):
        out[columns].addmv_(part.T, weights)


def _widened(rows: Tensor, dtype: torch.dtype) -> Iterator[tuple[slice, Tensor]]:
    count, size = rows.shape
    width = max(1, min(size, BUFFER // count))
    buffer = torch.empty(count, width, dtype=dtype, device=rows.device)
    for first in range(0, size, width):
        columns = slice(first, min(size, first + width))
        part = buffer[:, : columns.stop - first]
        part.copy_(rows[:, columns])
        yield columns, part
