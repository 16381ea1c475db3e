"""What a second-order method minimizes: a point of a flat vector gives value, gradient and curvature, counted."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from thalweg.curvature import Hessian, LinearOperator
from thalweg.curvature.operator import Tally
from thalweg.second_order.ranks import ALONE, Ranks


class NotAnObjective(ValueError):
    """A function that cannot be minimized as it is; the message is one line with the cause and the mend."""


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


class Objective(ABC):
    """A function of a vector ``(n,)`` that counts its evaluations; the fair axis across orders.

    Attributes: ``evaluations`` of value and gradient together, ``products`` with the curvature, ``ranks`` that work on
    it together.
    """

    ranks: Ranks = ALONE

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
        return found

    @abstractmethod
    def _evaluate(self, x: Tensor, curvature: bool) -> Evaluation:
        """Evaluates once."""


class FunctionObjective(Objective):
    """A torch function of a vector.

    Raises, when evaluated:
        NotAnObjective: it gives no scalar tensor, or one that does not depend on its argument.

    >>> objective = FunctionObjective(lambda x: (x**2).sum())
    >>> objective.evaluate(torch.tensor([1.0, 2.0])).gradient.tolist()
    [2.0, 4.0]
    """

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def _evaluate(self, x: Tensor, curvature: bool) -> Evaluation:
        point = x.detach().requires_grad_()
        with torch.enable_grad():
            loss = self.function(point)
            check_loss(loss, "the function")
            if curvature:
                matrix = Hessian(loss, [point])
                return Evaluation(loss.detach(), matrix.gradient.detach(), matrix)
            (gradient,) = torch.autograd.grad(loss, point)
        return Evaluation(loss.detach(), gradient)


def check_loss(loss: object, what: str) -> None:
    """Raises NotAnObjective unless the loss is a scalar tensor with a graph."""
    if not isinstance(loss, Tensor) or loss.numel() != 1 or loss.dim() > 1:
        shape = tuple(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
        raise NotAnObjective(f"{what} gives no scalar ({shape}): return the loss as one number")
    if loss.is_complex():
        raise NotAnObjective(f"{what} gives a complex number: return a real loss")
    if not loss.requires_grad:
        raise NotAnObjective(f"{what} gives a loss without gradient: do not detach or round on the way to it")
