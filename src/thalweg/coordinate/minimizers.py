"""What takes one block to, or towards, its minimum while the others stand: closed form, a Newton step, an optimizer."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from thalweg.curvature.differentiate import filled, gradients

Closure = Callable[[], Tensor]


@dataclass(frozen=True, eq=False)
class Block:
    """Numbers that move together: whole parameters, or one number of one.

    Attributes:
        params: the parameters.
        index: of the one number, in the flattened parameter; None for all of them.
    """

    params: Sequence[Tensor]
    index: int | None = None

    def get(self) -> Tensor:
        """Returns the values as a new vector."""
        return self.of(self.params).clone()

    @torch.no_grad()
    def set(self, values: Tensor) -> None:
        """Puts a vector's numbers in."""
        if self.index is not None:
            self.params[0].view(-1)[self.index] = values[0]
            return
        for p, part in zip(self.params, values.split([p.numel() for p in self.params]), strict=True):
            p.copy_(part.view_as(p))

    def of(self, tensors: Sequence[Tensor]) -> Tensor:
        """Returns the block's numbers out of tensors in the parameters' shapes."""
        if self.index is not None:
            return tensors[0].detach().reshape(-1)[self.index : self.index + 1]
        return torch.cat([t.detach().reshape(-1) for t in tensors])


class Minimizer(Protocol):
    """Changes a block's numbers in place so that the function falls; the others are not to be touched."""

    def __call__(self, block: Block, fun: Closure) -> None: ...


@dataclass(frozen=True)
class ClosedForm:
    """The block's minimum by a formula.

    Arguments:
        solution: gives the block's new values, a tensor or one for each of its parameters, from all as they stand.
    """

    solution: Callable[[], Tensor | Sequence[Tensor]]

    @torch.no_grad()
    def __call__(self, block: Block, fun: Closure) -> None:
        found = self.solution()
        block.set(block.of([found] if isinstance(found, Tensor) else found))


@dataclass(frozen=True)
class NewtonStep:
    """One Newton step x − |H|⁻¹g on the block, halved until f falls; exact where f is quadratic in the block.

    |H| has the block's second derivatives' eigenvalues without their signs, so that the step never climbs to a saddle.
    A block of k numbers costs k gradients of gradients.

    Arguments:
        halvings: at most.
    """

    halvings: int = 30

    def __call__(self, block: Block, fun: Closure) -> None:
        value = fun()
        first = gradients([value], block.params, create_graph=True)  # with their graph, which filled() would cut
        flat = torch.cat(
            [
                torch.zeros_like(p).reshape(-1) if g is None else g.reshape(-1)
                for g, p in zip(first, block.params, strict=True)
            ]
        )
        own = flat if block.index is None else flat[block.index : block.index + 1]
        if own.requires_grad:
            hessian = torch.stack([block.of(filled(gradients([g], block.params), block.params)) for g in own])
        else:
            hessian = own.new_zeros(len(own), len(own))
        before, slope, now = value.detach(), own.detach(), block.get()
        curvature, axes = torch.linalg.eigh((hessian + hessian.T) / 2)
        size = curvature.abs()
        least = torch.finfo(size.dtype).eps * size.max()
        step = axes @ ((axes.T @ slope) / torch.where(size > least, size, 1.0))
        with torch.no_grad():
            for i in range(self.halvings + 1):
                block.set(now - step * 0.5**i)
                if fun() <= before:
                    return
        block.set(now)


@dataclass
class Steps:
    """Some steps of an optimizer on the block; its state is kept from sweep to sweep.

    Arguments:
        optimizer: from the block's parameters, as ``lambda params: torch.optim.Adam(params, lr=0.1)``.
        n: steps a visit.
    """

    optimizer: Callable[[Sequence[Tensor]], torch.optim.Optimizer]
    n: int = 1
    _made: dict[Block, torch.optim.Optimizer] = field(default_factory=dict, repr=False)

    def __call__(self, block: Block, fun: Closure) -> None:
        if block.index is not None:
            raise ValueError("an optimizer updates whole parameters: omit coordinates=True, or use NewtonStep")
        if block not in self._made:
            self._made[block] = self.optimizer(list(block.params))

        @torch.enable_grad()
        def closure() -> Any:
            value = fun()
            found = filled(gradients([value], block.params), block.params)
            for p, g in zip(block.params, found, strict=True):
                p.grad = g.detach()
            return value

        grads = [p.grad for p in block.params]
        try:
            for _ in range(self.n):
                self._made[block].step(closure)
        finally:
            for p, g in zip(block.params, grads, strict=True):
                p.grad = g
