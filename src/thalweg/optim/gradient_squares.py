"""The gradient's square taken in the backward pass, tensor by tensor, while each is still in the cache."""

import weakref
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

LARGE = 65_536  # elements from which a tensor is worth it


def square(grad: Tensor) -> Tensor | None:
    """Returns ‖g‖² of a large plain tensor on the CPU by BLAS's dot, which reads it faster than torch's norm does.

    None for any other, and while torch traces.

    >>> square(torch.ones(2)) is None, square(torch.full((LARGE,), 2.0)).item() / LARGE
    (True, 4.0)
    """
    plain = type(grad) is Tensor and grad.device.type == "cpu" and grad.dtype in (torch.float32, torch.float64)
    if torch.compiler.is_compiling() or not plain or grad.numel() < LARGE or not grad.is_contiguous():
        return None
    flat = grad.detach().view(-1)
    return torch.dot(flat, flat)


class GradientSquares:
    """Squares of gradients by hooks that run when each is accumulated.

    A square holds for the very tensor that the hook saw, as long as nothing is written into it: after unscaling,
    clipping or replacing a gradient there is none. Nor is there one where processes reduce gradients among them, which
    writes past what can be noticed.
    """

    def __init__(self) -> None:
        self._seen: dict[int, tuple[Tensor, int, Tensor]] = {}  # by the gradient's id: itself, its version, the square

    def watch(self, params: Iterable[Tensor]) -> None:
        """Hooks onto parameters that require a gradient; the hooks do not keep this object alive."""
        own = weakref.ref(self)

        def take(p: Any) -> None:
            squares = own()
            if squares is not None:
                squares.take(p.grad)

        for p in params:
            if p.requires_grad and p.is_leaf:
                p.register_post_accumulate_grad_hook(take)

    def take(self, grad: Tensor) -> None:
        """Notes a gradient's square."""
        alone = not (torch.distributed.is_available() and torch.distributed.is_initialized())
        found = square(grad) if alone else None
        if found is not None:
            self._seen[id(grad)] = grad, grad._version, found

    def of(self, grad: Tensor) -> Tensor | None:
        """Returns the gradient's square, if it is known and still holds."""
        seen = self._seen.get(id(grad))
        return seen[2] if seen is not None and seen[1] == grad._version else None

    def clear(self) -> None:
        """Lets go of all gradients."""
        self._seen.clear()
