"""Steps of a rule for matrices, of those of one shape as one stack."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from thalweg.optim.entries import Entry, Group
from thalweg.optim.implementations import advance, working_dtype
from thalweg.rules.matrix_rule import REFRESH, MatrixRule, as_matrix_shape
from thalweg.rules.rule import scalars_of_step

STACKED = 262_144  # elements that are stacked at once; of larger matrices each is stepped by itself


def step_matrices(
    group: Group, rule: MatrixRule, entries: list[Entry], hyper: Mapping[str, Any], extra: Mapping[str, Any]
) -> None:
    """Steps the entries of a group.

    Where the gradient may not be finite and the host does not know, it waits to know.

    Arguments:
        hyper: the rule's hyperparameters.
        extra: scalars of clipping, skipping and averaging.
    """
    traced = (torch.compiler.is_compiling() or group["capturable"]) and not rule.factor_names
    if "ok" in extra:
        if not traced and not bool(extra["ok"]):
            return
        extra = {name: value for name, value in extra.items() if name != "ok" or traced}
    if traced:
        for entry in entries:
            before = entry.state["step"].clone()
            entry.state["step"] += extra["ok"].to(before) if "ok" in extra else 1
            _step([entry], rule, before + 1, hyper, extra, group["maximize"])
        return
    buckets: dict[tuple[Any, ...], list[Entry]] = {}
    for entry in entries:
        key = (entry.p.device, entry.p.dtype, as_matrix_shape(entry.p.shape), float(entry.state["step"]))
        buckets.setdefault(key, []).append(entry)
    for (*_, t), members in buckets.items():
        for entry in members:
            entry.state["step"] += 1
        for portion in _portions(members):
            _step(portion, rule, t + 1, hyper, extra, group["maximize"])


def _portions(entries: list[Entry]) -> Iterator[list[Entry]]:
    """Yields entries of matrices of one shape in as many as are stacked at once; empty ones have nothing to step."""
    size = entries[0].p.numel()
    count = max(1, STACKED // max(1, size))
    for start in range(0, len(entries) if size else 0, count):
        yield entries[start : start + count]


def _step(
    entries: list[Entry], rule: MatrixRule, t: Any, hyper: Mapping[str, Any], extra: Mapping[str, Any], maximize: bool
) -> None:
    c, _ = scalars_of_step(rule, hyper, t, {})
    first = entries[0].p
    work = working_dtype(first)
    c = {n: v.to(first.device, work) if isinstance(v, Tensor) else v for n, v in {**c, **extra}.items()}
    names = [*rule.buffers, *(n for n in rule.factor_names if n in entries[0].state)]
    state = {name: _stack([_matrix(e.state[name]) for e in entries]) for name in names}
    grads = _stack([_matrix(e.grad) for e in entries]).to(work)
    if rule.factor_names:
        signed = -grads if maximize else grads
        state = rule.gather(signed * c["clip"] if "clip" in c else signed, state, c)
        if which := c.pop(REFRESH, 0):
            state = rule.refresh(int(which), state, c)
    params = _stack([_matrix(e.p.detach()) for e in entries]).to(work)
    new, after = advance(rule, params, grads, state, c, maximize)
    for i, entry in enumerate(entries):
        entry.p.copy_(new[i].view(entry.p.shape))
        for name in names:
            held = entry.state[name]
            held.copy_(after[name][i].view(held.shape))
        if entry.mean is not None:
            entry.mean.lerp_(new[i].view(entry.p.shape), c["average"])


def _matrix(tensor: Tensor) -> Tensor:
    """Returns a tensor of more than two dimensions as a matrix."""
    return tensor if tensor.dim() == 2 else tensor.reshape(tensor.shape[0], -1)


def _stack(matrices: list[Tensor]) -> Tensor:
    return matrices[0][None] if len(matrices) == 1 else torch.stack(matrices)
