"""What a kernel is given by name: the slots of a trial's state, and the columns of its coefficients."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from torch import Tensor

from thalweg.rules.rule import begun

AVERAGE = "average"  # name of the slot, and of the column of its weights
OF = "@"


class Slot(NamedTuple):
    """A part of a trial's state, a vector: the value with which it begins, and its size.

    Arguments:
        initial: None where it begins as the parameters are.
        size: None where it is that of the parameters.
    """

    initial: float | None
    size: int | None = None

    def begun(self, params: Tensor) -> Tensor:
        """Returns it at the start of trials with these parameters ``(..., n)``."""
        return begun(self.initial, params if self.size is None else params.new_empty((*params.shape[:-1], self.size)))


def column_of(name: str, number: int) -> str:
    """Returns the name of the column of a coefficient that parameters of a setting have.

    >>> column_of("minus_lr", 0), column_of("minus_lr", 2)
    ('minus_lr', 'minus_lr@2')
    """
    return name if number == 0 else f"{name}{OF}{number}"


def columns_of(names: Sequence[str]) -> dict[str, list[int]]:
    """Returns the columns of each coefficient: one, or one for each setting.

    >>> columns_of(["minus_lr", "eps", "minus_lr@1"])
    {'minus_lr': [0, 2], 'eps': [1]}
    """
    found: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        found.setdefault(name.partition(OF)[0], []).append(place)
    return found


def spread(
    columns: dict[str, list[int]], like: Tensor, setting_of: Tensor | None, compile_: bool
) -> Callable[[Tensor], dict[str, Tensor]]:
    """Returns what makes of coefficients ``(K, c)`` those of each parameter by name, ``(K, 1)`` or ``(K, n)``."""
    several = max(map(len, columns.values()))
    if several == 1:
        return lambda coefficients: {name: coefficients[:, own[0], None] for name, own in columns.items()}
    assert setting_of is not None
    masks = [(setting_of == number).to(like.dtype) for number in range(several)]

    def one(coefficients: Tensor, own: list[int]) -> Tensor:
        if len(own) == 1:
            return coefficients[:, own[0], None]
        if not compile_:
            return coefficients[:, own].index_select(1, setting_of)
        # compiled, a gathering is three times slower; what is added to a number here is 0
        return sum(coefficients[:, place, None] * mask for place, mask in zip(own, masks, strict=True))  # type: ignore

    return lambda coefficients: {name: one(coefficients, own) for name, own in columns.items()}
