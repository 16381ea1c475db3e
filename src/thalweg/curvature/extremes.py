"""The ends of a spectrum: whether a point is a minimum or a saddle, and how short a step has to be."""

from typing import NamedTuple

from torch import Generator, Tensor

from thalweg.curvature.lanczos import gaussian, growing
from thalweg.curvature.operator import LinearOperator


class Eigenpair(NamedTuple):
    """A Ritz value, its unit vector ``(n,)``, and a bound: an eigenvalue of A lies within it of the value."""

    value: float
    bound: float
    vector: Tensor


class Extremes(NamedTuple):
    """The smallest and the largest eigenvalue as far as found, and the products it took."""

    smallest: Eigenpair
    largest: Eigenpair
    products: int


def extreme_eigenvalues(
    operator: LinearOperator, generator: Generator, *, steps: int = 100, tolerance: float = 1e-3
) -> Extremes:
    """Returns the smallest and the largest eigenvalue of a symmetric matrix, each with a bound on its error.

    ‖A y − θ y‖ = β_{m+1} |s_m| for a Ritz vector y = Q s; an eigenvalue lies that near to θ. That it is the
    extreme one is certain only up to the chance that the random start hardly has its vector.

    Arguments:
        operator: A ``(n, n)``.
        generator: of the start, drawn on the CPU from N(0, I).
        steps: the most products; 100 by default.
        tolerance: stops when both bounds are below tolerance · max |θ|; 1e-3 by default.

    >>> import torch
    >>> from thalweg.curvature import Hessian
    >>> saddle = Hessian.of(lambda x: x[0] ** 2 - 2 * x[1] ** 2, torch.zeros(2))
    >>> found = extreme_eigenvalues(saddle, torch.Generator().manual_seed(0))
    >>> round(found.smallest.value, 4), round(found.largest.value, 4)
    (-4.0, 2.0)

    Source: Golub & Van Loan, Matrix Computations, §10.1; Deep Learning, §8.2.3 (how saddle points are recognized).
    """
    for found in growing(operator, gaussian(operator, generator), steps):
        values, vectors = found.eigh()
        bounds = found.residual * vectors[-1].abs()
        if float(bounds[[0, -1]].max()) <= tolerance * float(values.abs().max()):
            break
    pairs = [
        Eigenpair(float(values[i]), float(bounds[i]), vectors[:, i].to(found.basis) @ found.basis) for i in (0, -1)
    ]
    return Extremes(pairs[0], pairs[1], len(values))
