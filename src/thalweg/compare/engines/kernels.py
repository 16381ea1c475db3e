"""The update kernel that every engine runs: one rule over rows of flat parameters, in place."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from thalweg.rules.rule import Rule, apply
from thalweg.tensors.compiling import compiled

Kernel = Callable[[Tensor, Tensor, Sequence[Tensor], Tensor], None]


def update_kernel(rule: Rule, names: Sequence[str], device: torch.device, compile_: bool = True) -> Kernel:
    """Returns ``kernel(params, grads, buffers, coefficients)`` which steps ``(K, n)`` rows in place.

    ``buffers`` are ``(K, n)`` in the order of ``rule.buffers``; ``coefficients`` is ``(K, c)`` with the columns
    ``names``. Compiled, it reads and writes each number once; it is then for one row, or for any number of rows
    from two on that are marked as dynamic, whichever it meets first.
    """
    slots = tuple(rule.buffers)

    def kernel(params: Tensor, grads: Tensor, buffers: Sequence[Tensor], coefficients: Tensor) -> None:
        c = dict(zip(names, coefficients[:, :, None].unbind(1), strict=True))
        new, state = apply(rule, params, grads, dict(zip(slots, buffers, strict=True)), c)
        params.copy_(new)
        for slot, buffer in zip(slots, buffers, strict=True):
            buffer.copy_(state[slot])

    return compiled(kernel, device, unguarded=True) if compile_ else kernel
