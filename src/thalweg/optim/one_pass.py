"""Clipping, skipping of non-finite gradients and averaging, in the same pass over memory as the step.

    clip   g ← g · min(1, clip_norm / (‖g‖ + 1e-6)),   ‖g‖ over the gradients of all groups
    skip   where ‖g‖ is NaN or infinite, nothing changes, and a counter goes up; ‖g‖ is worked out in float32 at least,
           and on the CPU in float64 where that overflows
    mean   θ̄ ← θ̄ + w_t (θ − θ̄), with the θ that the step has just made, not yet rounded to half precision

The gradient is read once for the norm and once for everything else.

Source: Deep Learning, §8.7.3, §10.11.1 (clipping the gradient's norm); Pascanu, Mikolov & Bengio 2013.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm

from thalweg.averaging import Average
from thalweg.optim.entries import HALF, Group
from thalweg.optim.implementations import working_dtype
from thalweg.tensors.vector import real

LARGE = 65_536  # elements from which BLAS's dot is worth it


class GradientNorm(NamedTuple):
    """The norm of a step's gradient, and what follows from it.

    Attributes:
        value: a tensor without dimensions where the gradients are; None where nobody asked for it.
        finite: whether it is finite, as far as the host can know without waiting: None where it would have to.
    """

    value: Tensor | None = None
    finite: bool | None = True


def global_gradient_norm(groups: Sequence[Group], grads: Sequence[Tensor]) -> GradientNorm:
    """Returns the norm over all gradients, where a group clips by it or skips."""
    if not grads or not any(group["clip_norm"] is not None or group["skip_nonfinite"] for group in groups):
        return GradientNorm()
    norm = _total(grads)
    if waits(norm):
        return GradientNorm(norm, None)
    if not math.isfinite(norm.item()):
        norm = _total(grads, torch.float64)  # what is finite may have squares that are not
    return GradientNorm(norm, math.isfinite(norm.item()))


def _total(grads: Sequence[Tensor], dtype: torch.dtype | None = None) -> Tensor:
    """Returns ‖g‖ over the gradients of all meshes, the same on each rank."""
    meshes: dict[Any, list[Tensor]] = {}
    for grad in grads:
        meshes.setdefault(getattr(grad, "device_mesh", None), []).append(grad)
    norms = [_norm(members, dtype) for members in meshes.values()]
    norms = [norm.full_tensor() if hasattr(norm, "full_tensor") else norm for norm in norms]
    return norms[0] if len(norms) == 1 else get_total_norm(norms)


def _norm(grads: Sequence[Tensor], dtype: torch.dtype | None = None) -> Tensor:
    """Returns ‖g‖ over the gradients, worked out in a real ``dtype``, or each in its own, in float32 at least.

    Without a type, squares that are quickly had are taken, and torch's norm for the rest.
    """
    norms: list[Tensor] = []
    rest: list[Tensor] = []
    for grad in grads:
        wide = torch.float32 if dtype is None and grad.dtype in HALF else dtype
        square = _square(grad) if wide is None else None
        if wide is not None:
            norms.append(torch.linalg.vector_norm(grad, dtype=wide.to_complex() if grad.is_complex() else wide))
        elif square is not None:
            norms.append(square.sqrt())
        else:
            rest.append(grad)
    norms += [get_total_norm(rest)] if rest else []
    return norms[0] if len(norms) == 1 else get_total_norm(norms)


def _square(grad: Tensor) -> Tensor | None:
    """Returns ‖g‖² of a large plain tensor on the CPU by BLAS's dot, which reads it faster than torch's norm does.

    None for any other, and while torch traces.

    >>> _square(torch.ones(2)) is None, _square(torch.full((LARGE,), 2.0)).item() / LARGE
    (True, 4.0)
    """
    plain = type(grad) is Tensor and grad.device.type == "cpu" and grad.dtype in (torch.float32, torch.float64)
    if torch.compiler.is_compiling() or not plain or grad.numel() < LARGE or not grad.is_contiguous():
        return None
    flat = grad.detach().view(-1)
    return torch.dot(flat, flat)


def waits(norm: Tensor) -> bool:
    """Says whether the host would have to wait for the value."""
    return torch.compiler.is_compiling() or norm.device.type != "cpu"


def clip_coefficients(group: Group, norm: GradientNorm) -> dict[str, Any]:
    """Returns the scalars that the pass needs: ``clip`` and, where the host does not know, ``ok`` as 1 or 0."""
    found: dict[str, Any] = {}
    if norm.value is None:
        return found
    if group["clip_norm"] is not None:
        share = group["clip_norm"] / (norm.value + 1e-6)
        found["clip"] = share.clamp(max=1.0) if norm.finite is None else min(share.item(), 1.0)
        if norm.finite is not None and math.isnan(share.item()):
            found["clip"] = math.nan
    if group["skip_nonfinite"] and norm.finite is None:
        found["ok"] = norm.value.isfinite().to(torch.float32)
    return found


def mean_of(average: Average | None, p: Tensor) -> Tensor | None:
    """Returns the parameter's mean where the pass can take the next point into it as exactly as the average itself."""
    mean = None if average is None else average.mean_of(p)
    return mean if mean is not None and real(mean).dtype == working_dtype(p) else None


def check_average(average: Any, groups: Sequence[Group]) -> None:
    """Raises ValueError unless it averages a parameter of the groups, or is None."""
    if average is None:
        return
    if not isinstance(average, Average):
        raise ValueError(f"Invalid average: {average!r}: give Average(model, EMA(0.999)), of thalweg.averaging")
    if not any(average.averages(p) for group in groups for p in group["params"]):
        raise ValueError(
            "Invalid average: it averages none of the parameters of this optimizer: make it of the same model"
        )
