"""What a step touches, checked before anything changes, since kernels take memory as it is given to them.

Gradient, state and mean must have their parameter's shape and device, the right type, and memory of their own. Each is
looked at when it comes; at later steps one call of torch's compares the forms of all with those that were found right,
and only the sizes of storages, which are no part of a form, are read again.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from thalweg.rules.matrix_rule import MatrixRule, as_matrix_shape
from thalweg.rules.rule import Rule
from thalweg.tensors.form import KnownForms, fits, form, in_memory, is_allocated, overlaps

Group = dict[str, Any]
Work = Sequence[tuple[Group, Rule, list["Entry"]]]

HALF = (torch.float16, torch.bfloat16)


class Entry(NamedTuple):
    """A parameter that has a gradient, with its state, and its mean where that is part of the pass.

    ``flat`` says whether all of them are plain dense tensors in the same order of memory; ``whole`` is the distributed
    parameter of which the others are the shards that are here.
    """

    p: Tensor
    grad: Tensor
    state: dict[str, Any]
    mean: Tensor | None = None
    flat: bool = False
    whole: Tensor | None = None


def state_dtype(p: Tensor) -> torch.dtype:
    """Returns the type of the parameter's state, which is float32 in half precision."""
    return torch.float32 if p.dtype in HALF else p.dtype


def scalar_dtype(name: str = "step") -> torch.dtype:
    """Returns the type of a scalar of the state: torch's for those that torch has, and float64 for others."""
    of_torch = name in ("step", "mu_product") and torch.get_default_dtype() != torch.float64
    return torch.float32 if of_torch else torch.float64


def tensors_of(entry: Entry, rule: Rule) -> list[Any]:
    """Returns what a kernel is given of the entry: parameter, gradient, buffers and mean."""
    p, grad, state, mean, *_ = entry
    return [p, grad, *(state.get(name) for name in rule.buffers), *([] if mean is None else [mean])]


class Forms:
    """The forms of all that a step touched, as they were when it was checked."""

    def __init__(self) -> None:
        self._known = KnownForms()
        self._counts: list[int] = []  # of buffers and means, by entry
        self._flat: list[bool] = []
        self.all_flat = False  # whether all entries are

    def same(self, work: Work) -> bool:
        """Says whether all forms are as they were noted, and storages as large as they need."""
        tensors, counts = _all(work)
        return counts == self._counts and self._known.same(tensors)

    def marked(self, work: Work) -> list[tuple[Group, Rule, list[Entry]]]:
        """Returns the entries, whose forms are as they were noted, with the word whether they are flat."""
        flat = iter(self._flat)
        return [(group, rule, [Entry(*e[:4], next(flat)) for e in entries]) for group, rule, entries in work]

    def note(self, work: Work) -> None:
        """Remembers the forms."""
        tensors, self._counts = _all(work)
        self._known.note(tensors)
        self._flat = [entry.flat for _, _, entries in work for entry in entries]
        self.all_flat = all(self._flat)


def _all(work: Work) -> tuple[list[Any], list[int]]:
    """Returns all tensors, and how many buffers and means each entry has."""
    found: list[Any] = []
    counts = []
    for _, rule, entries in work:
        names = (*rule.buffers, *rule.factor_names, "step", *rule.scalar_state)
        for p, grad, state, mean, *_ in entries:
            found += (p, grad) if mean is None else (p, grad, mean)
            found += map(state.get, names)
            counts.append(len(names) + (mean is not None))
    return found, counts


def check(owner: str, work: Work) -> None:
    """Raises RuntimeError for the first entry of which something has not the form that its parameter asks for.

    Arguments:
        owner: the optimizer's name.
        work: groups with their rules and entries; state that an entry lacks is no fault.
    """
    for (_, rule, entries), labels in zip(work, _labels([group for group, _, _ in work]), strict=True):
        for entry in entries:
            fault = _fault(entry, rule)
            if fault is not None:
                label = labels[id(entry.p)]
                raise RuntimeError(f"{owner} cannot step parameter {label}, which is {form(entry.p)}: {fault}")


def prepare(entry: Entry, rule: Rule, group: Group) -> None:
    """Allocates what the parameter's state lacks; a state without any of the rule's buffers begins at step 1."""
    p, state = entry.p, entry.state
    begins = not any(state.get(name) is not None for name in rule.buffers)
    if "step" not in state or (begins and rule.buffers):
        # A state of torch's SGD counts no steps: what matters is whether there was one.
        state["step"] = 0.0 if begins else 1.0
    for name, first in {"step": 0.0, **rule.scalar_state}.items():
        if not isinstance(value := state.get(name, first), Tensor):
            state[name] = torch.tensor(value, dtype=scalar_dtype(name))
        if group["capturable"]:
            state[name] = state[name].to(p.device)
    for name, initial in rule.buffers.items():
        if state.get(name) is not None:
            continue
        if initial is None:
            with torch.set_grad_enabled(group["differentiable"]):
                state[name] = p.clone(memory_format=torch.preserve_format).to(state_dtype(p))
        else:
            value = complex(initial, initial) if p.is_complex() else initial
            state[name] = torch.full_like(p, value, dtype=state_dtype(p), memory_format=torch.preserve_format)
    for name, shape in _factors(p, rule).items():
        if state.get(name) is None:
            state[name] = torch.zeros(shape, dtype=state_dtype(p), device=p.device)


def _factors(p: Tensor, rule: Rule) -> Mapping[str, tuple[int, int]]:
    """Returns the state that has a form of its own, name to shape."""
    shape = as_matrix_shape(p.shape) if isinstance(rule, MatrixRule) else None
    return rule.factors(*shape) if shape and isinstance(rule, MatrixRule) else {}


def worked_out(entry: Entry, rule: Rule) -> Entry:
    """Returns a checked entry with all state, lazy conjugates and negatives worked out, the gradient in a fit type."""
    p, grad, state, mean, *_ = entry
    if grad.layout == torch.strided:
        grad = grad.resolve_conj().resolve_neg()
        if grad.dtype != p.dtype:
            grad = grad.to(state_dtype(p))
    for name in rule.buffers:
        state[name] = state[name].resolve_conj().resolve_neg()
    entry = Entry(p, grad, state, mean)
    return entry._replace(flat=is_flat(tensors_of(entry, rule)))


def is_flat(tensors: Sequence[Tensor]) -> bool:
    """Says whether a parameter and what goes with it are plain dense tensors in the same order of memory."""
    p = tensors[0]
    if torch.compiler.is_compiling():  # which cannot trace the question, nor need its answer
        return False
    if not all(in_memory(t) for t in tensors) or p.is_conj() or p.is_neg():
        return False
    if all(t.is_contiguous() for t in tensors):
        return True
    is_dense = torch.ops.aten.is_non_overlapping_and_dense.default
    return all(t.stride() == p.stride() and is_dense(t) for t in tensors)


def _fault(entry: Entry, rule: Rule) -> str | None:
    """Returns what is wrong with the entry, and what to do about it."""
    p, grad, state, mean, *_ = entry
    if not (p.is_floating_point() or p.is_complex()) or p.layout != torch.strided:
        return "pass a dense tensor of real or complex numbers"
    if overlaps(p) or not is_allocated(p):
        return "give it its own memory with p.data = torch.empty(p.shape) before filling it"
    fit = grad.shape == p.shape and grad.device == p.device and hasattr(grad, "to_local") == hasattr(p, "to_local")
    if not fit or (grad.is_complex() and not p.is_complex()) or not is_allocated(grad):
        return f"its gradient is {form(grad)}; call zero_grad() and backward() again"
    for name in rule.buffers:
        value = state.get(name)
        if value is not None and not fits(value, p, state_dtype(p)):
            alike = isinstance(value, Tensor) and value.shape == p.shape and not hasattr(p, "to_local")
            then = (
                "optimizer.load_state_dict(optimizer.state_dict()) converts it"
                if alike
                else "load the state of this model"
            )
            return f"its state {name!r} is {form(value)}; {then}"
    if isinstance(rule, MatrixRule) and (p.is_complex() or hasattr(p, "to_local")):
        return "real matrices are stepped that are whole; put it in a group with partner=True"
    for name, shape in _factors(p, rule).items():
        value = state.get(name)
        if value is not None and not fits(value, p.new_empty(shape), state_dtype(p)):
            return f"its state {name!r} is {form(value)}; load the state of this model"
    for name in ("step", *rule.scalar_state):
        value = state.get(name)
        if value is not None and not _is_number(value):
            return f"its state {name!r} is {form(value)}, not one number; load a state of this model"
    if mean is not None and not fits(mean, p, mean.dtype):
        return f"its average is {form(mean)}; make a new Average of the current model"
    return None


def _is_number(value: Any) -> bool:
    if isinstance(value, Tensor):
        return value.numel() == 1 and value.layout == torch.strided and not value.is_complex()
    return isinstance(value, (int, float))


def _labels(groups: Iterable[Group]) -> list[dict[int, str]]:
    """Returns for each group the numbers of its parameters among all, and the names that it has for them, by id."""
    found, first = [], 0
    for group in groups:
        names = [f" {name!r}" for name in group.get("param_names", ())] or [""] * len(group["params"])
        pairs = zip(group["params"], names, strict=True)
        found.append({id(p): f"{first + i}{name}" for i, (p, name) in enumerate(pairs)})
        first += len(group["params"])
    return found


class Rows:
    """The rows of a parameter that its sparse gradient names, with their state, as an entry of their own.

    Where a rule moves all rows, the entry is the whole parameter's, with a dense gradient.
    """

    def __init__(self, entry: Entry, rule: Rule) -> None:
        grad = entry.grad.coalesce()
        self._whole, self._names, self._at = entry, tuple(rule.buffers), tuple(grad.indices())
        if rule.sparse == "all":
            self._at = ()
            self.entry = entry._replace(grad=grad.to_dense())
        else:
            state = {n: v[self._at] if n in rule.buffers else v for n, v in entry.state.items()}
            self.entry = Entry(entry.p.detach()[self._at], grad.values(), state)
        self.entry = self.entry._replace(flat=is_flat(tensors_of(self.entry, rule)))

    def put(self) -> None:
        """Writes the rows back, once they are stepped."""
        if not self._at:
            return
        self._whole.p[self._at] = self.entry.p
        for name, value in self.entry.state.items():
            if name in self._names:
                self._whole.state[name][self._at] = value
            else:
                self._whole.state[name] = value


def check_sparse(owner: str, rule: Rule, group: Group) -> None:
    """Raises RuntimeError, in torch's words, unless the group's rule takes sparse gradients."""
    if rule.sparse is None:
        more = " (torch.optim.SparseAdam is Adam for the named rows only)" if "Adam" in owner else ""
        raise RuntimeError(
            f"{owner} does not support sparse gradients, because its steps also change rows whose gradient is zero: "
            f"build the embedding with sparse=False, or use SGD or AdaGrad{more}"
        )
    if group["weight_decay"]:
        raise RuntimeError(
            "weight_decay option is not compatible with sparse gradients, because it changes every row: build the "
            "embedding with sparse=False, or put it in a group with weight_decay=0"
        )
