"""A physics-informed network: −u″ = f on [0, 1] with u = 0 at both ends, for u(x) = sin πx + ⅕ sin 5πx.

    u(x) = x (1 − x) N(x),   J = E (u″(x)/s + f(x)/s)²,   s = 5π²

The network N is only ever shown f; it is judged by its relative error in u. The boundary values hold by construction,
and N, N′ and N″ are carried forward together through the layers, so that the gradient of the loss is of first order.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from thalweg.compare.task.task import Task

SCALE = 5 * math.pi**2


class _Solution(nn.Module):
    """Gives −u″/s and u at each x, as two columns."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(1, 32), nn.Linear(32, 32), nn.Linear(32, 1)

    def forward(self, x: Tensor) -> Tensor:
        value, first, second = x, torch.ones_like(x), torch.zeros_like(x)
        for layer in (self.first, self.second, self.last):
            if layer is not self.first:
                value = torch.tanh(value)
                slope = 1 - value.square()
                first, second = slope * first, slope * second - 2 * value * slope * first.square()
            value, first, second = layer(value), first @ layer.weight.T, second @ layer.weight.T
        bend = -2 * value + 2 * (1 - 2 * x) * first + x * (1 - x) * second
        return torch.cat([-bend / SCALE, x * (1 - x) * value], dim=1)


def residual(output: Tensor, target: Tensor) -> Tensor:
    """Returns the mean squared residual of the equation; the solution, in the second column, is not used."""
    return (output[:, 0] - target[:, 0]).square().mean()


def relative_error(output: Tensor, target: Tensor) -> Tensor:
    """Returns ‖u − u*‖ / ‖u*‖ over the points."""
    return (output[:, 1] - target[:, 1]).norm() / target[:, 1].norm()


def _points(x: NDArray[np.float64]) -> TensorDataset:
    u = np.sin(np.pi * x) + np.sin(5 * np.pi * x) / 5
    f = np.pi**2 * (np.sin(np.pi * x) + 5 * np.sin(5 * np.pi * x)) / SCALE
    columns = torch.as_tensor(np.stack([x, f, u], axis=1), dtype=torch.float32)
    return TensorDataset(columns[:, :1].contiguous(), columns[:, 1:].contiguous())


def poisson() -> Task:
    """Poisson's equation on an interval, physics-informed 1-32-32-1 tanh network, judged by the solution"""
    drawn = np.random.default_rng(8)
    parts = (_points(drawn.uniform(0, 1, 2048)), _points(drawn.uniform(0, 1, 256)), _points(np.linspace(0, 1, 257)))
    return Task(
        _Solution,
        *parts,
        loss=residual,
        metric=relative_error,
        higher_is_better=False,
        batch_size=64,
        name="poisson",
        steps=500,
    )
