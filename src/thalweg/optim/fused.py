"""Torch's fused kernels, for the rules that it has one for: one pass over memory on a CPU, with nothing to compile."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from thalweg.optim.entries import Entry
from thalweg.optim.implementations import here
from thalweg.rules.adagrad import AdaGrad
from thalweg.rules.adam import Adam
from thalweg.rules.rule import Rule
from thalweg.rules.sgd import SGD
from thalweg.tensors.private import fused_adagrad_, fused_adam_, fused_adamw_, fused_sgd_

DTYPES = (torch.float32, torch.float64)


def step_fused(entries: list[Entry], rule: Rule, hyper: Mapping[str, Any], t: float, maximize: bool) -> bool:
    """Takes step ``t`` where torch has a kernel that does just what the rule does; says whether it did.

    It does for SGD with momentum or without, AdaGrad and Adam, of plain float32 and float64 tensors on a CPU. The
    results are the rule's to rounding.
    """
    if not isinstance(rule, (SGD, AdaGrad, Adam)) or (isinstance(rule, Adam) and not rule.bias_correction):
        return False
    if any(isinstance(value, Tensor) for value in hyper.values()):
        return False
    entries = [here(e, rule) for e in entries]
    if not all(e.flat and e.p.device.type == "cpu" and e.p.dtype in DTYPES for e in entries):
        return False
    params, grads = [e.p for e in entries], [e.grad for e in entries]
    buffers = [[e.state[name] for e in entries] for name in rule.buffers]
    steps = [torch.tensor(t, dtype=torch.float64)] * len(entries)
    common = {"lr": hyper["lr"], "weight_decay": hyper["weight_decay"], "maximize": maximize}
    if isinstance(rule, SGD):
        fused_sgd_(
            params,
            grads,
            buffers[0] if buffers else [],
            momentum=hyper["momentum"] if buffers else 0.0,
            dampening=hyper["dampening"],
            nesterov=rule.nesterov,
            is_first_step=t == 1,
            **common,
        )
    elif isinstance(rule, AdaGrad):
        fused_adagrad_(params, grads, buffers[0], steps, lr_decay=hyper["lr_decay"], eps=hyper["eps"], **common)
    else:
        kernel = fused_adam_ if rule.decay == "l2" else fused_adamw_
        kernel(
            params,
            grads,
            buffers[0],
            buffers[1],
            buffers[2] if rule.amsgrad else [],
            steps,
            beta1=hyper["beta1"],
            beta2=hyper["beta2"],
            eps=hyper["eps"],
            amsgrad=rule.amsgrad,
            **common,
        )
    return True
