"""How a group of parameters is stepped: by torch's fused kernels where they do what the rule does, else by the rule.

The fused kernels take one pass over memory on a CPU, with nothing to compile.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from thalweg.optim.decay import decayed
from thalweg.optim.entries import Entry, Group
from thalweg.optim.implementations import here, update, update_differentiable, update_traced
from thalweg.optim.matrices import step_matrices
from thalweg.rules.adagrad import AdaGrad
from thalweg.rules.adam import Adam
from thalweg.rules.matrix_rule import MatrixRule
from thalweg.rules.rule import Rule, scalars_of_step
from thalweg.rules.sgd import SGD
from thalweg.tensors.private import foreach_add_, fused_adagrad_, fused_adam_, fused_adamw_, fused_sgd_

DTYPES = (torch.float32, torch.float64)


def step_group(group: Group, rule: Rule, entries: list[Entry], hyper: dict[str, Any], extra: dict[str, Any]) -> None:
    """Steps the entries of a group, in buckets of one device, type, step count and weight decay.

    Arguments:
        hyper: the rule's hyperparameters.
        extra: scalars of clipping, skipping and averaging, and the sums over the whole model that the rule asks for.
    """
    if isinstance(rule, MatrixRule):
        step_matrices(group, rule, entries, hyper, extra)
        return
    spared = {**hyper, "weight_decay": 0}
    if group["differentiable"]:
        for entry in entries:
            update_differentiable(entry, rule, hyper if decayed(group, entry.p) else spared, extra, group["maximize"])
        return
    if torch.compiler.is_compiling() or group["capturable"]:
        for entry in entries:
            update_traced(entry, rule, hyper if decayed(group, entry.p) else spared, extra, group["maximize"])
        return
    buckets: dict[tuple[Any, ...], list[Entry]] = {}
    for entry in entries:
        p, state = entry.p, entry.state
        scalars = [float(state[name]) for name in rule.scalar_state]
        key = (p.device, p.dtype, decayed(group, p), float(state["step"]), *scalars)
        buckets.setdefault(key, []).append(entry)
    for (device, _, has_decay, t, *carried), members in buckets.items():
        steps: Any = t + 1
        if "ok" in extra:
            steps = t + 1 - _skipped(members, extra["ok"], rule).to(device, torch.float64)
        given = hyper if has_decay else spared
        foreach_add_([e.state["step"] for e in members], 1)
        alone = group["engine"] == "auto" and not extra
        if alone and step_fused(members, rule, given, steps, group["maximize"]):
            continue
        c, new = scalars_of_step(rule, given, steps, dict(zip(rule.scalar_state, carried, strict=True)))
        for name, value in new.items():
            for entry in members:
                entry.state[name].fill_(value)
        update(members, rule, {**c, **extra}, group)


def _skipped(entries: list[Entry], ok: Tensor, rule: Rule) -> Tensor:
    """Returns how many steps these parameters skipped before this one, counted where they are; counts this one."""
    if rule.scalar_state:
        raise RuntimeError(f"{rule.name} keeps a scalar on the host from step to step: omit skip_nonfinite")
    counts = [e.state.setdefault("skipped", torch.zeros((), device=e.p.device)) for e in entries]
    before = counts[0].clone()
    foreach_add_(counts, [(1 - ok).to(c.device) for c in counts])
    return before


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
