"""What a second-order method minimizes: a point of a flat vector gives value, gradient and curvature, counted."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from thalweg.curvature import Hessian, LinearOperator
from thalweg.curvature.operator import Tally
from thalweg.second_order.ranks import ALONE, Ranks


class NotAnObjective(ValueError):
    """A function that cannot be minimized as it is; the message is one line with the cause and the remedy."""


class NotFinite(NotAnObjective):
    """The value or the gradient is NaN or infinite where a descent is to begin."""


class Evaluation(NamedTuple):
    """A point: f(x) ``()`` and ∇f(x) ``(n,)`` without graphs, and the curvature there if it was asked for.

    ``loss`` ``()`` is the part of f that is reported, where that is not all of it. Of what several ranks work on
    together these are this rank's value and loss, and its share of the gradient.
    """

    value: Tensor
    gradient: Tensor
    curvature: LinearOperator | None = None
    loss: Tensor | None = None

    def times(self, factor: float) -> "Evaluation":
        """Returns the evaluation of factor · f; what is reported stays f's."""
        curvature = None if self.curvature is None else Scaled(self.curvature, factor)
        loss = self.value if self.loss is None else self.loss
        return Evaluation(self.value * factor, self.gradient * factor, curvature, loss)


class Scaled(LinearOperator):
    """The matrix factor · A; its products are counted as A's."""

    def __init__(self, operator: LinearOperator, factor: float) -> None:
        super().__init__(operator.size, operator.dtype, operator.device)
        self.operator, self.factor, self.tally = operator, factor, operator.tally

    def _product(self, vector: Tensor) -> Tensor:
        return self.operator._product(vector) * self.factor


class Objective(ABC):
    """A function of a vector ``(n,)`` that counts its evaluations; the fair axis across orders.

    Attributes: ``evaluations`` of value and gradient together, ``products`` with the curvature, ``ranks`` that work on
    it together; ``factor``, a power of two by which value, gradient and curvature are multiplied so that squares of
    the gradient can be held, None before it is chosen.
    """

    ranks: Ranks = ALONE
    factor: float | None = None

    def __init__(self) -> None:
        self.evaluations = 0
        self._tallies: list[Tally] = []

    @property
    def products(self) -> int:
        """Products with curvature matrices so far."""
        return sum(tally.products for tally in self._tallies)

    def evaluate(self, x: Tensor, curvature: bool = False) -> Evaluation:
        """Returns value and gradient at ``x``; with ``curvature`` also the matrix there, which keeps the graph."""
        self.evaluations += 1
        found = self._evaluate(x, curvature)
        if found.curvature is not None:
            self._tallies.append(found.curvature.tally)
        return found if self.factor is None or self.factor == 1 else found.times(self.factor)

    @abstractmethod
    def _evaluate(self, x: Tensor, curvature: bool) -> Evaluation:
        """Evaluates once."""


def factor_for(norm: float, dtype: torch.dtype, part: int = 8) -> float:
    """Returns the power of two that takes a gradient of this size to about 1.

    Where its exponent is within that part of the type's range, so that squares and their sums are held, it is 1.

    >>> 0.5 <= factor_for(1e150, torch.float64) * 1e150 < 1 == factor_for(1e6, torch.float64)
    True
    """
    if not 0 < norm < math.inf:
        return 1.0
    exponent, most = math.frexp(norm)[1], math.frexp(torch.finfo(dtype).max)[1]
    return math.ldexp(1.0, max(2 - most, min(most - 2, -exponent))) if abs(exponent) > most // part else 1.0


class FunctionObjective(Objective):
    """A torch function of a vector.

    Arguments:
        function: from a vector ``(n,)`` to a scalar; it gets a copy of its own.
        dtype: of the vector that the function gets; as it comes by default.

    Raises, when evaluated:
        NotAnObjective: it gives no scalar tensor, or one that does not depend on its argument.

    >>> objective = FunctionObjective(lambda x: (x**2).sum())
    >>> objective.evaluate(torch.tensor([1.0, 2.0])).gradient.tolist()
    [2.0, 4.0]
    """

    def __init__(self, function: Callable[[Tensor], Tensor], dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.function, self.dtype = function, dtype

    def _evaluate(self, x: Tensor, curvature: bool) -> Evaluation:
        point = x.detach().to(self.dtype or x.dtype, copy=True).requires_grad_()
        with torch.enable_grad():
            loss = self.function(point)
            check_loss(loss, "the function")
            matrix = Hessian(loss, [point]) if curvature else None
            gradient = torch.autograd.grad(loss, point, allow_unused=True)[0] if matrix is None else matrix.gradient
        if gradient is None:
            raise NotAnObjective("the function's loss does not depend on its argument: compute it from x")
        value = loss.detach().to(torch.promote_types(loss.dtype, x.dtype))
        return Evaluation(value, gradient.detach().to(x.dtype), matrix)


def check_loss(loss: object, what: str) -> None:
    """Raises NotAnObjective unless the loss is a scalar tensor with a graph."""
    if not isinstance(loss, Tensor) or loss.numel() != 1 or loss.dim() > 1:
        shape = tuple(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
        raise NotAnObjective(f"{what} does not return a scalar ({shape}): return the loss as one number")
    if loss.is_complex():
        raise NotAnObjective(f"{what} returns a complex number: return a real loss")
    if not loss.requires_grad:
        raise NotAnObjective(f"{what} returns a loss without a gradient: do not detach or round its inputs")
