"""Continuation: a family of costs of rising difficulty, each solved from the last one's solution."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from thalweg.continuation.path import Adaptive, Fixed

Family = Callable[[Any, Any, float], Tensor]  # (model, batch, t) -> loss


class Continuation:
    """The costs J⁰, …, Jⁿ = J of a family in sequence, as one objective ``(model, batch, step) -> loss``.

    Arguments:
        family: ``(model, batch, t) -> scalar``, the easiest cost at t = 0, the true one at t = 1: one of this room's
            or your own.
        path: how t rises: :class:`Fixed` or :class:`Adaptive`.

    Attributes: ``t``, of the last evaluation.

    >>> import torch
    >>> family = lambda model, batch, t: (1 - t) * model**2 + t * torch.sin(model)
    >>> objective = Continuation(family, Fixed(steps=10))
    >>> [round(objective(torch.tensor(2.0), None, step).item(), 3) for step in (0, 5, 10)]
    [4.0, 2.455, 0.909]

    Source: Deep Learning, §8.7.6; Mobahi & Fisher 2015.
    """

    def __init__(self, family: Family, path: Fixed | Adaptive) -> None:
        self.family, self.path, self.t = family, path, 0.0

    def __call__(self, model: Any, batch: Any, step: int) -> Tensor:
        """Returns the loss of a batch at a step, 0 for the first."""
        self.t = self.path.t(step)
        loss = self.family(model, batch, self.t)
        self.path.observe(step, loss)
        return loss

    def state_dict(self) -> dict[str, Any]:
        """Returns the states of the path and the family, where they have one."""
        return {name: part.state_dict() for name, part in self._stateful().items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes a state on.

        Raises:
            ValueError: a state of another kind of path or family; nothing is changed then.
        """
        parts = self._stateful()
        if set(state) != set(parts):
            raise ValueError(f"the state is of another continuation: it has {sorted(state)}, not {sorted(parts)}")
        for name, part in parts.items():
            part.load_state_dict(state[name])

    def _stateful(self) -> dict[str, Any]:
        parts = {"family": self.family, "path": self.path}
        return {name: part for name, part in parts.items() if hasattr(part, "state_dict")}
