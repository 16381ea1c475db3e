"""What a search direction is: a vector for a gradient, and what it learns from a step and carries to the next."""

from abc import ABC, abstractmethod

from torch import Tensor

from thalweg.second_order.ranks import ALONE, Ranks


class Carried(ABC):
    """Something with a state.

    ``state`` and ``load`` carry what the rest of a run depends on, as tensors under names, whose shapes are the same
    before the first step and after any.

    Attributes: ``vectors``, the names of those whose last dimension is the vectors'.
    """

    prepared = False
    vectors: tuple[str, ...] = ()

    def prepare(self, like: Tensor) -> None:
        """Allocates for vectors of this size, type and device ``(n,)``, with nothing learned."""
        self._allocate(like)
        self.prepared = True

    def load(self, state: dict[str, Tensor]) -> None:
        """Takes up what :meth:`state` returned, instead of :meth:`prepare`; the tensors become the ones in use."""
        self._load(state)
        self.prepared = True

    @abstractmethod
    def state(self) -> dict[str, Tensor]:
        """Returns what the rest of a run depends on; the tensors are the ones in use, not copies."""

    @abstractmethod
    def _allocate(self, like: Tensor) -> None:
        """Allocates the state."""

    @abstractmethod
    def _load(self, state: dict[str, Tensor]) -> None:
        """Takes up the state."""


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
