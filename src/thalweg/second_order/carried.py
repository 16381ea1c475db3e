"""What is carried from one descent to the next: allocated once, saved as tensors under names, taken up again."""

from abc import ABC, abstractmethod

from torch import Tensor


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
        self._take(state)
        self.prepared = True

    @abstractmethod
    def state(self) -> dict[str, Tensor]:
        """Returns what the rest of a run depends on; the tensors are the ones in use, not copies."""

    @abstractmethod
    def _allocate(self, like: Tensor) -> None:
        """Allocates the state."""

    @abstractmethod
    def _take(self, state: dict[str, Tensor]) -> None:
        """Takes up the state."""
