"""Damping: a matrix plus a multiple of the identity, so that a Newton step stays short and well defined."""

from torch import Tensor

from thalweg.curvature.operator import LinearOperator


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
