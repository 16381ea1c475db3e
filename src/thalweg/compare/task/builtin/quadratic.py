"""A noisy quadratic with the spectrum of a deep network's Hessian: few large eigenvalues, many near zero.

    J(θ) = ½ E_c (θ − c)ᵀ H (θ − c),   c ~ N(0, σ² I),   H = Q diag(λ) Qᵀ

Training sees samples of c, so its gradient is noisy; validation and test see c = 0: the exact excess cost
½ θᵀHθ. The basis Q is a fixed random rotation, so that no method is favoured for working by coordinate.
"""

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from thalweg.compare.task.task import Task

SIZE, LARGE, NOISE = 64, 6, 0.5


class _Quadratic(nn.Module):
    """Gives √λ ⊙ Qᵀ(θ − c) for each row c, whose half squared norm is the cost."""

    root: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.randn(SIZE))
        self.register_buffer("root", _root())

    def forward(self, c: Tensor) -> Tensor:
        return (self.theta - c) @ self.root


def _root() -> Tensor:
    rng = np.random.default_rng(8)
    rotation = np.linalg.qr(rng.standard_normal((SIZE, SIZE)))[0]
    eigenvalues = np.concatenate([np.geomspace(1, 0.1, LARGE), np.geomspace(1e-2, 1e-4, SIZE - LARGE)])
    return torch.as_tensor(rotation * np.sqrt(eigenvalues), dtype=torch.float32)


def half_squared_norm(output: Tensor, target: Tensor) -> Tensor:
    """Returns the mean over the rows of half the squared length of the output; the target is not used."""
    return output.square().sum(dim=-1).mean() / 2


def quadratic() -> Task:
    """Noisy quadratic in 64 dimensions, spectrum like a deep network's"""
    noise = np.random.default_rng(9).standard_normal((4096, SIZE)) * NOISE
    train = TensorDataset(torch.as_tensor(noise, dtype=torch.float32), torch.zeros(4096))
    exact = TensorDataset(torch.zeros(1, SIZE), torch.zeros(1))
    return Task(_Quadratic, train, exact, exact, half_squared_norm, "loss", batch_size=32, name="quadratic", steps=500)
