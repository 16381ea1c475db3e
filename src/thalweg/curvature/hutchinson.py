"""Hutchinson: the trace and the diagonal of a matrix that is known by its products, with standard errors."""

import math
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from thalweg.curvature.operator import LinearOperator


class Trace(NamedTuple):
    """An estimate of the trace and its standard error; the error of a single sample is NaN."""

    value: float
    error: float


class Diagonal(NamedTuple):
    """An estimate of the diagonal ``(n,)`` and the standard error of each entry ``(n,)``; NaN for a single sample."""

    value: Tensor
    error: Tensor


def trace(operator: LinearOperator, generator: Generator, samples: int = 100) -> Trace:
    """Returns an unbiased estimate of the trace from Rademacher probes.

        tr A = E vᵀ A v,   Var vᵀ A v = 2 Σ_{i≠j} A_ij²  for symmetric A,   v_i = ±1

    Arguments:
        operator: A ``(n, n)``, symmetric.
        generator: of the probes, drawn on the CPU.
        samples: products to spend; 100 by default.

    Raises:
        ValueError: samples < 1.

    >>> from thalweg.curvature import Hessian
    >>> bowl = Hessian.of(lambda x: x[0] ** 2 + 2 * x[1] ** 2, torch.zeros(2))
    >>> trace(bowl, torch.Generator().manual_seed(0), samples=3)
    Trace(value=6.0, error=0.0)

    Source: Hutchinson 1989.
    """
    _check(samples)
    forms = []
    for _ in range(samples):
        v = rademacher(operator, generator)
        forms.append(v @ operator.matvec(v))
    values = torch.stack(forms).double()
    return Trace(float(values.mean()), float(values.std()) / math.sqrt(samples) if samples > 1 else math.nan)


def diagonal(operator: LinearOperator, generator: Generator, samples: int = 100) -> Diagonal:
    """Returns an unbiased estimate of the diagonal from Rademacher probes.

        diag A = E v ⊙ A v,   Var (v ⊙ A v)_i = Σ_{j≠i} A_ij²,   v_i = ±1

    Arguments:
        operator: A ``(n, n)``.
        generator: of the probes, drawn on the CPU.
        samples: products to spend; 100 by default.

    Raises:
        ValueError: samples < 1.

    >>> from thalweg.curvature import Hessian
    >>> bowl = Hessian.of(lambda x: x[0] ** 2 + 2 * x[1] ** 2, torch.zeros(2))
    >>> diagonal(bowl, torch.Generator().manual_seed(0), samples=3).value.tolist()
    [2.0, 4.0]

    Source: Bekas, Kokiopoulou & Saad 2007.
    """
    _check(samples)
    mean = torch.zeros(operator.size, dtype=operator.dtype, device=operator.device)
    squares = torch.zeros_like(mean)  # of the distances from the mean, summed as they come (Welford 1962)
    for count in range(1, samples + 1):
        v = rademacher(operator, generator)
        value = v * operator.matvec(v)
        distance = value - mean
        mean = mean + distance / count
        squares = squares + distance * (value - mean)
    return Diagonal(mean, (squares / (samples - 1) / samples).sqrt() if samples > 1 else mean * math.nan)


def rademacher(operator: LinearOperator, generator: Generator) -> Tensor:
    """Returns ±1 with equal chances ``(n,)``, the same in every type and on every device."""
    draws = torch.randint(0, 2, (operator.size,), generator=generator, dtype=torch.int8)
    return draws.to(operator.device, operator.dtype) * 2 - 1


def _check(samples: int) -> None:
    if samples < 1:
        raise ValueError(f"samples must be at least 1, not {samples}")
