"""What the atoms need to know of all codes: A = Σ w cᵀc and B = Σ w cᵀx, added up a sample at a time."""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from thalweg.tensors.form import require

_PART = 4096  # samples whose codes are made float64 at once where numba is missing, or on another device

Array = NDArray[np.float64]


def moments(codes: Tensor, samples: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Returns  A = Σ_n w_n c_nᵀc_n  and  B = Σ_n w_n c_nᵀx_n  on the CPU in float64.

    On the CPU with numba only the coefficients that are not zero are touched, by one thread; else A and B are
    products of matrices, on the codes' device.

    Arguments:
        codes: c ``(n, K)``.
        samples: x ``(n, d)``.
        weights: w ``(n,)``, float64.

    Returns:
        ``(K, K)`` and ``(K, d)``.

    Raises:
        ValueError: shapes that do not fit.

    >>> A, B = moments(torch.tensor([[2.0, 0.0]]), torch.tensor([[1.0, 3.0]]), torch.ones(1, dtype=torch.float64))
    >>> A.tolist(), B.tolist()
    ([[4.0, 0.0], [0.0, 0.0]], [[2.0, 6.0], [0.0, 0.0]])
    """
    n, atoms, features = len(samples), codes.shape[-1], samples.shape[-1]
    require("codes", codes, (n, atoms))
    require("samples", samples, (n, features))
    require("weights", weights, (n,))
    codes, samples, weights = (t.detach() for t in (codes, samples, weights.double()))
    add = _compiled() if codes.device.type == "cpu" else None
    if add is not None:
        second, cross = np.zeros((atoms, atoms)), np.zeros((atoms, features))
        add(*(_wide(t).contiguous().numpy() for t in (codes, samples, weights)), second, cross)
        return torch.from_numpy(second), torch.from_numpy(cross)
    a, b = (torch.zeros(atoms, n, dtype=torch.float64, device=codes.device) for n in (atoms, features))
    for c, x, w in zip(*(t.split(_PART) for t in (codes, samples, weights)), strict=True):
        weighted = c.T.double() * w
        a.addmm_(weighted, c.double())
        b.addmm_(weighted, x.double())
    return a.cpu(), b.cpu()


def _wide(tensor: Tensor) -> Tensor:
    """Returns the tensor in a type that numpy has."""
    return tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.double()


def _add(codes: Array, samples: Array, weights: Array, second: Array, cross: Array) -> None:
    atoms, features = cross.shape
    on = np.empty(atoms, np.int64)
    for n in range(len(codes)):
        k = 0
        for j in range(atoms):
            if codes[n, j] != 0:
                on[k] = j
                k += 1
        for i in range(k):
            j = on[i]
            weighted = weights[n] * codes[n, j]
            for m in range(i + 1):
                second[j, on[m]] += weighted * codes[n, on[m]]
            for m in range(features):
                cross[j, m] += weighted * samples[n, m]
    for j in range(atoms):
        for m in range(j):
            second[m, j] = second[j, m]


@cache
def _compiled() -> Callable[..., Any] | None:
    try:
        from numba import njit
    except ImportError:
        return None
    return njit(cache=True, nogil=True)(_add)
