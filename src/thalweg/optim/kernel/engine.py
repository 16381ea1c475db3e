"""Steps by Triton's kernels: which parameters they take, and what is launched for them."""

import warnings
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from thalweg.optim.decay import decayed
from thalweg.optim.entries import Entry, Group, Work
from thalweg.optim.implementations import here
from thalweg.optim.kernel.launch import Launch, launch, on_device
from thalweg.optim.kernel.norm import PROGRAMS, norm_source
from thalweg.optim.kernel.source import Form, made, source
from thalweg.optim.kernel.steady import Steady
from thalweg.optim.kernel.table import Table
from thalweg.optim.one_pass import GradientNorm, global_gradient_norm
from thalweg.rules.matrix_rule import MatrixRule
from thalweg.rules.rule import Rule

BLOCK = 2048  # elements that a program steps; of 1024 to 8192 with 4 to 16 warps, the quickest on an H100

_PLAIN = (Tensor, torch.nn.Parameter)

# What shows whether Triton, which compiles a part in C, can make a kernel here.
_PROBE = """\
import triton
import triton.language as tl


@triton.jit
def probe(out, value):
    tl.store(out, value)
"""


class Kernels:
    """What an optimizer's kernels know from step to step: the table of addresses, and what they launch."""

    def __init__(self) -> None:
        self._table: Table | None = None
        self._entries: list[Entry] = []
        self._numbers: dict[int, int] = {}  # of parameters in the table, by id
        self._retired: list[Table] = []  # that CUDA graphs still read
        self._launches: list[Launch] = []
        self._steady: Steady | None = None
        self._normed: torch.dtype | None = None  # of the gradients, where a group asks for the norm
        self._averaged: list[Tensor] = []

    def look(self, work: Work) -> None:
        """Reads where everything lies that kernels step; makes the table anew where something lies elsewhere."""
        self._launches, self._steady = [], None
        asked = [(group, rule, entries) for group, rule, entries in work if wants(group, rule)]
        mine = [(e, r, g) for g, r, entries in asked for e in entries if e.p.is_cuda or g["engine"] == "triton"]
        pairs = [(e.p, here(e, rule), rule, group) for e, rule, group in mine if on_device(e.p)]
        pairs = [pair for pair in pairs if pair[1].flat and pair[1].p.device == pairs[0][1].p.device]
        captures = bool(pairs) and capturing(pairs[0][1].p)
        if (captures and self._table is None) or (pairs and triton_missing(pairs[0][1].p.device)):
            pairs = []  # what a graph would hold has to be compiled before
        self._numbers = {id(p): i for i, (p, _, _, _) in enumerate(pairs)}
        self._entries = [entry for _, entry, _, _ in pairs]
        if not pairs:
            return
        fixed = [[t.data_ptr() for t in _rows(entry, rule, group)] for _, entry, rule, group in pairs]
        most = max(map(len, fixed))
        fixed = [row + [0] * (most - len(row)) for row in fixed]
        sizes = [e.p.numel() * (1 + e.p.is_complex()) for e in self._entries]
        stale = self._table is None or self._table.known != (fixed, sizes)
        if captures and not all(group["capturable"] for _, _, _, group in pairs):
            raise RuntimeError("a CUDA graph cannot hold steps that the host counts: give capturable=True")
        if captures and (self._table is None or stale or self._table.spare is None):
            self._numbers, self._entries = {}, []  # a graph would copy at each replay what is gone by then
            return
        if stale:
            if self._table is not None and self._table.captured:
                self._retired.append(self._table)
            self._table = Table(fixed, sizes, self._entries[0].p.device, BLOCK)
        self.point([e.grad for e in self._entries], captures)

    def point(self, grads: Sequence[Tensor], captures: bool = False) -> None:
        """Reads where the gradients lie."""
        assert self._table is not None
        addresses = list(map(Tensor.data_ptr, grads))
        self._grads, self._aligned = (self._table.for_capture if captures else self._table.gradients)(addresses)

    def global_norm(self, work: Work) -> GradientNorm:
        """Returns the norm of all gradients where a group asks for it, by the kernel where the table has them all."""
        if not any(group["clip_norm"] is not None or group["skip_nonfinite"] for group, _, _ in work):
            return GradientNorm()
        entries = [e for _, _, entries in work for e in entries]
        dtypes = {e.grad.dtype.to_real() for e in entries}
        alone = len(self._entries) == len(entries) and len(dtypes) == 1
        if alone and not any(hasattr(e.grad, "to_local") for e in entries):  # of which other ranks have their part
            return GradientNorm(self.norm(dtypes.pop()), None)
        found = global_gradient_norm([group for group, _, _ in work], [e.grad for e in entries])
        if self._numbers and self._table is not None and found.value is not None:
            self._table.norm.copy_(found.value)
        return found

    def norm(self, dtype: torch.dtype) -> Tensor:
        """Returns the norm of all gradients, which are of one type."""
        table = self._table
        assert table is not None
        owners, chunks = table.chunks(tuple(range(len(self._entries))))
        out = torch.empty((), dtype=torch.promote_types(dtype, torch.float32), device=owners.device)
        held = (table.sizes, owners, chunks, table.counter, table.partials, len(owners), table.norm)
        if (dtype, self._aligned) in table.norms:
            table.norms[dtype, self._aligned]((self._grads, out))
        else:
            kernel = made("norm", norm_source(dtype, self._aligned, BLOCK))
            again = launch(kernel, out.dtype, min(len(owners), PROGRAMS), held, (self._grads, out))
            table.norms[dtype, self._aligned] = again
        return out

    def settle(self, optimizer: Any, work: Work) -> None:
        """Remembers a step that kernels have taken wholly, so that the next one has less to ask."""
        entries = [e for _, _, own in work for e in own]
        done = sum(len(one.members) for one in self._launches)
        if done == len(entries) > 0 and all(type(e.p) in _PLAIN and e.grad is e.p.grad for e in entries):
            dtypes = {e.grad.dtype.to_real() for e in entries}
            asked = any(group["clip_norm"] is not None or group["skip_nonfinite"] for group, _, _ in work)
            if not asked or len(dtypes) == 1:
                self._normed = dtypes.pop() if asked else None
                self._averaged = [e.p for e in entries if e.mean is not None]
                self._steady = Steady(optimizer, work)

    def again(self, optimizer: Any) -> bool:
        """Takes the step by what launched the last one, where all is as it was; says whether it did."""
        if self._steady is None or capturing(self._entries[0].p):
            return False
        average = optimizer.average
        if average is not None:
            average.check("step")
        if not all(one.untouched for one in self._launches):
            return False
        grads = self._steady.gradients(optimizer)
        if grads is None:
            return False
        self.point(grads)
        norm = optimizer.gradient_norm = None if self._normed is None else self.norm(self._normed)
        hypers = dict(zip(map(id, optimizer.param_groups), self._steady.hypers, strict=True))
        for group in optimizer.param_groups:
            if norm is not None and group["skip_nonfinite"]:
                group["skipped"] = group["skipped"] + (~norm.isfinite()).to(torch.float32)
        weight = None if average is None else average.weight
        for one in self._launches:
            self.run(
                one, hypers[id(one.group)], weight, one.group["clip_norm"] is not None, one.group["skip_nonfinite"]
            )
        if average is not None:
            average.update(self._averaged)
        return True

    def step(
        self, group: Group, rule: Rule, entries: list[Entry], hyper: Mapping[str, Any], extra: Mapping[str, Any]
    ) -> list[Entry]:
        """Steps the group's parameters that are in the table; returns the others."""
        mine = [e for e in entries if id(e.p) in self._numbers]
        skips, capturable = "ok" in extra, group["capturable"]
        if not mine or (skips and rule.scalar_state and not capturable):
            return entries
        traced = skips or capturable or any(on_device(v) for v in hyper.values())
        names = () if capturable else ("step", *rule.scalar_state)
        buckets: dict[tuple[Any, ...], list[Entry]] = {}
        for e in mine:
            tensors = (e.p, e.grad, e.mean, *(e.state[name] for name in rule.buffers))
            dtypes = tuple(None if t is None else t.dtype.to_real() for t in tensors)
            values = tuple(float(e.state[name]) for name in names)
            buckets.setdefault((dtypes, decayed(group, e.p), values), []).append(e)
        assert self._table is not None
        for (dtypes, decays, values), members in buckets.items():
            counts = {name: _in_one(members, name) for name in names}
            counted = tuple((n, members[0].state[n].dtype) for n in counted_of(group, rule)) if traced else None
            chunks = self._table.chunks(tuple(self._numbers[id(e.p)] for e in members))
            params = [e.p for e in members]
            one = Launch(group, rule, params, decays, dtypes, chunks, counts, list(values), counted)
            self._launches.append(one)
            self.run(one, hyper, extra.get("average"), "clip" in extra, skips)
        return [e for e in entries if id(e.p) not in self._numbers]

    def run(self, one: Launch, hyper: Mapping[str, Any], average: float | None, clips: bool, skips: bool) -> None:
        """Takes the step of one launch."""
        table, values = self._table, one.scalars(hyper)
        assert table is not None
        if average is not None:
            values["average"] = average
        if clips:
            values["clip_norm"] = one.group["clip_norm"]
        numbers = [v if on_device(v) else float(v) for v in values.values()]
        given = (self._grads, table.norm, *numbers) if clips or skips else (self._grads, *numbers)
        if self._aligned in one.kernels:
            one.kernels[self._aligned](given)
            return
        types = [v.dtype if isinstance(v, Tensor) else None for v in numbers]
        traced = one.counted is not None
        form = Form(
            one.rule,
            one.group["maximize"],
            one.dtypes,
            tuple(zip(values, types, strict=True)),
            one.counted or (),
            traced,
            traced and "weight_decay" in values,
            clips,
            skips,
            self._aligned,
            BLOCK,
        )
        held = (table.fixed, table.sizes, *one.chunks, table.counters, len(self._entries))
        one.kernels[self._aligned] = launch(made("step", source(form)), form, len(one.chunks[0]), held, given)


def _in_one(entries: Sequence[Entry], name: str) -> Tensor:
    """Returns one tensor of which a number of every entry's state is made a view, so that one call counts them all."""
    first = entries[0].state[name]
    dtype = torch.float64 if first.dtype == torch.float64 else torch.float32
    held = torch.full((len(entries),), float(first), dtype=dtype)
    for entry, own in zip(entries, held.unbind(), strict=True):
        entry.state[name] = own
    return held


def wants(group: Group, rule: Rule) -> bool:
    """Says whether kernels are to step the group's parameters, as far as they can; ``"auto"`` asks only on a GPU."""
    if isinstance(rule, MatrixRule):
        return False
    asked = group["engine"] in ("auto", "triton") or (group["engine"] == "compiled" and group["fused"])
    return asked and not group["differentiable"]


def capturing(p: Tensor) -> bool:
    """Says whether a CUDA graph records what is done on the parameter's device."""
    return p.is_cuda and torch.cuda.is_current_stream_capturing()


@cache
def triton_missing(device: torch.device) -> str | None:
    """Returns why there are no kernels on the device, or None; warns at the first call that finds so."""
    try:
        if find_spec("triton") is None:
            raise ImportError("the package triton, which comes with torch's builds for CUDA, is missing")
        if torch.version.hip:
            raise RuntimeError("on ROCm Triton's kernels have not been tried")
        launch(made("probe", _PROBE), "probe", 1, [torch.zeros(1, device=device)], [1.0])
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        warnings.warn(f"thalweg steps by torch's foreach kernels on {device}: {reason}", RuntimeWarning, stacklevel=3)
        return reason
    return None


def counted_of(group: Group, rule: Rule) -> tuple[str, ...]:
    """Returns the names of what each tensor carries on the device from step to step."""
    if group["capturable"]:
        return "step", *rule.scalar_state
    return ("skipped",) if group["skip_nonfinite"] else ()


def _rows(entry: Entry, rule: Rule, group: Group) -> list[Tensor]:
    """Returns the tensors of an entry that have a row in the table, in the order of ``Form.rows``."""
    names = counted_of(group, rule)
    if "skipped" in names:
        entry.state.setdefault("skipped", torch.zeros((), device=entry.p.device))
    mean = [] if entry.mean is None else [entry.mean]
    return [entry.p, *mean, *(entry.state[name] for name in (*rule.buffers, *names))]
