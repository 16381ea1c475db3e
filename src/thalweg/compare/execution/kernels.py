"""The update kernel that every engine runs: one rule over rows of flat parameters, in place."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from thalweg.averaging import averaged
from thalweg.compare.execution.kernel_layout import AVERAGE, Slot, columns_of, spread
from thalweg.compare.execution.matrix_kernel import MatrixKernel, partnered_slots
from thalweg.rules import Partnered
from thalweg.rules.rule import Rule, apply
from thalweg.tensors.compiling import compiled
from thalweg.tensors.places import Places

Kernel = Callable[[Tensor, Tensor, Sequence[Tensor], Tensor], None]


def slots_of(rule: Rule, averages: bool, places: Places) -> dict[str, Slot]:
    """Returns the slots of a rule's state, and that of the average where there is one."""
    average = {AVERAGE: Slot(places.size, 0.0)} if averages else {}
    if isinstance(rule, Partnered):
        return {**partnered_slots(rule, places), **average}
    return {**{name: Slot(places.size, initial) for name, initial in rule.buffers.items()}, **average}


def update_kernel(
    rule: Rule,
    names: Sequence[str],
    decayed: Tensor,
    compile_: bool = True,
    setting_of: Tensor | None = None,
    places: Places | None = None,
) -> Kernel:
    """Returns ``kernel(params, grads, buffers, coefficients)`` which steps ``(K, n)`` rows in place.

    ``buffers`` are ``(K, n)`` in the order of ``rule.buffers``, and last the average where ``names`` end in its weight;
    ``coefficients`` is ``(K, c)`` with the columns ``names``. Compiled, it reads and writes each number once; it is
    then for one row, or for any number of rows from two on that are marked as dynamic, whichever it meets first.
    ``decayed`` ``(n,)`` is 1 where weight decay is applied and 0 elsewhere; ``setting_of`` ``(n,)`` is the number of
    each parameter's setting, for which a column may stand, see
    :func:`~thalweg.compare.execution.kernel_layout.column_of`; ``places`` are those of the matrices, for rules that
    take them as such.
    """
    if isinstance(rule, Partnered):
        assert places is not None
        return MatrixKernel(rule, names, decayed, places, compile_, setting_of)
    slots, by_name = tuple(rule.buffers), spread(columns_of(names), decayed, setting_of, compile_)

    def kernel(params: Tensor, grads: Tensor, buffers: Sequence[Tensor], coefficients: Tensor) -> None:
        c = by_name(coefficients)
        if "decay" in c:
            c["decay"] = c["decay"] * decayed if rule.decay == "l2" else 1 + (c["decay"] - 1) * decayed
        new, state = apply(rule, params, grads, dict(zip(slots, buffers, strict=False)), c)
        params.copy_(new)
        for slot, buffer in zip(slots, buffers, strict=False):
            buffer.copy_(state[slot])
        if AVERAGE in c:
            buffers[-1].copy_(averaged(buffers[-1], new, c[AVERAGE]))

    return compiled(kernel, decayed.device, unguarded=True) if compile_ else kernel


def clipping(grads: Tensor, norm: float) -> Tensor:
    """Returns the factors ``(lanes, 1)`` by which gradients ``(lanes, n)`` are clipped, as torch clips them.

    >>> clipping(torch.tensor([[3.0, 4.0], [0.3, 0.4]]), 1.0)
    tensor([[0.2000],
            [1.0000]])
    """
    return (norm / (torch.linalg.vector_norm(grads, dim=1, keepdim=True) + 1e-6)).clamp_max(1.0)
