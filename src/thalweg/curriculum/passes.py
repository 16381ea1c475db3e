"""How examples are drawn from a pool that grows: in passes, every example once, or each draw by itself."""

from collections.abc import Callable

import torch

from thalweg.curriculum.order import Indices
from thalweg.tensors.seeds import generator

Counts = Callable[[int], tuple[int, int]]  # step -> draws in it, and examples admitted


class Passes:
    """Draws from the first ``admitted`` of an ordered set, none twice within a pass: a shuffle that can grow.

    The examples drawn in this pass lie before those left; a draw swaps a random one of those left to the front of
    them. Examples admitted meanwhile come right after, and so are left too.

    Arguments:
        order: examples in the order of admission ``(n,)``; it is not changed.
        seed, name: of the stream of draws; a step's depend on them and the step.

    >>> passes = Passes(torch.tensor([5, 7, 9], dtype=torch.int32).numpy(), 0, "example")
    >>> sorted(passes.draw(0, 2, admitted=2)), sorted(passes.draw(1, 3, admitted=3))
    ([5, 7], [5, 7, 9])
    """

    def __init__(self, order: Indices, seed: int, name: str) -> None:
        self._seed, self._name = seed, name
        self.begin(order)

    def begin(self, order: Indices) -> None:
        """Begins a pass over another order."""
        self._order, self._pool = order, order.copy()
        self._admitted = self._drawn = 0

    def draw(self, step: int, count: int, admitted: int, skip: int = 0) -> list[int]:
        """Returns the examples that a step draws: ``count``, but for the first ``skip``."""
        shares = torch.rand(count, generator=generator(self._seed, self._name, step), dtype=torch.float64).tolist()
        if admitted < self._admitted:
            self._restart()
        self._admitted, drawn = admitted, self._drawn
        pool, found = self._pool.data, []
        for share in shares[skip:]:
            if drawn == admitted:
                self._restart()
                drawn = 0
            at = drawn + int(share * (admitted - drawn))
            example = pool[at]
            pool[at] = pool[drawn]
            pool[drawn] = example
            found.append(example)
            drawn += 1
        self._drawn = drawn
        return found

    def go_to(self, step: int, counts: Counts, first: int = 0) -> None:
        """Goes to the beginning of a step, from the beginning of a pass at ``first``: repeats the pass under way."""
        drawn = pool = skip = 0
        for past in range(first, step):
            count, admitted = counts(past)
            if admitted < pool:
                first, skip, drawn = past, 0, 0
            pool, drawn = admitted, drawn + count
            if drawn > admitted:  # the pass ended within this step, and perhaps more did
                drawn = (drawn - 1) % admitted + 1
                first, skip = past, count - drawn
        self.begin(self._order)
        for past in range(first, step):
            self.draw(past, *counts(past), skip if past == first else 0)

    def _restart(self) -> None:
        """Begins the next pass: the part of the pool that was drawn from is in its order again."""
        self._pool[: self._admitted] = self._order[: self._admitted]
        self._drawn = 0


class Independent:
    """Draws from the first ``admitted`` of an ordered set with replacement; arguments as those of :class:`Passes`."""

    def __init__(self, order: Indices, seed: int, name: str) -> None:
        self._seed, self._name = seed, name
        self.begin(order)

    def begin(self, order: Indices) -> None:
        """Takes another order."""
        self._order = order

    def draw(self, step: int, count: int, admitted: int) -> list[int]:
        """Returns the examples that a step draws."""
        at = torch.randint(admitted, (count,), generator=generator(self._seed, self._name, step))
        return self._order[at.numpy()].tolist()

    def go_to(self, step: int, counts: Counts, first: int = 0) -> None:
        """Nothing depends on draws before."""
