"""Where the matrices of a flat vector lie: those of one shape as one stack, and all that is no matrix beside them."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from math import prod

import torch
from torch import Tensor

from thalweg.tensors.flat import Layout


@dataclass(frozen=True)
class Stack:
    """Matrices of one shape: where each begins in the flat vector."""

    rows: int
    columns: int
    starts: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of elements in all."""
        return len(self.starts) * self.rows * self.columns


@dataclass(frozen=True)
class Places:
    """The parts of a flat vector ``(K, n)``: stacks ``(K, count, rows, columns)`` of matrices, and the rest ``(K, r)``.

    >>> layout = Layout.of({"w": torch.zeros(2, 3), "b": torch.zeros(2), "v": torch.zeros(2, 3)})
    >>> places = Places.of(layout, ["w", "v"])
    >>> stacks, rest = places.parts(torch.arange(14.0)[None])
    >>> [tuple(stack.shape) for stack in stacks], rest
    ([(1, 2, 2, 3)], tensor([[6., 7.]]))
    >>> places.whole(stacks, rest).equal(torch.arange(14.0)[None])
    True
    """

    size: int
    stacks: tuple[Stack, ...]
    rest: tuple[tuple[int, int], ...]  # where each piece begins and ends

    @classmethod
    def of(cls, layout: Layout, matrices: Collection[str]) -> "Places":
        """Returns the places of the parameters with these names as matrices, and of all others."""
        starts: dict[tuple[int, int], list[int]] = {}
        rest: list[tuple[int, int]] = []
        for name, shape, size, end in zip(
            layout.names, layout.shapes, layout.sizes, accumulate(layout.sizes), strict=True
        ):
            if not size:
                continue
            if name in matrices:
                starts.setdefault((shape[0], prod(shape[1:])), []).append(end - size)
            elif rest and rest[-1][1] == end - size:
                rest[-1] = (rest[-1][0], end)
            else:
                rest.append((end - size, end))
        stacks = tuple(Stack(*shape, tuple(begin)) for shape, begin in starts.items())
        return cls(layout.size, stacks, tuple(rest))

    @cached_property
    def rest_size(self) -> int:
        """Number of elements that are no matrix's."""
        return sum(end - start for start, end in self.rest)

    def parts(self, flat: Tensor) -> tuple[list[Tensor], Tensor]:
        """Returns stacks of matrices and the rest of a flat tensor ``(K, n)``, copied where they are several pieces."""
        stacks = []
        for stack in self.stacks:
            area = stack.rows * stack.columns
            pieces = [flat[:, s : s + area].unflatten(1, (stack.rows, stack.columns)) for s in stack.starts]
            stacks.append(torch.stack(pieces, 1) if len(pieces) > 1 else pieces[0][:, None])
        return stacks, self.others(flat)

    def others(self, flat: Tensor) -> Tensor:
        """Returns what is no matrix of a flat tensor ``(..., n)``."""
        pieces = [flat[..., start:end] for start, end in self.rest]
        return torch.cat(pieces, -1) if pieces else flat[..., :0]

    def whole(self, stacks: Sequence[Tensor], rest: Tensor) -> Tensor:
        """Returns the flat tensor ``(K, n)`` whose parts these are."""
        pieces: dict[int, Tensor] = {}
        for stack, values in zip(self.stacks, stacks, strict=True):
            pieces |= {start: values[:, i].flatten(1) for i, start in enumerate(stack.starts)}
        ends = list(accumulate(end - start for start, end in self.rest))
        for (start, end), last in zip(self.rest, ends, strict=True):
            pieces[start] = rest[:, last - (end - start) : last]
        return torch.cat([pieces[start] for start in sorted(pieces)], 1)

    def split(self, held: Tensor, shapes: Sequence[Mapping[str, tuple[int, int]]], name: str) -> list[Tensor | None]:
        """Returns the stacks ``(K, count, …)`` of a state in one tensor ``(K, size)``, None for stacks without it.

        Arguments:
            held: the stacks' states one after another.
            shapes: of each stack, the forms that one matrix's states have, by name.
            name: which state it is.
        """
        found: list[Tensor | None] = []
        begin = 0
        for stack, forms in zip(self.stacks, shapes, strict=True):
            if name not in forms:
                found.append(None)
                continue
            size = len(stack.starts) * prod(forms[name])
            found.append(held[:, begin : begin + size].unflatten(1, (len(stack.starts), *forms[name])))
            begin += size
        return found
