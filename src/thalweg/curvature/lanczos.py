"""Lanczos: a symmetric matrix made tridiagonal on the space that its products with one vector span."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from thalweg.curvature.operator import LinearOperator


class Tridiagonal(NamedTuple):
    """A ≈ QTQᵀ on the Krylov space of a vector, T symmetric and tridiagonal.

    Attributes:
        diagonal: of T ``(m,)``, float64 on the CPU, as the next one.
        off_diagonal: of T ``(m − 1,)``.
        basis: Qᵀ ``(m, n)``, orthonormal rows, the first along the start.
        residual: ‖AQ − QT‖; 0 up to rounding when the space is invariant.
    """

    diagonal: Tensor
    off_diagonal: Tensor
    basis: Tensor
    residual: float

    def eigh(self) -> tuple[Tensor, Tensor]:
        """Returns T's eigenvalues ``(m,)``, ascending, and eigenvectors ``(m, m)`` in columns: the Ritz values."""
        off = torch.diag(self.off_diagonal, 1)
        values, vectors = torch.linalg.eigh(torch.diag(self.diagonal) + off + off.T)
        return values, vectors


def lanczos(operator: LinearOperator, start: Tensor, steps: int) -> Tridiagonal:
    """Returns the Lanczos tridiagonalization of a symmetric matrix, with full reorthogonalization.

        β_{j+1} q_{j+1} = A q_j − α_j q_j − β_j q_{j−1},   α_j = q_jᵀ A q_j

    Arguments:
        operator: A ``(n, n)``.
        start: ``(n,)``, not zero.
        steps: m, at most n; fewer are made where the space is invariant before. Memory m · n.

    Raises:
        ValueError: steps < 1; the start is zero or not finite; a product is not finite.

    >>> from thalweg.curvature import Hessian
    >>> a = Hessian.of(lambda x: (x**2 * torch.tensor([0.5, 1.0, 1.5])).sum(), torch.zeros(3))
    >>> [round(v, 5) for v in lanczos(a, torch.ones(3), 3).eigh()[0].tolist()]
    [1.0, 2.0, 3.0]

    Source: Lanczos 1950; Golub & Van Loan, Matrix Computations, §10.1.
    """
    *_, last = growing(operator, start, steps)
    return last


def growing(operator: LinearOperator, start: Tensor, steps: int) -> Iterator[Tridiagonal]:
    """Yields the tridiagonalization after each step, until the steps are made or the space is invariant.

    Arguments and errors are those of :func:`lanczos`.
    """
    length = float(start.norm())
    if steps < 1 or not 0 < length < math.inf:
        raise ValueError(f"Lanczos needs at least one step, not {steps}, and a start of finite norm, not {length}")
    steps = min(steps, operator.size)
    basis = torch.empty(steps, operator.size, dtype=operator.dtype, device=operator.device)
    basis[0] = start.detach() / length
    diagonal: list[float] = []
    off_diagonal: list[float] = []
    scale = 0.0
    for j in range(steps):
        w = operator.matvec(basis[j])
        alpha = basis[j] @ w
        known = basis[: j + 1]
        for _ in range(2):  # twice is enough: the first leaves rounding of the size of A q, the second of what is left
            w = w - (known @ w) @ known
        norm = w.norm()
        a, b = torch.stack([alpha, norm]).tolist()
        if not math.isfinite(a + b):
            raise ValueError("a product with the matrix is not finite")
        diagonal.append(a)
        scale = max(scale, abs(a), b)
        yield Tridiagonal(_double(diagonal), _double(off_diagonal), known, b)
        if j + 1 == steps or not b > 10 * torch.finfo(operator.dtype).eps * scale:
            return
        off_diagonal.append(b)
        basis[j + 1] = w / norm


def gaussian(operator: LinearOperator, generator: Generator) -> Tensor:
    """Returns a standard normal vector ``(n,)``, the same in every type and on every device."""
    return torch.randn(operator.size, generator=generator, dtype=torch.float64).to(operator.device, operator.dtype)


def _double(numbers: list[float]) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64)
