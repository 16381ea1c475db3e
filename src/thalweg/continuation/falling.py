"""What families share: an amount that falls on the way from the easiest cost to the true one, and a generator."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Generator

Amount = float | Callable[[float], float]  # a constant, or a function of t in [0, 1]


@dataclass(frozen=True)
class Falling:
    """From ``start`` at t = 0 to ``end`` at t = 1: start^{1−t} endᵗ, or (1 − t) start + t end.

    Arguments:
        start, end: positive.
        shape: ``"geometric"``, by one factor from level to level, or ``"linear"``.

    Raises:
        ValueError: an end that is not positive, an unknown shape.

    >>> [Falling(1.0, 0.01)(t) for t in (0.0, 0.5, 1.0)]
    [1.0, 0.1, 0.01]
    """

    start: float
    end: float
    shape: Literal["geometric", "linear"] = "geometric"

    def __post_init__(self) -> None:
        if not (0 < self.start < float("inf") and 0 < self.end < float("inf")):
            raise ValueError(f"start is {self.start} and end is {self.end}: give positive numbers")
        if self.shape not in ("geometric", "linear"):
            raise ValueError(f"unknown shape {self.shape!r}: choose geometric or linear")

    def __call__(self, t: float) -> float:
        """Returns the amount at t."""
        if self.shape == "linear":
            return (1 - t) * self.start + t * self.end
        return float(self.start ** (1 - t) * self.end**t)


def amount_at(amount: Amount, t: float, name: str) -> float:
    """Returns the amount at t.

    Raises:
        ValueError: it is not positive and finite.
    """
    value = float(amount(t) if callable(amount) else amount)
    if not 0 < value < float("inf"):
        raise ValueError(f"{name} is {value} at t = {t:g}: give a positive number, or a function of t that stays so")
    return value


class Drawing:
    """Holds the generator, torch's global one where it is None, and gives its state to checkpoints."""

    def __init__(self, generator: Generator | None) -> None:
        self.generator = generator

    @property
    def device(self) -> torch.device:
        """Where is drawn."""
        return torch.device("cpu") if self.generator is None else self.generator.device

    def state_dict(self) -> dict[str, Any]:
        """Returns the state of the generator, None for the global one."""
        return {"generator": None if self.generator is None else self.generator.get_state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes a state on.

        Raises:
            ValueError: the state is that of no generator, or there is none here to take it on.
        """
        if (state["generator"] is None) != (self.generator is None):
            raise ValueError(
                "the state and this family differ in generator=: pass one exactly if one was passed when it was saved"
            )
        if self.generator is not None:
            self.generator.set_state(state["generator"])
