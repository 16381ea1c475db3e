"""The text of a rule's kernel, traced from ``rule.update``, so that a rule is written once.

A program of the kernel steps one chunk of one tensor: gradient clipped or not, weight decay, step, average, all in one
pass over memory. Where the tensors lie it reads from a table of addresses. Its scalars are numbers that the host has
worked out; or, where the host does not know them (``Form.traced``), hyperparameters and step counts from which each
program works them out in float64, by the text of ``rule.coefficients``.

Each line is rounded as torch's own kernels round (``enable_fp_fusion=False`` at the launch), so that a step in float32
is bit for bit that of :class:`~thalweg.tensors.tensor_list.TensorList`.
"""

import linecache
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from typing import Any

import torch

from thalweg.averaging import averaged
from thalweg.optim.implementations import advance
from thalweg.optim.kernel.symbols import Lines, Symbol
from thalweg.rules.matrix_rule import MatrixRule
from thalweg.rules.rule import Rule, apply, scalars_of_step

NAMES = {
    torch.float16: "tl.float16",
    torch.bfloat16: "tl.bfloat16",
    torch.float32: "tl.float32",
    torch.float64: "tl.float64",
}

_ONE = Symbol("1.0", Lines(), wide=True)

_STEP = """\
import triton
import triton.language as tl


@triton.jit(do_not_specialize=["count"], do_not_specialize_on_alignment=[{pointers}])
def step(fixed, sizes, owners, chunks, counters, count, grads{arguments}):
    owner = tl.load(owners + tl.program_id(0))
    size = tl.load(sizes + owner)
    begin = tl.load(chunks + tl.program_id(0)).to(tl.int64) * {block}
{head}
    at = tl.arange(0, {block})
    if begin + {block} <= size:
{whole}
    else:
        inside = at < size - begin
{part}
{tail}"""

_TAIL = """\
    tl.debug_barrier()
    if tl.atomic_add(counters + owner, 1, sem="acq_rel") == (tl.maximum(size, 1) - 1) // {block}:
        tl.store(counters + owner, 0)
{lines}
"""


@dataclass(frozen=True)
class Form:
    """What a kernel is made for.

    Attributes:
        rule: the rule.
        maximize: whether it ascends.
        dtypes: of parameter, gradient, mean (None without) and the rule's buffers, real.
        scalars: the kernel's scalar arguments after the table: name, and the type of a tensor on the device, or None of
            a number. Without ``traced`` those of the rule's coefficients; with it, its hyperparameters.
        counted: where ``traced``, names and types of what each tensor carries on the device: ``step``, ``skipped`` and
            the rule's scalar state; each a row of the table.
        traced: whether the kernel works out the rule's coefficients.
        decays: whether there is weight decay, where ``traced``.
        clips, skips: whether the gradient's norm clips, and whether nothing changes where it is not finite.
        aligned: whether all addresses are multiples of 16 bytes.
        block: elements in a chunk, a power of two.
    """

    rule: Rule
    maximize: bool
    dtypes: tuple[torch.dtype | None, ...]
    scalars: tuple[tuple[str, torch.dtype | None], ...]
    counted: tuple[tuple[str, torch.dtype], ...] = ()
    traced: bool = False
    decays: bool = False
    clips: bool = False
    skips: bool = False
    aligned: bool = True
    block: int = 4096

    @property
    def rows(self) -> tuple[tuple[str, torch.dtype], ...]:
        """Names and types of what has a row in the table: what the kernel reads and writes of each tensor."""
        found = zip(("param", "grad", "mean", *self.rule.buffers), self.dtypes, strict=True)
        return tuple((name, d) for name, d in found if d is not None and name != "grad") + self.counted

    @property
    def wide(self) -> bool:
        """Whether the arithmetic is in float64."""
        return self.dtypes[0] == torch.float64


def source(form: Form) -> str:
    """Returns the kernel's text.

    >>> from thalweg.rules import RULES
    >>> form = Form(RULES["sgd"], False, (torch.float32, torch.float32, None), (("minus_lr", None),), block=64)
    >>> print("\\n".join(line for line in source(form).splitlines() if " x" in line or "store" in line))
            x0 = grad * c_minus_lr
            x1 = param + x0
            tl.store(param_at + at, x1.to(tl.float32))
            x0 = grad * c_minus_lr
            x1 = param + x0
            tl.store(param_at + at, x1.to(tl.float32), mask=inside)
    """
    names = [name for name, _ in form.scalars]
    extra = ["norm"] * (form.clips or form.skips) + names
    number = "fp64" if form.wide or form.traced else "fp32"
    typed = [f'{name}: "{number}"' if (name, None) in form.scalars else name for name in extra]
    head = [*_addresses(form), *_scalars(form)]
    lines, tail, c = _coefficients(form)
    pointers = [repr(name) for name, dtype in form.scalars if dtype is not None] + ["'norm'"] * (extra != names)
    return _STEP.format(
        arguments="".join(f", {one}" for one in typed),
        pointers=", ".join(pointers),
        block=form.block,
        head=_indented([*head, *lines], 4),
        whole=_indented(_body(form, c, ""), 8),
        part=_indented(_body(form, c, ", mask=inside"), 8),
        tail=_TAIL.format(block=form.block, lines=_indented(tail, 8)) if tail else "",
    )


@cache
def can_write(rule: Rule) -> bool:
    """Says whether a kernel can be made of the rule's text: not where it sums, takes matrices as such, or calls what
    kernels do not have."""
    if rule.rounds or rule.numbers or isinstance(rule, MatrixRule):
        return False
    lines = Lines()
    scalar = Symbol("s", lines, wide=True)
    try:
        hyper = dict.fromkeys(rule.defaults, scalar)
        c, _ = scalars_of_step(rule, hyper, scalar, dict.fromkeys(rule.scalar_state, scalar))
        held = dict.fromkeys(rule.buffers, Symbol("x", lines, wide=False))
        apply(rule, Symbol("p", lines, wide=False), Symbol("g", lines, wide=False), held, c)
    except (AttributeError, TypeError):
        return False
    return True


@cache
def made(name: str, text: str) -> Any:
    """Returns the kernel of that name, from its text, which a debugger shows too."""
    names: dict[str, Any] = {"__name__": __name__}
    file = f"<kernel {name} {sha256(text.encode()).hexdigest()[:16]}>"
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)  # where Triton reads it
    exec(compile(text, file, "exec"), names)
    return names[name]


def _addresses(form: Form) -> Iterable[str]:
    sides = [("grad", form.dtypes[1], "grads + owner")]
    sides += [(name, dtype, f"fixed + {i} * count + owner") for i, (name, dtype) in enumerate(form.rows)]
    counted = dict(form.counted)
    for name, dtype, where in sides:
        assert dtype is not None
        yield f"{name}_at = tl.load({where}).to(tl.pointer_type({NAMES[dtype]}))"
        if name not in counted:
            yield f"{name}_at = {f'tl.multiple_of({name}_at, 16)' if form.aligned else f'{name}_at'} + begin"


def _scalars(form: Form) -> Iterable[str]:
    """Yields the lines that bring each scalar argument into the type that is worked with."""
    wide = "tl.float64" if form.wide or form.traced else "tl.float32"
    for name, dtype in form.scalars:
        yield f"c_{name} = " + (f"tl.full((), {name}, {wide})" if dtype is None else f"tl.load({name}).to({wide})")
    for name, _ in form.counted:
        yield f"{name} = tl.load({name}_at).to(tl.float64)"


def _coefficients(form: Form) -> tuple[list[str], list[str], dict[str, Any]]:
    """Returns lines that work out the scalars, those that each tensor's last chunk writes, and the scalars."""
    lines, tail = Lines("k"), list[str]()
    given = {name: Symbol(f"c_{name}", lines, form.wide or form.traced) for name, _ in form.scalars}
    apart = {name: given.pop(name) for name in ("clip_norm", "average", "t") if name in given}
    found: dict[str, Any] = dict(given)
    norm = lines.new("tl.load(norm).to(tl.float64)", wide=True) if form.clips or form.skips else _ONE
    finite = lines.new(f'(tl.abs({norm.name}) < float("inf")).to(tl.float64)', wide=True) if form.skips else _ONE
    if form.traced:
        counted = {name: Symbol(name, lines, wide=True) for name, _ in form.counted}
        t = counted["step"] + 1 if "step" in counted else apart["t"]
        hyper = given if form.decays else {**given, "weight_decay": 0.0}
        found, new = scalars_of_step(
            form.rule, hyper, t - counted["skipped"] if "skipped" in counted else t, {**given, **counted}
        )
        if form.skips:
            new = {name: new[name].where(finite, counted[name]) for name in new if name in counted}
        if "skipped" in counted:
            new["skipped"] = counted["skipped"] + 1 - finite
        if "step" in counted:
            new["step"] = counted["step"] + finite
        tail = [f"tl.store({name}_at, {new[name].name}.to({NAMES[dtype]}))" for name, dtype in form.counted]
    if form.clips:
        share = lines.new(f"{apart['clip_norm'].name}.to(tl.float64)", wide=True) / (norm + 1e-6)
        found["clip"] = lines.new(f"tl.where({share.name} > 1, 1.0, {share.name})", wide=True)
    found |= ({"ok": finite} if form.skips else {}) | ({"average": apart["average"]} if "average" in apart else {})
    return lines.text, tail, {name: _narrowed(value, form, lines) for name, value in found.items()}


def _narrowed(value: Any, form: Form, lines: Lines) -> Any:
    """Returns a scalar in the type of the arithmetic."""
    if not isinstance(value, Symbol) or value.wide == form.wide:
        return value
    return lines.new(f"{value.name}.to({'tl.float64' if form.wide else 'tl.float32'})", form.wide)


def _body(form: Form, c: Mapping[str, Any], mask: str) -> list[str]:
    """Returns the lines that step a chunk."""
    work = "tl.float64" if form.wide else "tl.float32"
    arrays = [(name, d) for name, d in (*form.rows, ("grad", form.dtypes[1])) if name not in dict(form.counted)]
    loads = [f"{name} = tl.load({name}_at + at{mask}{', other=0.0' if mask else ''}).to({work})" for name, _ in arrays]
    lines = Lines()
    held = {name: Symbol(name, lines, form.wide) for name, _ in arrays}
    c = {name: Symbol(v.name, lines, form.wide) if isinstance(v, Symbol) else v for name, v in c.items()}
    state = {name: held[name] for name in form.rule.buffers}
    new, after = advance(form.rule, held["param"], held["grad"], state, c, form.maximize)
    after["param"] = new
    if "mean" in held:
        after["mean"] = averaged(held["mean"], new, c["average"])
    dtypes = {name: NAMES[dtype] for name, dtype in form.rows}
    stores = [f"tl.store({name}_at + at, {value.name}.to({dtypes[name]}){mask})" for name, value in after.items()]
    return [*loads, *lines.text, *stores]


def _indented(lines: Iterable[str], by: int) -> str:
    return "\n".join(" " * by + line for line in lines)
