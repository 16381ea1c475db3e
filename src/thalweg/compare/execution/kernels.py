"""The update kernel that every engine runs: one rule over rows of flat parameters, in place."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from thalweg.averaging import averaged
from thalweg.rules.rule import Reduce, Round, Rule, apply, begun, spared
from thalweg.tensors import Layout
from thalweg.tensors.compiling import compiled

AVERAGE = "average"  # name of the slot, and of the column of its weights
Kernel = Callable[[Tensor, Tensor, Sequence[Tensor], Tensor], None]
OF = "@"


def column_of(name: str, number: int) -> str:
    """Returns the name of the column of a coefficient that parameters of a setting have.

    >>> column_of("minus_lr", 0), column_of("minus_lr", 2)
    ('minus_lr', 'minus_lr@2')
    """
    return name if number == 0 else f"{name}{OF}{number}"


class Slot(NamedTuple):
    """A part of a trial's state: as long as its parameters, or one number; None begins as the parameters are."""

    initial: float | None
    is_number: bool = False

    def begun(self, params: Tensor) -> Tensor:
        """Returns it at the start of trials with these parameters ``(..., n)``."""
        return begun(self.initial, params[..., :1] if self.is_number else params)


def slots_of(rule: Rule, averages: bool) -> dict[str, Slot]:
    """Returns the slots of a rule's state, and last that of the average where there is one."""
    numbers = {name: Slot(initial, True) for name, initial in rule.numbers.items()}
    average = {AVERAGE: Slot(None)} if averages else {}
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
) -> Kernel:
    """Returns ``kernel(params, grads, buffers, coefficients)`` which steps ``(K, n)`` rows in place.

    ``buffers`` are those of :func:`slots_of`, the average last where ``names`` end in its weight;
    ``coefficients`` is ``(K, c)`` with the columns ``names``. Compiled, it reads and writes each number once; it is
    then for one row, or for any number of rows from two on that are marked as dynamic, whichever it meets first.
    ``decayed`` ``(n,)`` is 1 where weight decay is applied and 0 elsewhere; ``layout`` says where each tensor lies;
    ``setting_of`` ``(n,)`` is the number of each parameter's setting, for which a column may stand, see
    :func:`column_of`.
    """
    slots, reduce = tuple(slots_of(rule, False)), rows_reduced(layout, decayed.device)
    spread = _spread(names, decayed, setting_of, compile_)

    def kernel(params: Tensor, grads: Tensor, buffers: Sequence[Tensor], coefficients: Tensor) -> None:
        c = spread(coefficients)
        if "decay" in c:
            c["decay"] = spared(rule, c["decay"], decayed)
        new, state = apply(rule, params, grads, dict(zip(slots, buffers, strict=False)), c, reduce)
        params.copy_(new)
        for slot, buffer in zip(slots, buffers, strict=False):
            buffer.copy_(state[slot])
        if AVERAGE in c:
            buffers[-1].copy_(averaged(buffers[-1], new, c[AVERAGE]))

    return compiled(kernel, decayed.device, unguarded=True) if compile_ else kernel


def _spread(
    names: Sequence[str], like: Tensor, setting_of: Tensor | None, compile_: bool
) -> Callable[[Tensor], dict[str, Tensor]]:
    """Returns what makes of coefficients ``(K, c)`` those of each parameter by name, ``(K, 1)`` or ``(K, n)``."""
    places: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        places.setdefault(name.partition(OF)[0], []).append(place)
    several = max(map(len, places.values()))
    if several == 1:
        return lambda coefficients: dict(zip(names, coefficients[:, :, None].unbind(1), strict=True))
    assert setting_of is not None
    masks = [(setting_of == number).to(like.dtype) for number in range(several)]

    def one(coefficients: Tensor, own: list[int]) -> Tensor:
        if len(own) == 1:
            return coefficients[:, own[0], None]
        if not compile_:
            return coefficients[:, own].index_select(1, setting_of)
        # compiled, a gathering is three times slower; what is added to a number here is 0
        return sum(coefficients[:, place, None] * mask for place, mask in zip(own, masks, strict=True))  # type: ignore

    return lambda coefficients: {name: one(coefficients, own) for name, own in places.items()}


def clipping(grads: Tensor, norm: float) -> Tensor:
    """Returns the factors ``(lanes, 1)`` by which gradients ``(lanes, n)`` are clipped, as torch clips them.

    >>> clipping(torch.tensor([[3.0, 4.0], [0.3, 0.4]]), 1.0)
    tensor([[0.2000],
            [1.0000]])
    """
    return (norm / (torch.linalg.vector_norm(grads, dim=1, keepdim=True) + 1e-6)).clamp_max(1.0)
