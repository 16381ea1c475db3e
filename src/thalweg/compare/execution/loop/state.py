"""The state of a training loop of the user's own between two rungs."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from thalweg.compare.execution.cannot_run import by_optimizer
from thalweg.compare.execution.optimizer_state import Remembered, inner, put_state, state_of
from thalweg.compare.execution.optimizers import members
from thalweg.compare.execution.plain import packed, unpacked
from thalweg.compare.user_errors import TaskError
from thalweg.tensors.draws import packed_states, restore_packed

OPTIMIZER, DRAWS, GRADIENTS = "optimizer", "draws", "its gradients"


class LoopState:
    """What a loop has registered, and what is saved of it.

    Arguments:
        held: what :meth:`capture` saved, None at the start of a run.

    Attributes:
        note_at: step after which what would be saved there is noted; None for nowhere.
        noted: what was.
        initial: the parameters that the loop itself began with, of a run that notes.
    """

    def __init__(self, held: Mapping[str, Tensor] | None) -> None:
        self.held = held
        self.objects: dict[str, Any] = {}
        self.note_at: int | None = None
        self.noted: Mapping[str, Tensor] | None = None
        self.initial: list[Tensor] = []

    def track(self, **objects: Any) -> None:
        """Registers objects by their names.

        Raises:
            TaskError: one has no state, or a name is taken.
        """
        for name, value in objects.items():
            if not all(callable(getattr(value, method, None)) for method in ("state_dict", "load_state_dict")):
                raise TaskError(
                    f"the loop registers {name}, a {type(value).__name__} without state_dict() and load_state_dict(): "
                    "give it both"
                )
            if name in self.objects and self.objects[name] is not value:
                raise TaskError(f"the loop registers two objects as {name!r}: name them differently")
            self.objects[name] = value
            if name == OPTIMIZER:
                self._made = Remembered(inner(members(value)))

    def note(self, step: int, gradients: bool) -> None:
        """Notes what :meth:`capture` would save, where that is asked for."""
        if step == self.note_at:
            held = self.held
            self.capture(gradients)
            self.noted, self.held = self.held, held

    def capture(self, gradients: bool) -> None:
        """Saves the states of all objects and of the global generators, and gradients that a later step takes."""
        with by_optimizer("cannot be interrupted"):
            state = state_of(members(self.objects[OPTIMIZER]), remembered=self._made)
        held = {f"{OPTIMIZER}.{k}": v for k, v in state.items()}
        others = {name: value.state_dict() for name, value in self.objects.items() if name != OPTIMIZER}
        if gradients:
            others[GRADIENTS] = [p.grad for p in _params(self.objects[OPTIMIZER])]
        what = "an object that the loop registers"
        held |= {f"{DRAWS}.{k}": v for k, v in packed({**others, DRAWS: packed_states()}, what).items()}
        self.held = {name: tensor.detach().cpu().clone() for name, tensor in held.items()}

    def restore(self, device: torch.device) -> None:
        """Puts back what was saved.

        Raises:
            TaskError: the loop has registered other objects than before.
        """
        if self.note_at is not None:
            self.initial = [p.detach().cpu().clone() for p in _params(self.objects[OPTIMIZER])]
        if self.held is None:
            return
        with by_optimizer("does not go on from its own state"):
            put_state(members(self.objects[OPTIMIZER]), _under(OPTIMIZER, self.held), self._made)
        others = unpacked(_under(DRAWS, self.held))
        draws, gradients = others.pop(DRAWS), others.pop(GRADIENTS, [])
        if others.keys() != self.objects.keys() - {OPTIMIZER}:
            raise TaskError(
                f"the loop registers {', '.join(self.objects)}, and registered {', '.join([OPTIMIZER, *others])} "
                "before: register the same objects each time"
            )
        for name, state in others.items():
            self.objects[name].load_state_dict(state)
        for p, grad in zip(_params(self.objects[OPTIMIZER]), gradients, strict=False):
            p.grad = None if grad is None else grad.to(p)
        restore_packed(draws)


def _params(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [p for group in optimizer.param_groups for p in group["params"]]


def _under(part: str, held: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(f"{part}."): value for key, value in held.items() if key.startswith(f"{part}.")}
