"""Coordinate descent: one number, or one block of them, at a time."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Generator, Tensor

from thalweg.coordinate.minimizers import Block, Closure, Minimizer, NewtonStep
from thalweg.curvature.differentiate import check_graph, filled, gradients

Order = Literal["cyclic", "random", "greedy"]
SHARE = 1e-3  # of the start's size: an x that is smaller counts as this, as on the way to a minimum at the origin


@dataclass(frozen=True)
class Sweep:
    """What one sweep did: as many visits as there are blocks.

    Attributes:
        value: f after it.
        fall: by how much it lowered f.
        visited: the blocks' numbers in their order.
        kept: of the visits, those that lowered f or left it as it was; others were taken back.
        moved: by how much a minimizer moved a number at most, also if it was taken back.
    """

    value: float
    fall: float
    visited: tuple[int, ...]
    kept: int
    moved: float


@dataclass(frozen=True)
class DescentResult:
    """How :meth:`CoordinateDescent.minimize` ended.

    Attributes:
        value: f in the end.
        sweeps: one :class:`Sweep` each.
        converged: whether each block is at its minimum as the others stand, and the last falls and moves were small.
    """

    value: float
    sweeps: tuple[Sweep, ...]
    converged: bool


def _left(sweeps: Sequence[Sweep]) -> float:
    """Returns how far there is still to go if moves fall on as in the last sweeps, or where f cannot fall any more."""
    last = sweeps[-1].moved
    shares = [new.moved / old.moved for old, new in pairwise(sweeps) if old.moved]
    kept = max(shares) if len(shares) > 1 else 1.0  # the first sweep tells nothing
    return last if not last or not sweeps[-1].fall else last * kept / (1 - kept) if kept < 1 else math.inf


class CoordinateDescent:
    """Minimises f(x₁, …, x_B) over one block at a time while the others stand.

        x_b ← argmin over x_b of f(x₁, …, x_b, …, x_B),   b in order

    Two blocks are alternating minimisation. A visit that raises f is taken back, so that f never rises. Where a block
    strongly moves the minimum of another, as in (x₁ − x₂)² + α‖x‖² with small α, it crawls: put both into one block.

    Arguments:
        blocks: parameters, each a block, or param groups, dicts whose ``"params"`` are one block; a group's
            ``"minimizer"`` and ``"coordinates"`` go before the ones given here.
        minimizer: of a block: :class:`NewtonStep` by default, :class:`ClosedForm`, :class:`Steps`, or any function of
            a :class:`Block` and f.
        order: ``"cyclic"``; ``"random"``, a new permutation each sweep; ``"greedy"``, Gauss–Southwell: each time the
            block with the largest ‖∂f/∂x_b‖, which costs a gradient a visit.
        coordinates: whether each single number is a block.
        generator: of random orders.

    Raises:
        ValueError: no parameters, one twice or without gradient, an unknown order, a random one without generator.

    >>> x = torch.tensor([2.0, -1.0], requires_grad=True)
    >>> f = lambda: (x[0] - 1) ** 2 + (x[1] - x[0]) ** 2
    >>> found = CoordinateDescent([x], coordinates=True).minimize(f)
    >>> found.converged, [round(v, 3) for v in x.tolist()]
    (True, [1.0, 1.0])

    Source: Deep Learning, §8.7.2; Nutini et al. 2015 (Gauss–Southwell); Wright 2015.
    """

    def __init__(
        self,
        blocks: Iterable[Tensor] | Iterable[Mapping[str, Any]],
        *,
        minimizer: Minimizer | None = None,
        order: Order = "cyclic",
        coordinates: bool = False,
        generator: Generator | None = None,
    ) -> None:
        if order not in ("cyclic", "random", "greedy"):
            raise ValueError(f"order={order!r}: choose cyclic, random or greedy")
        if order == "random" and generator is None:
            raise ValueError("a random order needs a seed: pass generator=torch.Generator().manual_seed(…)")
        self.order, self.generator = order, generator
        self.blocks: list[Block] = []
        self.minimizers: list[Minimizer] = []
        standard = minimizer or NewtonStep()
        for given in blocks:
            group: Mapping[str, Any] = given if isinstance(given, Mapping) else {"params": [given]}
            params = [group["params"]] if isinstance(group["params"], Tensor) else list(group["params"])
            if group.get("coordinates", coordinates):
                some = [Block([p], i) for p in params for i in range(p.numel())]
            else:
                some = [Block(params)]
            self.blocks += some
            self.minimizers += [group.get("minimizer", standard)] * len(some)
        self.params = list({id(p): p for block in self.blocks for p in block.params}.values())
        if not self.params:
            raise ValueError("there are no parameters: pass tensors, or groups of them")
        if not all(p.requires_grad and p.is_leaf for p in self.params):
            raise ValueError("a parameter does not require a gradient: pass leaves with requires_grad=True")
        whole = [id(p) for block in self.blocks if block.index is None for p in block.params]
        single = {id(block.params[0]) for block in self.blocks if block.index is not None}
        if len(set(whole)) < len(whole) or single & set(whole):
            raise ValueError("a parameter is in two blocks: put it into one")

    def sweep(self, fun: Closure) -> Sweep:
        """Visits as many blocks as there are.

        Arguments:
            fun: gives f as a scalar with a graph, from the parameters as they stand.

        Raises:
            ValueError: f is not one finite number with a graph.
        """
        first = self._value(fun)
        value, visited, kept, moved = first, [], 0, 0.0
        for b in self._visits(fun):
            block, before = self.blocks[b], self.blocks[b].get()
            self.minimizers[b](block, fun)
            with torch.no_grad():
                after = float(fun())
            moved = max(moved, float((self.blocks[b].get() - before).abs().max()))
            if after <= value:  # not so for NaN
                value, kept = after, kept + 1
            else:
                block.set(before)
            visited.append(b)
        return Sweep(value, first - value, tuple(visited), kept, moved)

    def minimize(
        self,
        fun: Closure,
        *,
        tol: float = 1e-9,
        max_sweeps: int = 1000,
        callback: Callable[[Sweep], bool | None] | None = None,
    ) -> DescentResult:
        """Sweeps until one lowers f by little and what is still to go is little.

            f₋ − f ≤ tol (f₀ − f),   m q/(1 − q) ≤ √tol ‖x‖∞

        where m is how far the last sweep moved and q the share that its moves keep from sweep to sweep, so that neither
        a start high up nor a crawl passes for a minimum.

        Arguments:
            fun: see :meth:`sweep`.
            tol: relative; where f begins, and its scale, do not matter. At the origin ‖x‖∞ counts as a thousandth of
                the start's.
            max_sweeps: at most.
            callback: called after each sweep; ends it by returning True.
        """
        sweeps: list[Sweep] = []
        total, converged, start = 0.0, False, self._size()
        while len(sweeps) < max_sweeps and not converged:
            done = self.sweep(fun)
            sweeps.append(done)
            total += done.fall
            near = max(tol, torch.finfo(self.params[0].dtype).eps) ** 0.5 * max(self._size(), SHARE * start)
            converged = done.fall <= tol * total and _left(sweeps[-3:]) <= near
            if callback is not None and callback(done):
                break
        return DescentResult(sweeps[-1].value, tuple(sweeps), converged)

    def _size(self) -> float:
        return max(float(p.detach().abs().max()) for p in self.params if p.numel())

    def _visits(self, fun: Closure) -> Iterator[int]:
        if self.order == "greedy":
            for _ in self.blocks:
                yield self._steepest(fun)
        elif self.order == "random":
            yield from torch.randperm(len(self.blocks), generator=self.generator).tolist()
        else:
            yield from range(len(self.blocks))

    def _steepest(self, fun: Closure) -> int:
        found = dict(zip(map(id, self.params), filled(gradients([fun()], self.params), self.params), strict=True))
        slopes = [float(block.of([found[id(p)] for p in block.params]).norm()) for block in self.blocks]
        return max(range(len(slopes)), key=slopes.__getitem__)

    def _value(self, fun: Closure) -> float:
        value = fun()
        check_graph(value, self.params)
        number = value.item()
        if not math.isfinite(number):
            raise ValueError(f"f is {number} at the start: start at a point where it is finite")
        return number
