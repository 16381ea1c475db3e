"""What a curvature matrix is: a linear operator that is known by its products alone."""

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
