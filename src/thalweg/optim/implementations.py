"""How a bucket of parameters is stepped by a rule: list by list through foreach, or compiled, a pass over memory."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from typing import Any, Literal

import torch
from torch import Tensor

from thalweg.averaging import averaged
from thalweg.optim.entries import HALF, Entry, Group, is_flat, tensors_of
from thalweg.rules.rule import Array, Reduce, Round, Rule, State, apply, reduced, scalars_of_step
from thalweg.tensors.compiling import compiled, compiler_missing
from thalweg.tensors.private import foreach_lerp_, sizes_apart
from thalweg.tensors.tensor_list import TensorList
from thalweg.tensors.vector import local, over_ranks, real

Engine = Literal["auto", "foreach", "compiled", "triton"]

COMPILE_FROM = 4_000_000  # elements in a group from which "auto" compiles
SMALL = 16_384  # elements below which a tensor of a compiled group goes with the others through foreach
BLOCK = (32_768, 65_536)  # elements that foreach steps at once on a CPU, at least and at most
BUNDLES = (8, 2, 1)  # how many tensors one call steps, since each call takes its time to begin


def update(entries: list[Entry], rule: Rule, c: Mapping[str, Any], group: Group) -> None:
    """Steps parameters of one device, type and step count; of distributed ones, whose rules are elementwise, shards."""
    lazy = [e.p for e in entries if not e.flat and (e.p.is_conj() or e.p.is_neg())]
    if lazy:
        own = {id(p): p.detach().resolve_conj().resolve_neg() for p in lazy}
        entries = [e._replace(p=own.get(id(e.p), e.p)) for e in entries]
    entries = [here(e, rule) for e in entries]
    large: dict[tuple[Any, ...], list[Entry]] = {}
    rest = []
    compiles = _wants_compiled(group, entries) and not (rule.rounds and any(e.whole is not None for e in entries))
    for entry in entries:
        if compiles and entry.flat and entry.p.numel() >= SMALL:
            large.setdefault(_dtypes(entry, rule), []).append(entry)
        else:
            rest.append(entry)
    for members in large.values():
        _update_compiled(members, rule, c, group["maximize"])
    for members in _blocks(rest, rule) if rest else ():
        _update_foreach(members, rule, c, group["maximize"])
    for p in lazy:
        p.copy_(own[id(p)])


def here(entry: Entry, rule: Rule) -> Entry:
    """Returns the entry with the shards that are here."""
    p, grad, state, mean, *_ = entry
    if not hasattr(p, "to_local"):
        return entry
    whole, shards = p, {name: local(value) for name, value in state.items()}
    entry = Entry(local(p), local(grad, like=p), shards, None if mean is None else local(mean))
    return entry._replace(flat=is_flat(tensors_of(entry, rule)), whole=whole)


def taken(grad: Array, c: Mapping[str, Any], maximize: bool) -> Array:
    """Returns the gradient as the rule takes it: clipped by ``c["clip"]``, and turned where the step ascends."""
    if "clip" in c:
        grad = grad * c["clip"]
    return -grad if maximize else grad


def advance(
    rule: Rule,
    param: Array,
    grad: Array,
    state: State,
    c: Mapping[str, Any],
    maximize: bool,
    reduce: Reduce = reduced,
) -> tuple[Array, State]:
    """Returns parameters and state after one step; as they were if not ok."""
    new, after = apply(rule, param, taken(grad, c, maximize), state, c, reduce)
    if "ok" in c:
        ok = c["ok"] > 0
        new, after = new.where(ok, param), {name: value.where(ok, state[name]) for name, value in after.items()}
    return new, after


def _update_compiled(entries: list[Entry], rule: Rule, c: Mapping[str, Any], maximize: bool) -> None:
    p = entries[0].p
    if any(isinstance(v, Tensor) for v in c.values()):
        on = next((v.device for v in c.values() if isinstance(v, Tensor) and v.device.type != "cpu"), None)
        coefficients = torch.stack([torch.as_tensor(v, dtype=torch.float64, device=on) for v in c.values()])
    else:
        coefficients = torch.tensor(list(c.values()), dtype=torch.float64)
    coefficients = coefficients.to(p.device, working_dtype(p))
    # Each length is a number of its own to the compiler, equal or not: one kernel serves every model.
    dtypes = _dtypes(entries[0], rule)
    with sizes_apart():
        for bundle in _bundles(entries):
            kernel = _kernel(rule, tuple(c), maximize, p.device, len(bundle), dtypes)
            params, grads = [flat(e.p.detach()) for e in bundle], [flat(e.grad) for e in bundle]
            means = [flat(e.mean) for e in bundle if e.mean is not None]
            buffers = [[flat(e.state[name]) for e in bundle] for name in rule.buffers]
            kernel(params, grads, buffers, means, coefficients)


def _update_foreach(entries: list[Entry], rule: Rule, c: Mapping[str, Any], maximize: bool) -> None:
    p = entries[0].p
    c = fitted(c, p)
    work = working_dtype(p)
    target = TensorList([real(e.p) for e in entries])
    grads = TensorList([real(e.grad) for e in entries]).to(work)
    state = {name: TensorList([real(e.state[name]) for e in entries]) for name in rule.buffers}
    wholes = [e.p if e.whole is None else e.whole for e in entries]
    new, after = advance(rule, target.to(work), grads, state, c, maximize, partial(reduced_each, wholes))
    target.copy_(new)
    for name, buffer in state.items():
        buffer.copy_(after[name])
    pairs = [(real(e.mean), point) for e, point in zip(entries, new.tensors, strict=True) if e.mean is not None]
    if pairs:
        foreach_lerp_([mean for mean, _ in pairs], [point for _, point in pairs], c["average"])


def reduced_each(wholes: Sequence[Tensor], x: TensorList, one: Round) -> TensorList:
    """Returns the sum or mean of each tensor, see :func:`reduced_whole`."""
    return TensorList([reduced_whole(whole, t, one) for t, whole in zip(x.tensors, wholes, strict=True)])


def reduced_whole(whole: Tensor, x: Tensor, one: Round) -> Tensor:
    """Returns a tensor's sum or mean, over all ranks where it is the shard of a distributed parameter."""
    if not hasattr(whole, "to_local"):
        return reduced(x, one)
    total = over_ranks(x.sum(), whole)
    return total / (whole.numel() * (1 + whole.is_complex())) if one.mean else total


def update_traced(entry: Entry, rule: Rule, hyper: Mapping[str, Any], extra: Mapping[str, Any], maximize: bool) -> None:
    """Steps one parameter with the step count as a tensor, for a graph that captures the whole step."""
    p, given, state, mean, *_ = entry
    before = state["step"].clone()
    state["step"] += extra["ok"].to(before) if "ok" in extra else 1
    wide = {name: value.to(torch.float64) for name, value in state.items() if name in rule.scalar_state}
    c, scalars = scalars_of_step(rule, hyper, before.to(torch.float64) + 1, wide)  # 1 − β₂ᵗ is small at first
    target = real(p.detach())
    grad = real(given).to(working_dtype(p))
    buffers = {name: real(state[name]) for name in rule.buffers}
    new, after = advance(rule, target.to(grad.dtype), grad, buffers, fitted({**c, **extra}, p), maximize)
    target.copy_(new)
    for name, buffer in buffers.items():
        buffer.copy_(after[name])
    for name, value in scalars.items():
        value = torch.as_tensor(value).to(state[name])
        state[name].copy_(value.where(extra["ok"].to(value.device) > 0, state[name]) if "ok" in extra else value)
    if mean is not None:
        real(mean).copy_(averaged(real(mean), new, extra["average"]))


def update_differentiable(
    entry: Entry, rule: Rule, hyper: Mapping[str, Any], extra: Mapping[str, Any], maximize: bool
) -> None:
    """Steps one parameter so that gradients flow through the step.

    They flow to the parameter as it was, its gradient, its state, and hyperparameters that are tensors. The state is
    replaced, for what a backward pass will read must not be written over.
    """
    p, grad, state, *_ = entry
    with torch.enable_grad():
        carried = {name: state[name] for name in rule.scalar_state}
        c, scalars = scalars_of_step(rule, hyper, float(state["step"]) + 1, carried)
        work = working_dtype(p)
        buffers = {name: real(state[name]) for name in rule.buffers}
        given = real(grad).to(work, copy=True)  # which a rule may keep, and the user write over
        c = fitted({**c, **extra}, p)
        new, after = advance(rule, real(p.clone()).to(work), given, buffers, c, maximize)
        p.copy_(torch.view_as_complex(new) if p.is_complex() else new)
        for name, value in {**after, **scalars}.items():
            is_pairs = name in after and p.is_complex()
            state[name] = torch.view_as_complex(value) if is_pairs else torch.as_tensor(value)
    state["step"] += 1


def working_dtype(p: Tensor) -> torch.dtype:
    """Returns the type in which the parameter's step is worked out, in real numbers."""
    return torch.float32 if p.dtype in HALF else real(p).dtype


def fitted(c: Mapping[str, Any], p: Tensor) -> dict[str, Any]:
    """Returns coefficients of which those that are tensors lie where the parameter does, in the type of its arithmetic.

    In float64 they would bring a parameter without dimensions, and all that is worked out from it, into float64.
    """
    work = working_dtype(p)
    return {name: v.to(p.device, work) if isinstance(v, Tensor) else v for name, v in c.items()}


def flat(tensor: Tensor) -> Tensor:
    """Returns a dense tensor's memory as a vector; complex numbers as pairs."""
    tensor = real(tensor)
    return tensor.view(-1) if tensor.is_contiguous() else tensor.as_strided((tensor.numel(),), (1,))


def _blocks(entries: list[Entry], rule: Rule) -> Iterator[list[Entry]]:
    """Yields the entries in portions, on a CPU cut so small that what is worked out in between stays in its cache.

    The memory of a portion's intermediate values is some six times its own. From twice the largest tensor on it would
    be handed back to the system at every step, and fetched anew.
    """
    if entries[0].p.device.type != "cpu":
        yield entries
        return
    block = min(max(max(e.p.numel() for e in entries) // 3, BLOCK[0]), BLOCK[1])
    portion, cuts = list[Entry](), not rule.rounds  # whose sums are over whole tensors
    size = 0
    for entry in entries:
        for piece in _cut(entry, rule, block) if cuts and entry.flat and entry.p.numel() > block else [entry]:
            portion.append(piece)
            size += piece.p.numel()
            if size >= block:
                yield portion
                portion, size = [], 0
    if portion:
        yield portion


def _cut(entry: Entry, rule: Rule, size: int) -> Iterator[Entry]:
    """Yields the entry's memory in pieces of so many elements."""
    p, grad, state, mean, *_ = entry
    slots = [flat(state[name]).split(size) for name in rule.buffers]
    means = flat(mean).split(size) if mean is not None else None
    for i, (part, its) in enumerate(zip(flat(p.detach()).split(size), flat(grad).split(size), strict=True)):
        buffers = {name: slot[i] for name, slot in zip(rule.buffers, slots, strict=True)}
        yield Entry(part, its, buffers, means[i] if means else None)


def _bundles(entries: list[Entry]) -> Iterator[list[Entry]]:
    """Yields the parameters that one call of a kernel steps: eight, two, or one."""
    start = 0
    for size in BUNDLES:
        while len(entries) - start >= size:
            yield entries[start : start + size]
            start += size


def _dtypes(entry: Entry, rule: Rule) -> tuple[torch.dtype | None, ...]:
    """Returns the types of parameter, gradient, mean and state."""
    mean = None if entry.mean is None else entry.mean.dtype
    return entry.p.dtype, entry.grad.dtype, mean, *(entry.state[name].dtype for name in rule.buffers)


def _wants_compiled(group: Group, entries: list[Entry]) -> bool:
    engine = group["engine"]
    if engine == "auto":
        engine = "compiled" if sum(e.p.numel() for e in entries) >= COMPILE_FROM else "foreach"
    return engine == "compiled" and not (entries[0].p.device.type == "cpu" and compiler_missing())


@cache
def _kernel(
    rule: Rule,
    names: tuple[str, ...],
    maximize: bool,
    device: torch.device,
    count: int,
    dtypes: tuple[torch.dtype | None, ...],
) -> Callable[..., None]:
    """Returns the compiled step of ``count`` vectors in place; one for all optimizers of that form, for any lengths.

    ``buffers`` holds, for each slot of the rule, one vector a parameter; ``means`` one a parameter, or nothing;
    ``dtypes`` are those of parameter, gradient, mean and state.
    """
    slots = tuple(rule.buffers)

    def kernel(
        params: list[Tensor],
        grads: list[Tensor],
        buffers: list[list[Tensor]],
        means: list[Tensor],
        coefficients: Tensor,
    ) -> None:
        work = coefficients.dtype
        c = {name: coefficients[i] for i, name in enumerate(names)}
        for i, (param, given) in enumerate(zip(params, grads, strict=True)):
            state = {slot: buffers[j][i] for j, slot in enumerate(slots)}
            new, after = advance(rule, param.to(work), given.to(work), state, c, maximize)
            param.copy_(new)
            for slot, buffer in state.items():
                buffer.copy_(after[slot])
            if means:
                mean = means[i]
                mean.copy_(averaged(mean, new, c["average"]))

    return compiled(kernel, device, unguarded=True, dynamic=True)
