"""What a search direction is: a vector for a gradient, and what it learns from the step that was taken."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor


class Direction(ABC):
    """Contract of the methods that go down along a line: L-BFGS, BFGS, conjugate gradients, steepest descent.

    ``state`` and ``load`` carry what the rest of a run depends on, as tensors under names.
    """

    @abstractmethod
    def __call__(self, gradient: Tensor) -> Tensor:
        """Returns the direction ``(n,)`` at a point with this gradient ``(n,)``."""

    @abstractmethod
    def learn(self, s: Tensor, before: Tensor, after: Tensor) -> None:
        """Takes in a step s = x₊ − x and the gradients ∇f(x) and ∇f(x₊) at its ends, all ``(n,)``."""

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

    def state(self) -> dict[str, Tensor]:
        """Returns what the rest of a run depends on."""
        return {}

    def load(self, state: dict[str, Tensor]) -> None:  # noqa: B027 (steepest descent has none)
        """Takes up what :meth:`state` returned."""


class SteepestDescent(Direction):
    """d = −∇f(x): the direction that all others fall back on, and zig-zags in a narrow valley."""

    def __call__(self, gradient: Tensor) -> Tensor:
        return -gradient

    def learn(self, s: Tensor, before: Tensor, after: Tensor) -> None:
        """Learns nothing."""

    def reset(self) -> None:
        """Has nothing to forget."""

    @property
    def fresh(self) -> bool:
        return True

    @property
    def well_scaled(self) -> bool:
        return False


def norm(vector: Tensor) -> Tensor:
    """Returns ‖v‖∞ ``()``."""
    return torch.linalg.vector_norm(vector, ord=torch.inf)
