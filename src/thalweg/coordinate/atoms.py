"""The dictionary's half of the descent: one atom after another, each at its exact minimum."""

from collections.abc import Callable
from functools import cache
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from thalweg.tensors.form import require

Norm = Literal["ball", "unit"]
Array = NDArray[np.float64]


def update_atoms(
    dictionary: Tensor, second: Tensor, cross: Tensor, *, norm: Norm = "ball", positive: bool = False, passes: int = 1
) -> Tensor:
    """Lowers  ½ Σ_n w_n‖x_n − c_n D‖²  over the atoms, the rows of D, in turn; returns the new dictionary.

    With A = Σ w cᵀc and B = Σ w cᵀx the cost along one atom is ½ A_jj‖d − u_j‖², u_j = d_j + (B_j − A_j D) / A_jj, so
    that the best atom is u_j brought to the norm allowed. Atoms with A_jj = 0 have no effect and stay.

    Arguments:
        dictionary: D ``(K, d)``.
        second: A ``(K, K)``.
        cross: B ``(K, d)``.
        norm: ``"ball"`` for ‖d_j‖ ≤ 1, the book's and scikit-learn's; ``"unit"`` for ‖d_j‖ = 1.
        positive: whether atoms are to be ≥ 0.
        passes: over all atoms.

    Returns:
        ``(K, d)`` on the CPU in float64.

    Raises:
        ValueError: shapes that do not fit.

    >>> D = update_atoms(torch.tensor([[1.0, 0.0]]), torch.tensor([[4.0]]), torch.tensor([[0.0, 8.0]]))
    >>> D.tolist()
    [[0.0, 1.0]]

    Source: Deep Learning, §8.7.2; Mairal, Bach, Ponce & Sapiro 2009, algorithm 2.
    """
    require("dictionary", dictionary, (len(second), cross.shape[-1]))
    require("second", second, (len(dictionary), len(dictionary)))
    require("cross", cross, dictionary.shape)
    d, a, b = (np.ascontiguousarray(t.detach().cpu().double().numpy()) for t in (dictionary.clone(), second, cross))
    for _ in range(passes):
        _pass()(d, a, b, norm == "unit", positive)
    return torch.from_numpy(d)


def _descend(d: Array, a: Array, b: Array, unit: bool, positive: bool) -> None:
    for j in range(len(d)):
        if a[j, j] <= 1e-300:
            continue
        u = d[j] + (b[j] - np.dot(a[j], d)) / a[j, j]
        if positive:
            u = np.maximum(u, 0.0)
        length = np.sqrt(np.dot(u, u))
        if length > 1.0 or (unit and length > 0):
            u /= length
        if length > 0 or not unit:
            d[j] = u


@cache
def _pass() -> Callable[..., Any]:
    try:
        from numba import njit
    except ImportError:
        return _descend
    return njit(cache=True, nogil=True)(_descend)
