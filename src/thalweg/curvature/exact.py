"""The exact Hessian as a matrix, for small models; refused by size where it cannot fit."""

from collections.abc import Sequence

import torch
from torch import Tensor

from thalweg.curvature.hessian import Hessian
from thalweg.curvature.operator import LinearOperator

MOST_BYTES = 2**31
MATRIX_FREE = "truncated Newton, L-BFGS or nonlinear conjugate gradients"
# Batched, products of a small model took 2 to 40 times less than one by one; above this many there was little to gain.
AT_ONCE = 64


def check_fits(what: str, size: int, dtype: torch.dtype, instead: str, most_bytes: int = MOST_BYTES) -> None:
    """Checks that a dense matrix ``(size, size)`` is within the bound.

    Arguments:
        what: the matrix, by name, for the message.
        size, dtype: n and the type of its entries.
        instead: which methods need no such matrix, for the message.
        most_bytes: the bound on n² entries; 2 GiB by default.

    Raises:
        ValueError: it is not, with its size in GiB.

    >>> check_fits("the Hessian", 10**6, torch.float32, "L-BFGS")
    Traceback (most recent call last):
    ValueError: the Hessian of 1,000,000 parameters in float32 takes 3,725.3 GiB, more than the 2.0 GiB allowed by
    most_bytes: use L-BFGS instead
    """
    needed = size * size * dtype.itemsize
    if needed > most_bytes:
        raise ValueError(
            f"{what} of {size:,} parameters in {str(dtype).removeprefix('torch.')} takes {_gib(needed)}, "
            f"more than the {_gib(most_bytes)} allowed by most_bytes: use {instead} instead"
        )


def exact_hessian(loss: Tensor, params: Sequence[Tensor], *, most_bytes: int = MOST_BYTES) -> Tensor:
    """Returns the Hessian ``(n, n)`` of the loss, made of n products and exactly symmetric.

        H_ij = ∂²J / ∂θ_i ∂θ_j

    Arguments:
        loss: one real number, with its graph: not yet backwarded.
        params: θ, as :class:`Hessian` takes them, n elements in all.
        most_bytes: bound on the matrix; 2 GiB by default. Symmetrizing takes as much again for a moment.

    Raises:
        ValueError: the matrix is larger than the bound; and what :class:`Hessian` raises.

    >>> w = torch.tensor([1.0, 2.0], requires_grad=True)
    >>> exact_hessian(w[0] ** 2 * w[1], [w]).tolist()
    [[4.0, 2.0], [2.0, 0.0]]

    Source: Deep Learning, §4.3.1, §8.6.1.
    """
    return exact_matrix(Hessian(loss, params), "the Hessian", most_bytes=most_bytes)


def exact_matrix(operator: LinearOperator, what: str = "the matrix", *, most_bytes: int = MOST_BYTES) -> Tensor:
    """Returns a symmetric operator's matrix ``(n, n)``, :data:`AT_ONCE` products in one call; exactly symmetric.

    Arguments:
        operator: A ``(n, n)``, of products that torch.vmap can batch, else they are made one by one.
        what: the matrix, by name, for the message.
        most_bytes: bound on the matrix; 2 GiB by default. Symmetrizing takes as much again for a moment.

    Raises:
        ValueError: the matrix is larger than the bound.

    >>> w = torch.tensor([1.0, 2.0], requires_grad=True)
    >>> exact_matrix(Hessian(w[0] ** 2 * w[1], [w])).tolist()
    [[4.0, 2.0], [2.0, 0.0]]
    """
    check_fits(what, operator.size, operator.dtype, MATRIX_FREE, most_bytes)
    matrix = torch.empty(operator.size, operator.size, dtype=operator.dtype, device=operator.device)
    for first in range(0, operator.size, AT_ONCE):
        rows = matrix[first : first + AT_ONCE]
        units = torch.zeros_like(rows)
        units.diagonal(first).fill_(1)
        rows.copy_(_products(operator, units))
    return (matrix + matrix.T).div_(2)


def _products(operator: LinearOperator, vectors: Tensor) -> Tensor:
    """Returns the products with the rows of ``(k, n)``, as rows."""
    before = operator.products
    try:
        found: Tensor = torch.vmap(operator.matvec)(vectors)
    except RuntimeError:  # an operation that cannot be batched, or no memory for so many at once
        found = torch.stack([operator.matvec(v) for v in vectors])
    operator.tally.products = before + len(vectors)  # however few calls made them
    return found


def _gib(size: int) -> str:
    return f"{size / 2**30:,.1f} GiB" if size >= 2**27 else f"{size / 2**30:.2g} GiB"
