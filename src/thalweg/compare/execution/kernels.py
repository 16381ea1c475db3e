"""The update kernel that every engine runs: one rule over rows of flat parameters, in place."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from thalweg.averaging import averaged
from thalweg.compare.execution.kernel_layout import AVERAGE, Slot, columns_of, spread
from thalweg.compare.execution.matrix_kernel import MatrixKernel, partnered_slots
from thalweg.rules import Partnered
from thalweg.rules.rule import Reduce, Round, Rule, apply, spared
from thalweg.tensors import Layout
from thalweg.tensors.compiling import compiled
from thalweg.tensors.places import Places

Kernel = Callable[[Tensor, Tensor, Sequence[Tensor], Tensor], None]


def slots_of(rule: Rule, averages: bool, places: Places | None = None) -> dict[str, Slot]:
    """Returns the slots of a rule's state, and last that of the average where there is one.

    ``places`` are those of the matrices, for rules that take them as such.
    """
    average = {AVERAGE: Slot(None)} if averages else {}
    if isinstance(rule, Partnered):
        assert places is not None
        return {**partnered_slots(rule, places), **average}
    numbers = {name: Slot(initial, 1) for name, initial in rule.numbers.items()}
    return {**{name: Slot(initial) for name, initial in rule.buffers.items()}, **numbers, **average}


def shown_slot(rule: Rule, averages: bool) -> str | None:
    """Returns the slot with the parameters that are judged; None where they are those that are trained."""
    return AVERAGE if averages else rule.shown


def rows_reduced(layout: Layout, device: torch.device) -> Reduce:
    """Returns what sums rows ``(K, n)`` over each parameter tensor, or over all ``(K, 1)``."""
    sizes = torch.tensor(layout.sizes, device=device)
    owner = torch.repeat_interleave(torch.arange(len(sizes), device=device), sizes)

    def reduce(x: Tensor, one: Round) -> Tensor:
        if one.over == "all":
            return x.mean(1, keepdim=True) if one.mean else x.sum(1, keepdim=True)
        sums = torch.stack([part.sum(1) for part in x.split(layout.sizes, dim=1)], dim=1)
        return (sums / sizes if one.mean else sums)[:, owner]

    return reduce


def update_kernel(
    rule: Rule,
    names: Sequence[str],
    decayed: Tensor,
    layout: Layout,
    compile_: bool = True,
    setting_of: Tensor | None = None,
    places: Places | None = None,
) -> Kernel:
    """Returns ``kernel(params, grads, buffers, coefficients)`` which steps ``(K, n)`` rows in place.

    ``buffers`` are those of :func:`slots_of`, the average last where ``names`` end in its weight;
    ``coefficients`` is ``(K, c)`` with the columns ``names``. Compiled, it reads and writes each number once; it is
    then for one row, or for any number of rows from two on that are marked as dynamic, whichever it meets first.
    ``decayed`` ``(n,)`` is 1 where weight decay is applied and 0 elsewhere; ``layout`` says where each tensor lies;
    ``setting_of`` ``(n,)`` is the number of each parameter's setting, for which a column may stand, see
    :func:`~thalweg.compare.execution.kernel_layout.column_of`; ``places`` are those of the matrices, for rules that
    take them as such.
    """
    if isinstance(rule, Partnered):
        assert places is not None
        return MatrixKernel(rule, names, decayed, places, compile_, setting_of)
    slots, reduce = tuple(slots_of(rule, False)), rows_reduced(layout, decayed.device)
    by_name = spread(columns_of(names), decayed, setting_of, compile_)

    def kernel(params: Tensor, grads: Tensor, buffers: Sequence[Tensor], coefficients: Tensor) -> None:
        c = by_name(coefficients)
        if "decay" in c:
            c["decay"] = spared(rule, c["decay"], decayed)
        new, state = apply(rule, params, grads, dict(zip(slots, buffers, strict=False)), c, reduce)
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
