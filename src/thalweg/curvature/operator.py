"""What a curvature matrix is: a linear operator that is known by its products alone; and one that is damped."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Tally:
    """How many products were made; it outlives the operator, whose graph may be large."""

    products: int = 0


class LinearOperator(ABC):
    """A square real matrix ``(n, n)`` known by ``matvec``; counts its products.

    Attributes: ``size`` n, ``dtype``, ``device``, ``tally`` of the products that ``matvec`` has made so far.
    """

    def __init__(self, size: int, dtype: torch.dtype, device: torch.device) -> None:
        self.size, self.dtype, self.device, self.tally = size, dtype, device, Tally()

    @property
    def products(self) -> int:
        """Products so far."""
        return self.tally.products

    @abstractmethod
    def _product(self, vector: Tensor) -> Tensor:
        """Returns the matrix times the vector ``(n,)``."""

    def matvec(self, vector: Tensor) -> Tensor:
        """Returns the matrix times the vector ``(n,)`` and counts the product."""
        self.tally.products += 1
        return self._product(vector)

    def __matmul__(self, vector: Tensor) -> Tensor:
        return self.matvec(vector)

    def dense(self) -> Tensor:
        """Returns the matrix ``(n, n)``, made of n products."""
        identity = torch.eye(self.size, dtype=self.dtype, device=self.device)
        return torch.stack([self.matvec(column) for column in identity], dim=1)


class Damped(LinearOperator):
    """The matrix A + λI (n, n); with λ above the size of A's most negative eigenvalue, positive definite.

        (A + λI) v = A v + λ v

    Arguments:
        operator: A ``(n, n)``.
        damping: λ, a number or a tensor without dimensions; a tensor ``(n,)`` of A's type gives A + diag(λ).

    Attributes:
        damping: may be set anew between products.

    >>> from thalweg.curvature import Hessian
    >>> import torch
    >>> saddle = Hessian.of(lambda x: x[0] ** 2 - x[1] ** 2, torch.zeros(2))
    >>> Damped(saddle, 3.0).dense().tolist()
    [[5.0, 0.0], [0.0, 1.0]]

    Source: Deep Learning, §8.6.1; Levenberg 1944.
    """

    def __init__(self, operator: LinearOperator, damping: float | Tensor) -> None:
        super().__init__(operator.size, operator.dtype, operator.device)
        self.operator, self.damping = operator, damping

    def _product(self, vector: Tensor) -> Tensor:
        return self.operator.matvec(vector) + self.damping * vector
