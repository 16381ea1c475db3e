"""What some rules sum over the whole model before any parameter moves, and the numbers that follow from it.

The numbers are in every parameter group, the same in all, so that a state dict holds them, and whichever parameters
have a gradient is stepped by them. Nothing waits for the device.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from thalweg.optim.decay import decayed
from thalweg.optim.entries import Entry, Group
from thalweg.optim.implementations import fitted, here, reduced_whole, taken, working_dtype
from thalweg.rules.rule import Rule, State, scalars_of_step
from thalweg.tensors.vector import real

# A group with its rule, the entries that are stepped, hyperparameters, and scalars of clipping and the like.
Live = tuple[Group, Rule, list[Entry], dict[str, Any], dict[str, Any]]


class _Part(NamedTuple):
    """A parameter as its rule's rounds take it."""

    rule: Rule
    whole: Tensor
    params: Tensor
    grad: Tensor
    state: State
    c: dict[str, Any]


def totals(live: Sequence[Live]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Returns the sums over all parameters that the groups' rules ask for beside their numbers, and the new numbers.

    Both are empty for most rules.
    """
    asking = [(group, rule) for group, rule, *_ in live if any(one.over == "all" for one in rule.rounds)]
    device = next((entry.p.device for _, _, entries, *_ in live for entry in entries), None)
    if not asking or device is None:
        return {}, {}
    first, rule = asking[0]
    for group, _ in asking:
        for name, initial in rule.numbers.items():
            held = torch.as_tensor(group.get(name, first.get(name, initial)), dtype=_wide(device), device=device)
            group[name] = held if held is group.get(name) else held.clone()
    found = {name: first[name] for name in rule.numbers}
    with torch.set_grad_enabled(first["differentiable"]):
        parts = [
            _part(group, one, entry, hyper, extra | found)
            for group, one, entries, hyper, extra in live
            for entry in entries
        ]
        for i in range(max(len(part.rule.rounds) for part in parts)):
            found |= _round(i, parts, device)
        return found, rule.settle({**parts[0].c, **found})


def settle(groups: Sequence[Group], new: Mapping[str, Tensor], ok: Tensor | None) -> None:
    """Writes the new numbers into all groups that have them; where the step was skipped, they stay."""
    for group in groups:
        for name, value in new.items():
            if name not in group:
                continue
            if ok is not None:
                value = value.where(ok.to(value.device) > 0, group[name].to(value))
            if group["differentiable"]:
                group[name] = value
            else:
                group[name].copy_(value)


def _part(group: Group, rule: Rule, entry: Entry, hyper: Mapping[str, Any], extra: Mapping[str, Any]) -> _Part:
    p, state = entry.p, entry.state
    given = hyper if decayed(group, p) else {**hyper, "weight_decay": 0}
    t = state["step"].to(torch.float64) + 1 if group["capturable"] else float(state["step"]) + 1
    c, _ = scalars_of_step(rule, given, t, {name: state[name] for name in rule.scalar_state})
    c = fitted({**c, **extra}, p)
    shard, work = here(entry, rule), working_dtype(p)
    buffers = {name: real(shard.state[name]) for name in rule.buffers}
    grad = taken(real(shard.grad).to(work), c, group["maximize"])
    return _Part(rule, p, real(shard.p).to(work), grad, buffers, c)


def _round(i: int, parts: Sequence[_Part], device: torch.device) -> dict[str, Tensor]:
    """Returns the sums over all parts of round i, which each part is given too, or those of its own tensor."""
    found: dict[str, Tensor] = {}
    for part in parts:
        if i >= len(part.rule.rounds):
            continue
        one = part.rule.rounds[i]
        measured = one.measure(part.params, part.grad, part.state, part.c)
        for name in one.names:
            value = reduced_whole(part.whole, measured[name], one)
            if one.over == "all":
                found[name] = found.get(name, 0.0) + value.to(device, _wide(device))
            else:
                part.c[name] = value
    for part in parts:
        part.c.update(fitted(found, part.whole))
    return found


def _wide(device: torch.device) -> torch.dtype:
    return torch.float32 if device.type == "mps" else torch.float64
