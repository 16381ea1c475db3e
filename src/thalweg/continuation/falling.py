"""How the width, noise or temperature of a family falls on the way from the easiest cost to the true one."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

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
