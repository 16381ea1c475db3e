"""What a search direction is: a vector for a gradient, and what it learns from the step that was taken."""

from abc import abstractmethod

from torch import Tensor

from thalweg.second_order.carried import Carried
from thalweg.second_order.ranks import ALONE, Ranks


class Direction(Carried):
    """Contract of the methods that go down along a line: L-BFGS, BFGS, conjugate gradients.

    Attributes: ``ranks`` that hold the vectors together; the driver says which.
    """

    ranks: Ranks = ALONE

    def prepare(self, like: Tensor) -> None:
        super().prepare(like)
        self.reset()

    @abstractmethod
    def __call__(self, gradient: Tensor) -> Tensor:
        """Returns the direction ``(n,)`` at a point with this gradient ``(n,)``."""

    @abstractmethod
    def learn(self, d: Tensor, step: float, before: Tensor, after: Tensor) -> None:
        """Takes in a step x₊ − x = step · d and the gradients ∇f(x) and ∇f(x₊) at its ends; vectors ``(n,)``."""

    @abstractmethod
    def reset(self) -> None:
        """Forgets everything: the next direction is steepest descent."""

    @property
    @abstractmethod
    def fresh(self) -> bool:
        """Whether the next direction is steepest descent."""

    @property
    @abstractmethod
    def well_scaled(self) -> bool:
        """Whether a step of 1 along the next direction is the natural first one to try."""
