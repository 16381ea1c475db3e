"""Torch's fused kernels, for the rules that it has one for: one pass over memory on a CPU, with nothing to compile."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from thalweg.optim.engines import Entry, flat, here, is_flat
from thalweg.rules.adagrad import AdaGrad
from thalweg.rules.adam import Adam, AdamW
from thalweg.rules.rule import Rule
from thalweg.rules.sgd import SGD

Kernel = Callable[[list[Tensor], list[Tensor], list[list[Tensor]], Any, Mapping[str, Any], float, bool], None]


def step_fused(entries: list[Entry], rule: Rule, hyper: Mapping[str, Any], t: float, maximize: bool) -> bool:
    """Takes step ``t`` where torch has a kernel that does just what the rule does; says whether it did.

    It does for SGD with momentum or without, AdaGrad and Adam, of plain float32 and float64 tensors on a CPU. The
    results are the rule's to rounding.
    """
    kernel = _KERNELS.get(type(rule))
    if kernel is None or getattr(rule, "bias_correction", True) is False:
        return False
    if any(isinstance(value, Tensor) for value in hyper.values()):
        return False
    entries = [here(e) for e in entries]
    if not all(e.p.device.type == "cpu" and e.p.dtype in _DTYPES and is_flat(e, rule) for e in entries):
        return False
    buffers = [[flat(e.state[name]) for e in entries] for name in rule.buffers]
    if any(buffer.dtype != e.p.dtype for slot in buffers for buffer, e in zip(slot, entries, strict=True)):
        return False
    kernel([flat(e.p.detach()) for e in entries], [flat(e.grad) for e in entries], buffers, rule, hyper, t, maximize)
    return True


def _sgd(
    params: list[Tensor], grads: list[Tensor], buffers: list[list[Tensor]], rule: SGD, hyper: Mapping[str, Any],
    t: float, maximize: bool,
) -> None:  # fmt: skip
    torch._fused_sgd_(
        params, grads, buffers[0] if buffers else [], lr=hyper["lr"], weight_decay=hyper["weight_decay"],
        momentum=hyper["momentum"] if buffers else 0.0, dampening=hyper["dampening"] if buffers else 0.0,
        nesterov=rule.nesterov, maximize=maximize, is_first_step=t == 1,
    )  # fmt: skip


def _adagrad(
    params: list[Tensor], grads: list[Tensor], buffers: list[list[Tensor]], rule: AdaGrad, hyper: Mapping[str, Any],
    t: float, maximize: bool,
) -> None:  # fmt: skip
    torch._fused_adagrad_(
        params, grads, buffers[0], _steps(params, t), lr=hyper["lr"], lr_decay=hyper["lr_decay"],
        weight_decay=hyper["weight_decay"], eps=hyper["eps"], maximize=maximize,
    )  # fmt: skip


def _adam(
    params: list[Tensor], grads: list[Tensor], buffers: list[list[Tensor]], rule: Adam, hyper: Mapping[str, Any],
    t: float, maximize: bool,
) -> None:  # fmt: skip
    kernel = torch._fused_adam_ if rule.decay == "l2" else torch._fused_adamw_
    kernel(
        params, grads, buffers[0], buffers[1], buffers[2] if rule.amsgrad else [], _steps(params, t), lr=hyper["lr"],
        beta1=hyper["beta1"], beta2=hyper["beta2"], weight_decay=hyper["weight_decay"], eps=hyper["eps"],
        amsgrad=rule.amsgrad, maximize=maximize,
    )  # fmt: skip


def _steps(params: list[Tensor], t: float) -> list[Tensor]:
    return [torch.tensor(t, dtype=torch.float64)] * len(params)


_DTYPES = (torch.float32, torch.float64)
_KERNELS: Mapping[type[Rule], Kernel] = {SGD: _sgd, AdaGrad: _adagrad, Adam: _adam, AdamW: _adam}
