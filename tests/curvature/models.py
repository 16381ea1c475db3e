"""Small models whose whole Hessian can be written down, and a matrix as an operator."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from thalweg.curvature import LinearOperator
from thalweg.tensors.vector import from_vector, to_vector


class Matrix(LinearOperator):
    """A dense matrix behind the contract; what is true of it is known from the matrix itself."""

    def __init__(self, matrix: Tensor) -> None:
        super().__init__(len(matrix), matrix.dtype, matrix.device)
        self.matrix = matrix

    def _product(self, vector: Tensor) -> Tensor:
        return self.matrix @ vector


class Attention(nn.Module):
    """One head over a sequence of 4, mean-pooled; written out, since the fused kernel has no second derivative."""

    def __init__(self) -> None:
        super().__init__()
        self.mix, self.out = nn.Linear(4, 12, bias=False), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.mix(x).chunk(3, dim=-1)
        return self.out((torch.softmax(q @ k.mT / 2, dim=-1) @ v).mean(dim=1))


@dataclass
class Case:
    """A model with its data: the outputs and the loss as functions of the modules' own parameters or of a vector."""

    model: nn.Module
    inputs: Tensor
    criterion: Callable[[Tensor], Tensor]

    @property
    def params(self) -> list[Tensor]:
        return list(self.model.parameters())

    @property
    def flat(self) -> Tensor:
        return to_vector([p.detach() for p in self.params])

    def loss(self) -> Tensor:
        return self.criterion(self.model(self.inputs))

    def outputs_at(self, flat: Tensor) -> Tensor:
        names = [name for name, _ in self.model.named_parameters()]
        values = dict(zip(names, from_vector(flat, self.params), strict=True))
        return torch.func.functional_call(self.model, values, (self.inputs,))

    def loss_at(self, flat: Tensor) -> Tensor:
        return self.criterion(self.outputs_at(flat))

    def hessian(self) -> Tensor:
        return torch.autograd.functional.hessian(self.loss_at, self.flat)

    def gauss_newton(self) -> Tensor:
        """Jᵀ H_L J from its factors."""
        outputs = self.outputs_at(self.flat)
        jacobian = torch.func.jacrev(self.outputs_at)(self.flat).reshape(outputs.numel(), -1)
        bend = torch.autograd.functional.hessian(self.criterion, outputs)
        return jacobian.T @ bend.reshape(outputs.numel(), outputs.numel()) @ jacobian


def case(name: str, seed: int = 0, dtype: torch.dtype = torch.float64) -> Case:
    """Returns the case of that name with drawn parameters and data."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        labels = torch.randint(0, 3, (6,))
        if name == "mlp":
            model: nn.Module = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3))
            made = Case(model, torch.randn(6, 3), lambda z: nn.functional.cross_entropy(z, labels))
        elif name == "convolution":
            model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Softplus(), nn.Flatten(), nn.Linear(18, 3))
            made = Case(model, torch.randn(6, 1, 5, 5), lambda z: nn.functional.cross_entropy(z, labels))
        elif name == "attention":
            targets = torch.randn(6, 2, dtype=dtype)
            made = Case(Attention(), torch.randn(6, 4, 4), lambda z: (z - targets).square().mean())
        else:
            targets = torch.randn(6, 2, dtype=dtype)
            made = Case(nn.Linear(4, 2), torch.randn(6, 4), lambda z: (z - targets).square().mean())
    made.model.to(dtype)
    made.inputs = made.inputs.to(dtype)
    return made


def symmetric(eigenvalues: list[float] | Tensor, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Returns a symmetric matrix with these eigenvalues and random eigenvectors."""
    values = torch.as_tensor(eigenvalues, dtype=torch.float64)
    drawn = torch.randn(len(values), len(values), dtype=torch.float64, generator=draws(seed))
    q, _ = torch.linalg.qr(drawn)
    matrix = q @ torch.diag(values) @ q.T
    return ((matrix + matrix.T) / 2).to(dtype)


def draws(seed: int = 0) -> torch.Generator:
    """Returns a seeded generator."""
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Returns standard normal numbers."""
    return torch.randn(*shape, dtype=torch.float64, generator=draws(seed)).to(dtype)
