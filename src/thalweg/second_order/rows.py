"""Products with a few long rows, kept in the vectors' type or in a narrower one: memory is read once, and no more.

    (k, n) @ (n,) → (k,)      and      scale · base + (k, n)ᵀ @ (k,)  → (n,)

On the CPU, BLAS multiplies a few long rows by a vector with one thread, at half the speed of memory. From
:data:`COMPILE_FROM` columns on, the rows go in bundles through compiled loops instead, which use all threads and read
rows of a narrower type as they are. Elsewhere those are widened a stretch of columns at a time.
"""

from collections.abc import Callable, Iterator
from functools import cache

import torch
from torch import Tensor

from thalweg.tensors.compiling import compiled, compiler_missing

COMPILE_FROM = 1_000_000  # columns; below, compiling costs more than many thousand products
BUNDLES = (10, 2)  # rows that one call of a kernel takes
BUFFER = 2**21  # numbers widened at a time: 8 MiB of float32


def times(rows: Tensor, vector: Tensor) -> Tensor:
    """Returns ``rows @ vector`` ``(k,)`` in double precision.

    >>> times(torch.ones(2, 3, dtype=torch.bfloat16), torch.ones(3)).tolist()
    [3.0, 3.0]
    """
    if _wants_compiled(vector):
        parts = [_dots(len(some), rows.dtype, vector.dtype)(some, vector) for _, some in _bundles(rows)]
        return torch.cat(parts)
    if rows.dtype == vector.dtype:
        return (rows @ vector).double()
    total = torch.zeros(len(rows), dtype=torch.float64, device=rows.device)
    for columns, part in _widened(rows, vector.dtype):
        total += part @ vector[columns]
    return total


def combination(base: Tensor, scale: float, rows: Tensor, weights: Tensor) -> Tensor:
    """Returns scale · base + Σ weights_i rows_i ``(n,)``.

    >>> combination(torch.ones(2), 3.0, torch.eye(2), torch.tensor([1.0, -1.0])).tolist()
    [4.0, 2.0]
    """
    weights = weights.to(base.dtype)
    if not _wants_compiled(base):
        out = base * scale
        if rows.dtype == base.dtype:
            return out.addmv_(rows.T, weights)
        for columns, part in _widened(rows, base.dtype):
            out[columns].addmv_(part.T, weights)
        return out
    out = torch.empty_like(base)
    for first, some in _bundles(rows):
        some_weights = weights[first : first + len(some)]
        if first:
            _add(len(some), rows.dtype, base.dtype)(out, some, some_weights)
        else:
            coefficients = torch.cat([weights.new_tensor([scale]), some_weights])
            _sum(len(some), rows.dtype, base.dtype)(out, base, some, coefficients)
    return out


def secant(d: Tensor, step: float, before: Tensor, after: Tensor) -> Tensor:
    """Returns sᵀy, yᵀy, sᵀs, sᵀg and yᵀg ``(5,)``, s = step · d, y = after − before, g = after; double precision.

    >>> secant(torch.ones(2), 0.5, torch.ones(2), torch.full((2,), 2.0)).tolist()
    [1.0, 2.0, 0.5, 2.0, 4.0]
    """
    if _wants_compiled(d):
        return _secant(d.dtype)(d, d.new_tensor(step), before, after)
    s, y = d * step, after - before
    return torch.stack([s @ y, y @ y, s @ s, s @ after, y @ after]).double()


def store(d: Tensor, step: float, before: Tensor, after: Tensor, s: Tensor, y: Tensor) -> None:
    """Writes step · d to ``s`` and after − before to ``y``."""
    torch.mul(d, step, out=s)
    torch.sub(after, before, out=y)


def _wants_compiled(vector: Tensor) -> bool:
    return len(vector) >= COMPILE_FROM and vector.device.type == "cpu" and not compiler_missing()


def _bundles(rows: Tensor) -> Iterator[tuple[int, list[Tensor]]]:
    """Yields the rows, an even number, in bundles, with the number of the first row of each."""
    first, every = 0, rows.unbind()
    for size in BUNDLES:
        while len(every) - first >= size:
            yield first, list(every[first : first + size])
            first += size


@cache
def _dots(count: int, stored: torch.dtype, work: torch.dtype) -> Callable[[list[Tensor], Tensor], Tensor]:
    def kernel(rows: list[Tensor], vector: Tensor) -> Tensor:
        return torch.stack([(row.to(work) * vector).sum() for row in rows]).double()

    return compiled(kernel, unguarded=True, dynamic=True)


@cache
def _sum(count: int, stored: torch.dtype, work: torch.dtype) -> Callable[[Tensor, Tensor, list[Tensor], Tensor], None]:
    def kernel(out: Tensor, base: Tensor, rows: list[Tensor], coefficients: Tensor) -> None:
        total = base * coefficients[0]
        for i, row in enumerate(rows, start=1):
            total = total + coefficients[i] * row.to(work)
        out.copy_(total)

    return compiled(kernel, unguarded=True, dynamic=True)


@cache
def _add(count: int, stored: torch.dtype, work: torch.dtype) -> Callable[[Tensor, list[Tensor], Tensor], None]:
    # Not _sum with out for base: compiled for one tensor in two places, it would go wrong on two.
    def kernel(out: Tensor, rows: list[Tensor], weights: Tensor) -> None:
        total = out
        for i, row in enumerate(rows):
            total = total + weights[i] * row.to(work)
        out.copy_(total)

    return compiled(kernel, unguarded=True, dynamic=True)


@cache
def _secant(work: torch.dtype) -> Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]:
    def kernel(d: Tensor, step: Tensor, before: Tensor, after: Tensor) -> Tensor:
        s, y = d * step, after - before
        found = [s * y, y * y, s * s, s * after, y * after]
        return torch.stack([products.sum() for products in found]).double()

    return compiled(kernel, unguarded=True, dynamic=True)


def _widened(rows: Tensor, dtype: torch.dtype) -> Iterator[tuple[slice, Tensor]]:
    count, size = rows.shape
    width = max(1, min(size, BUFFER // count))
    buffer = torch.empty(count, width, dtype=dtype, device=rows.device)
    for first in range(0, size, width):
        columns = slice(first, min(size, first + width))
        part = buffer[:, : columns.stop - first]
        part.copy_(rows[:, columns])
        yield columns, part
