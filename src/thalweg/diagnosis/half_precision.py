"""Numbers outside the range of half-precision types: layers that overflow, and gradients that are rounded to zero."""

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from thalweg.diagnosis.findings import Choice, Finding, Severity
from thalweg.diagnosis.fixes import rescale
from thalweg.diagnosis.forward_recorder import Layer
from thalweg.diagnosis.input_scale import input_scale
from thalweg.diagnosis.observe import Seen, observe
from thalweg.diagnosis.overflows import HALF, Overflow
from thalweg.tensors.parts import within

OVERFLOW = "half-precision overflow"
UNDERFLOW = "half-precision underflow"
SHARE = 0.5
LARGEST_SCALE = 2.0**15  # a power of two that float16 holds
IN_FLOAT32 = "loss = lambda output, target, loss=loss: loss(output.float(), target)"
AS_BFLOAT16 = (
    "lambda module, args: tuple(a.bfloat16() if torch.is_tensor(a) and a.is_floating_point() else a for a in args)"
)


def half_precision(seen: Seen) -> list[Finding]:
    """Finds, where all is finite in the end, what overflows on the way, and what would; gradients that underflow.

        |x| > 65,504 in float16,   g = 0 in float16 and sg / s ≠ 0 with a loss that is s times as large

    An overflow to −∞ outside layers is a mask, and none is found there.

    >>> class Net(nn.Linear):
    ...     def forward(self, x):
    ...         return 1 / (300 * super().forward(x)).square()
    >>> net, batch = Net(3, 1).half(), (torch.ones(9, 3).half(), torch.ones(9, 1).half())
    >>> nn.init.ones_(net.weight).shape
    torch.Size([1, 3])
    >>> [(f.kind, f.severity) for f in half_precision(observe(net, batch, nn.functional.mse_loss))]
    [('half-precision overflow', 'warning')]

    Source: Micikevicius et al. 2018 (the range of float16, and the scale of the loss).
    """
    if not seen.types & {*HALF}:
        return _would_overflow(seen)
    first = _blamed(seen)
    found = [] if first is None else [_overflow(seen, first, "warning")]
    return found + _underflow(seen)


def overflowed(seen: Seen) -> list[Finding]:
    """Finds where what is not finite in the end begins to overflow in a half-precision type, forward or backward.

    >>> net = nn.Sequential(nn.Linear(1, 2), nn.Linear(2, 2)).half()
    >>> for layer in net:
    ...     _ = nn.init.constant_(layer.weight, 300.0)
    >>> seen = observe(net, (torch.ones(8, 1).half(), torch.ones(8).long()), nn.functional.cross_entropy)
    >>> [(f.layer, round(f.figure / 1e4), f.threshold) for f in overflowed(seen)]
    [('1', 18, 65504.0)]
    """
    first = _blamed(seen) or next(iter(seen.overflows), None)
    if first is not None:
        return [_overflow(seen, first, "error"), *input_scale(seen)]
    return _gradient_overflow(seen)


def _blamed(seen: Seen) -> Overflow | None:
    return next((o for o in seen.overflows if not o.negative or o.layer in seen.order), None)


def _overflow(seen: Seen, first: Overflow, severity: Severity) -> Finding:
    name, limit = _named(first.dtype), torch.finfo(first.dtype).max
    reached = f"in float32 it reaches {first.largest:.3g}" if math.isfinite(first.largest) else "sums within it do"
    own = first.layer in seen.order and not first.in_loss
    layer = first.layer if own or first.layer else "" if first.in_loss else first.after
    if first.in_loss:
        what = f"{first.function} in the loss"
    elif own:
        what = "this is the first layer whose output"
    else:
        what = f"{first.function} after layer {first.after or '(the inputs)'}"
    meaning = f"{what} leaves the range of {name}, which ends at {limit:,.6g}; {reached}: scale it down, or use " + (
        "bfloat16 or float32" if first.dtype is torch.float16 else "float32"
    )
    found = Finding(OVERFLOW, severity, layer, first.largest, meaning, threshold=limit)
    if first.in_loss and _is_mended(seen):
        return replace(found, fix_code=IN_FLOAT32)
    return replace(found, choices=tuple(_choices(seen, first.after if not own else first.layer)))


def _is_mended(seen: Seen) -> bool:
    """Returns whether the loss is finite, with its gradient, where it gets its scores in float32."""
    try:
        other = observe(seen.model, seen.batch, lambda output, target: seen.function(output.float(), target))
    except ValueError:
        return False
    return math.isfinite(other.loss) and not any(o.in_loss for o in other.overflows)


def _choices(seen: Seen, layer: str) -> Iterator[Choice]:
    scaled, *drawn = rescale(seen, seen.layers.get(layer) or next(iter(seen.layers.values()), Layer("", None, _NONE)))
    yield scaled
    parts = half_parts(seen.model)
    if parts:
        line = (
            f"[part.bfloat16().register_forward_pre_hook({AS_BFLOAT16}) for part in map(model.get_submodule, {parts})]"
        )
        yield Choice(line, partial(_to_bfloat16, parts), False)
    device = next((p.device.type for p in seen.model.parameters()), "cpu")
    if torch.is_autocast_enabled(device):
        line = f"model.forward = torch.autocast({device!r}, torch.bfloat16)(model.forward)"
        yield Choice(line, partial(_autocast, device), False)
    yield from drawn


_NONE = torch.zeros(())


def half_parts(model: nn.Module) -> list[str]:
    """Returns names of the largest modules with a forward of their own all of whose parameters are float16.

    >>> half_parts(nn.Sequential(nn.Linear(1, 1), nn.Sequential(nn.Linear(1, 1), nn.ReLU()).half()))
    ['1']
    """
    found: list[str] = []
    for name, module in model.named_modules():
        types = {p.dtype for p in module.parameters()}
        runs = type(module).forward is not nn.Module.forward
        if types == {torch.float16} and runs and not any(within(name, part) for part in found):
            found.append(name)
    return found


def _to_bfloat16(parts: list[str], model: nn.Module) -> None:
    for name in parts:
        model.get_submodule(name).bfloat16().register_forward_pre_hook(
            lambda module, args: tuple(
                a.bfloat16() if isinstance(a, Tensor) and a.is_floating_point() else a for a in args
            )
        )


def _autocast(device: str, model: nn.Module) -> None:
    model.forward = torch.autocast(device, torch.bfloat16)(model.forward)


def _gradient_overflow(seen: Seen) -> list[Finding]:
    name = next((n for n in reversed(seen.order) if not _is_finite(seen, n)), None)
    types = {g.dtype for n in seen.order for g in (*_gradients(seen, n), seen.every(n).output)} & {*HALF}
    if name is None or not types:
        return []
    dtype = torch.float16 if torch.float16 in types else torch.bfloat16
    limit = torch.finfo(dtype).max
    for scale in (2.0**-8, 2.0**-16):
        smaller = _scaled(seen, scale)
        if smaller is not None and all(_is_finite(smaller, n) for n in seen.order):
            largest = max(float(g.abs().max()) for g in _gradients(smaller, name)) / scale
            meaning = (
                f"from this layer back, gradients leave the range of {_named(dtype)}, which ends at {limit:,.6g}: "
                "scale the loss down, or use bfloat16 or float32"
            )
            line = f"loss = lambda output, target, loss=loss: {scale} * loss(output, target)"
            figure = largest if largest > limit else math.inf
            return [Finding(OVERFLOW, "error", name, figure, meaning, line, threshold=limit)]
    return []


def _is_finite(seen: Seen, name: str) -> bool:
    return all(bool(g.isfinite().all()) for g in _gradients(seen, name))


def _underflow(seen: Seen) -> list[Finding]:
    """Finds the layer most of whose gradients are zero in float16, and are not with a loss that is scaled up."""
    names = [n for n, layer in seen.layers.items() if layer.output.dtype is torch.float16]
    held = {n: g for n in names if (g := [g for g in _gradients(seen, n) if g.numel()])}
    top = max((float(g.abs().max()) for gradients in held.values() for g in gradients), default=math.inf)
    if not math.isfinite(top):
        return []
    scale = min(LARGEST_SCALE, 2.0 ** math.floor(math.log2(1e4 / top))) if top else LARGEST_SCALE
    larger = _scaled(seen, scale) if scale > 1 else None
    if larger is None:
        return []
    shares = {name: _lost(gradients, _gradients(larger, name)) for name, gradients in held.items()}
    worst = max(shares, key=lambda name: shares[name])
    if not shares[worst] > SHARE:
        return []
    meaning = (
        f"{shares[worst]:.0%} of the gradients of this layer are rounded to zero in float16: scale the loss, as by "
        f"{scale:g} at first, with torch.amp.GradScaler"
    )
    line = f"scaler = torch.amp.GradScaler(init_scale={scale})  # scaler.scale(loss).backward(); scaler.step(optimizer)"
    severity: Severity = "warning" if shares[worst] == 1 else "note"
    return [Finding(UNDERFLOW, severity, worst, shares[worst], meaning, line, threshold=SHARE)]


def _lost(gradients: list[Tensor], scaled: list[Tensor]) -> float:
    """Returns the share of the gradients that are not zero once they are scaled, and are without."""
    kept = sum(int((s != 0).sum()) for s in scaled)
    lost = sum(int(((g == 0) & (s != 0)).sum()) for g, s in zip(gradients, scaled, strict=True))
    return lost / kept if kept else 0.0


def _gradients(seen: Seen, name: str) -> list[Tensor]:
    """Returns the gradients by a layer's parameters, and by its output."""
    layer = seen.every(name)
    own = [seen.gradients.get(f"{name}.{n}".lstrip(".")) for n, _ in layer.module.named_parameters(recurse=False)]
    return [g.to_dense() if g.is_sparse else g for g in (*own, layer.gradient) if g is not None]


def _scaled(seen: Seen, scale: float) -> Seen | None:
    """Returns what the batch shows with a loss of other units; None where it raises."""
    try:
        return observe(seen.model, seen.batch, lambda output, target: scale * seen.function(output, target))
    except ValueError:
        return None


def _would_overflow(seen: Seen) -> list[Finding]:
    """Notes the first layer of float32 whose output or gradient float16 does not hold."""
    limit = torch.finfo(torch.float16).max
    for name in seen.order:
        layer = seen.every(name)
        for what, values in (("output", layer.output), ("gradient", layer.gradient)):
            largest = 0.0 if values is None or not values.numel() else float(values.abs().max())
            if largest > limit:
                meaning = f"the layer's {what} would overflow in float16: train it in bfloat16 or in float32"
                return [Finding("beyond float16", "note", name, largest, meaning, threshold=limit)]
    return []


def _named(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
