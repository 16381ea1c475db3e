"""The torch.optim face of an update rule: groups, state, engines; the method itself is the rule's."""

import math
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from typing import Any, Literal, NamedTuple, TypedDict, overload

import torch
from torch import Tensor
from torch.fx.experimental import _config
from torch.optim import Optimizer

from thalweg.rules.rule import Rule, apply, scalars_of_step
from thalweg.tensors.compiling import compiled, compiler_missing
from thalweg.tensors.many import Many

Engine = Literal["auto", "foreach", "compiled"]
Params = Iterable[Tensor] | Iterable[dict[str, Any]] | Iterable[tuple[str, Tensor]]
Group = dict[str, Any]

COMPILE_FROM = 4_000_000  # elements in a group from which "auto" compiles
SMALL = 16_384  # elements below which a tensor of a compiled group goes with the others through foreach
# Key of a group -> (torch's words for it, largest value); none may be negative.
_RANGES = {
    "lr": ("learning rate", math.inf),
    "eps": ("epsilon value", math.inf),
    "weight_decay": ("weight_decay value", math.inf),
    "momentum": ("momentum value", math.inf),
    "alpha": ("alpha value", math.inf),
    "rho": ("rho value", 1.0),
    "lr_decay": ("lr_decay value", math.inf),
    "initial_accumulator_value": ("initial_accumulator_value value", math.inf),
    "momentum_decay": ("momentum_decay value", math.inf),
}
BUNDLES = (8, 2, 1)  # how many tensors one call steps: a call takes some 30 µs to begin
HALF = (torch.float16, torch.bfloat16)


class Switches(TypedDict, total=False):
    """torch's switches between its implementations: ``fused`` and ``foreach`` are wishes for an engine here."""

    foreach: bool | None
    fused: bool | None
    capturable: bool
    differentiable: bool


class RuleOptimizer(Optimizer):
    """Base of the optimizers: a subclass names its rule and hyperparameters, all else is here.

    Every group has, beside the method's own, ``maximize`` (ascend) and ``engine``: ``"foreach"`` (a kernel an
    operation over lists of tensors), ``"compiled"`` (one pass over the memory of each large tensor through
    torch.compile; foreach with one warning where there is no compiler) or ``"auto"`` (compiled from four million
    elements on). torch's ``fused=True`` asks for the compiled engine and ``foreach=True`` for the other one.
    State of float16 and bfloat16 parameters is float32. Sparse gradients are refused.
    """

    def __init__(self, params: Params, defaults: Group, engine: Engine, maximize: bool, switches: Switches) -> None:
        engine = _engine_of(engine, switches)
        if isinstance(defaults["lr"], Tensor) and defaults["lr"].numel() != 1:
            raise ValueError("Tensor lr must be 1-element")
        super().__init__(params, {**defaults, "maximize": maximize, "engine": engine})

    @abstractmethod
    def rule_of(self, group: Group) -> Rule:
        """Returns the form of the rule that the group's settings ask for."""

    @abstractmethod
    def hyper_of(self, group: Group) -> dict[str, Any]:
        """Returns the rule's hyperparameters, read from the group."""

    def add_param_group(self, param_group: Group) -> None:
        """Adds a group of parameters. Raises ValueError for a hyperparameter out of its range."""
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        try:
            for key, (words, most) in _RANGES.items():
                if key in group and not 0 <= group[key] <= most:
                    raise ValueError(f"Invalid {words}: {group[key]}")
            betas = group.get("betas", ())
            if len({isinstance(beta, Tensor) for beta in betas}) > 1:
                raise ValueError("betas must be either both floats or both Tensors")
            for i, beta in enumerate(betas):
                if not 0.0 <= beta < 1.0:
                    raise ValueError(f"Invalid beta parameter at index {i}: {beta}")
        except ValueError:
            self.param_groups.pop()
            raise

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Takes one step; with a closure, evaluates it first and returns its loss."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            entries = [_Entry(p, p.grad, self.state[p]) for p in group["params"] if p.grad is not None]
            if any(e.grad.is_sparse for e in entries):
                name = type(self).__name__
                raise RuntimeError(f"{name} does not support sparse gradients: use torch.optim.SparseAdam")
            if entries:
                self._step_group(group, entries)
        return loss

    def _step_group(self, group: Group, entries: "list[_Entry]") -> None:
        rule, hyper = self.rule_of(group), self.hyper_of(group)
        if isinstance(hyper["lr"], Tensor):
            hyper["lr"] = hyper["lr"].reshape(())
        for entry in entries:
            _prepare(entry, rule)
        if torch.compiler.is_compiling():
            for entry in entries:
                _step_traced(entry, rule, hyper, group["maximize"])
            return
        buckets: dict[tuple[Any, ...], list[_Entry]] = {}
        for entry in entries:
            p, _, state = entry
            scalars = [float(state[name]) for name in rule.scalar_state]
            buckets.setdefault((p.device, p.dtype, float(state["step"]), *scalars), []).append(entry)
        for (_, _, t, *carried), members in buckets.items():
            c, new = scalars_of_step(rule, hyper, t + 1, dict(zip(rule.scalar_state, carried, strict=True)))
            torch._foreach_add_([e.state["step"] for e in members], 1)
            for name, value in new.items():
                for entry in members:
                    entry.state[name].fill_(value)
            _update(members, rule, c, group)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Loads a state, this library's or torch's; float32 state of half-precision parameters stays float32."""
        super().load_state_dict(state_dict)
        given = [i for group in state_dict["param_groups"] for i in group["params"]]
        mine = [p for group in self.param_groups for p in group["params"]]
        for index, p in zip(given, mine, strict=True):
            rule = next(self.rule_of(g) for g in self.param_groups if any(q is p for q in g["params"]))
            for name, value in state_dict["state"].get(index, {}).items():
                if not isinstance(value, Tensor):
                    continue
                if name in rule.scalar_state:
                    self.state[p][name] = value.to("cpu", _scalar_dtype(), copy=True)
                elif name in rule.buffers and p.dtype in HALF:
                    self.state[p][name] = value.to(p.device, torch.float32, copy=True)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for group in self.param_groups:
            for key, value in self.defaults.items():
                group.setdefault(key, value)
        for entries in self.state.values():
            if "step" in entries and not isinstance(entries["step"], Tensor):
                entries["step"] = torch.tensor(float(entries["step"]), dtype=_scalar_dtype())


class _Entry(NamedTuple):
    """A parameter that has a gradient, with its state."""

    p: Tensor
    grad: Tensor
    state: dict[str, Any]


def _prepare(entry: _Entry, rule: Rule) -> None:
    """Allocates what the parameter's state lacks."""
    p, _, state = entry
    if "step" not in state:
        # A state of torch's SGD counts no steps: what matters is whether there was one.
        state["step"] = torch.tensor(float(any(name in state for name in rule.buffers)), dtype=_scalar_dtype())
    for name, initial in rule.scalar_state.items():
        if name not in state:
            state[name] = torch.tensor(initial, dtype=_scalar_dtype())
    for name, initial in rule.buffers.items():
        if state.get(name) is None:
            dtype = torch.float32 if p.dtype in HALF else p.dtype
            value = complex(initial, initial) if p.is_complex() else initial
            state[name] = torch.full_like(p, value, dtype=dtype, memory_format=torch.preserve_format)


def _update(entries: list[_Entry], rule: Rule, c: Mapping[str, Any], group: Group) -> None:
    """Steps parameters of one device, type and step count."""
    large: list[_Entry] = []
    rest = entries
    if _wants_compiled(group, entries):
        same = _dtypes(entries[0], rule)
        large = [e for e in entries if e.p.numel() >= SMALL and _is_flat(e, rule) and _dtypes(e, rule) == same]
        chosen = {id(e.p) for e in large}
        rest = [e for e in entries if id(e.p) not in chosen]
    if large:
        _update_compiled(large, rule, c, group["maximize"])
    if rest:
        _update_foreach(rest, rule, c, group["maximize"])


def _update_compiled(entries: list[_Entry], rule: Rule, c: Mapping[str, Any], maximize: bool) -> None:
    p = entries[0].p
    if any(isinstance(v, Tensor) for v in c.values()):
        coefficients = torch.stack([torch.as_tensor(v, dtype=torch.float64) for v in c.values()])
    else:
        coefficients = torch.tensor(list(c.values()), dtype=torch.float64)
    coefficients = coefficients.to(p.device, _working_dtype(_flat(p)))
    # Each length is a number of its own to the compiler, equal or not: one kernel serves every model.
    with _config.patch(use_duck_shape=False):  # type: ignore[attr-defined]
        for bundle in _bundles(entries):
            kernel = _kernel(rule, tuple(c), maximize, p.device.type, len(bundle), _dtypes(entries[0], rule))
            params, grads = [_flat(e.p.detach()) for e in bundle], [_flat(e.grad) for e in bundle]
            kernel(params, grads, [[_flat(e.state[name]) for e in bundle] for name in rule.buffers], coefficients)


def _update_foreach(entries: list[_Entry], rule: Rule, c: Mapping[str, Any], maximize: bool) -> None:
    p = entries[0].p
    c = {name: v.to(p.device) if isinstance(v, Tensor) else v for name, v in c.items()}
    real = torch.view_as_real if p.is_complex() else (lambda t: t)
    work = _working_dtype(real(p))
    target = Many([real(e.p.detach()) for e in entries])
    grads = Many([real(e.grad) for e in entries]).to(work)
    state = {name: Many([real(e.state[name]) for e in entries]) for name in rule.buffers}
    new, after = apply(rule, target.to(work), -grads if maximize else grads, state, c)
    target.copy_(new)
    for name, buffer in state.items():
        buffer.copy_(after[name])


def _step_traced(entry: _Entry, rule: Rule, hyper: Mapping[str, Any], maximize: bool) -> None:
    """Steps one parameter with the step count as a tensor, for a graph that captures the whole step."""
    p, given, state = entry
    state["step"] += 1
    c, scalars = scalars_of_step(rule, hyper, state["step"], {name: state[name] for name in rule.scalar_state})
    real = torch.view_as_real if p.is_complex() else (lambda t: t)
    target = real(p.detach())
    grad = real(given).to(_working_dtype(target))
    buffers = {name: real(state[name]) for name in rule.buffers}
    new, after = apply(rule, target.to(grad.dtype), -grad if maximize else grad, buffers, c)
    target.copy_(new)
    for name, buffer in buffers.items():
        buffer.copy_(after[name])
    for name, value in scalars.items():
        state[name].copy_(value)


def _engine_of(engine: Engine, switches: Switches) -> Engine:
    """Returns the engine that is asked for, in this library's words or in torch's."""
    if engine not in ("auto", "foreach", "compiled"):
        raise ValueError(f"Invalid engine: {engine!r}: choose auto, foreach or compiled")
    unknown = set(switches) - set(Switches.__annotations__)
    if unknown:
        raise TypeError(f"unexpected keyword argument {min(unknown)!r}")
    if switches.get("differentiable"):
        raise ValueError("differentiable=True is not supported, a step writes in place: use torch.optim for it")
    if switches.get("capturable"):
        raise ValueError("capturable=True is not supported: wrap the step in torch.compile, which captures it")
    if engine != "auto":
        return engine
    return "compiled" if switches.get("fused") else "foreach" if switches.get("foreach") else "auto"


def _scalar_dtype() -> torch.dtype:
    return torch.float64 if torch.get_default_dtype() == torch.float64 else torch.float32


def _working_dtype(real: Tensor) -> torch.dtype:
    """Returns the type in which the step of real numbers is worked out."""
    return torch.float32 if real.dtype in HALF else real.dtype


def _flat(tensor: Tensor) -> Tensor:
    """Returns a dense tensor's memory as a vector; complex numbers as pairs."""
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor)
    return tensor.view(-1) if tensor.is_contiguous() else tensor.as_strided((tensor.numel(),), (1,))


def _bundles(entries: list[_Entry]) -> Iterator[list[_Entry]]:
    """Yields the parameters that one call of a kernel steps: eight, two, or one."""
    start = 0
    for size in BUNDLES:
        while len(entries) - start >= size:
            yield entries[start : start + size]
            start += size


def _dtypes(entry: _Entry, rule: Rule) -> tuple[torch.dtype, ...]:
    """Returns the types of parameter, gradient and state."""
    return entry.p.dtype, entry.grad.dtype, *(entry.state[name].dtype for name in rule.buffers)


def _is_flat(entry: _Entry, rule: Rule) -> bool:
    """Says whether parameter, gradient and state are plain dense tensors in the same order of memory."""
    p, grad, state = entry
    tensors = [p, grad, *(state[name] for name in rule.buffers)]
    if any(type(t) not in (Tensor, torch.nn.Parameter) for t in tensors):
        return False
    if all(t.is_contiguous() for t in tensors):
        return True
    is_dense = torch.ops.aten.is_non_overlapping_and_dense.default
    return all(t.stride() == p.stride() and is_dense(t) for t in tensors)


def _wants_compiled(group: Group, entries: list[_Entry]) -> bool:
    engine = group["engine"]
    if engine == "auto":
        engine = "compiled" if sum(e.p.numel() for e in entries) >= COMPILE_FROM else "foreach"
    return engine == "compiled" and not (entries[0].p.device.type == "cpu" and compiler_missing())


@cache
def _kernel(
    rule: Rule, names: tuple[str, ...], maximize: bool, device_type: str, count: int, dtypes: tuple[torch.dtype, ...]
) -> Callable[..., None]:
    """Returns the compiled step of ``count`` vectors in place; one for all optimizers of that form, for any lengths.

    ``buffers`` holds, for each slot of the rule, one vector a parameter; ``dtypes`` are those of parameter, gradient
    and state.
    """
    slots = tuple(rule.buffers)

    def kernel(params: list[Tensor], grads: list[Tensor], buffers: list[list[Tensor]], coefficients: Tensor) -> None:
        work = coefficients.dtype
        c = {name: coefficients[i] for i, name in enumerate(names)}
        for i, (param, given) in enumerate(zip(params, grads, strict=True)):
            grad = given.to(work)
            state = {slot: buffers[j][i] for j, slot in enumerate(slots)}
            new, after = apply(rule, param.to(work), -grad if maximize else grad, state, c)
            param.copy_(new)
            for slot, buffer in state.items():
                buffer.copy_(after[slot])

    return compiled(kernel, torch.device(device_type), unguarded=True, dynamic=True)
