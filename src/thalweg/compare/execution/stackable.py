"""Which models can be trained in lanes, as far as their modules show."""

from collections.abc import Collection

import torch
from torch import Tensor, nn

from thalweg.compare.execution.attributes import Attributes
from thalweg.compare.execution.context import TaskContext
from thalweg.compare.execution.stacked_form import Unrolled
from thalweg.normalization import BatchNorm
from thalweg.tensors.draws import own_draws
from thalweg.tensors.private import BatchNormBase


class Unstackable(Exception):
    """The model cannot be trained in lanes; the message is the reason."""


def unstackable_reason(model: nn.Module) -> str | None:
    """Returns why lanes cannot train the model, as far as its modules show, or None."""
    for name, module in model.named_modules():
        if isinstance(module, BatchNormBase) and not isinstance(module, BatchNorm):
            what = f"{name or 'the model'} is a {type(module).__name__}"
            return f"{what}, which updates its running statistics in place"
        if isinstance(module, nn.RNNBase) and not isinstance(module, Unrolled):
            return f"{name or 'the model'} is a {type(module).__name__}, whose fused kernel has no stacked form"
    return None


def unlike_reason(context: TaskContext, stacked: Collection[str]) -> str | None:
    """Returns why models have not in common what all lanes share, beside the buffers that are ``stacked``, or None."""
    one, two = (context.fresh_model("default", seed).train() for seed in (0, 1))
    with own_draws(0), torch.set_grad_enabled(context.task.step is not None):
        before = _shared(one, stacked)
        for name, value in _shared(two, stacked).items():
            if not _equal(before.get(name), value):
                return f"{name} is not trained, and each seed draws it anew"
        kept = Attributes(one)
        for row in context.batches(0, 0, 2).flatten(0, -2) if context.task.accumulate > 1 else context.batches(0, 0, 2):
            before = _shared(one, stacked)
            context.task.loss_and_output(one, context.data.train.batch(row))
        for name, value in _shared(one, stacked).items():
            if name in before and not _equal(before[name], value):
                return f"the model keeps {name} from batch to batch"
        if changed := [*kept.changed(one), *kept.unsaved(one)]:
            return f"the model keeps {changed[0].removeprefix('.')} from batch to batch"
    return None


def _shared(model: nn.Module, stacked: Collection[str]) -> dict[str, Tensor]:
    """Returns copies of all tensors of the model that are not trained: parameters, buffers, and plain attributes."""
    found = {n: p for n, p in model.named_parameters() if not p.requires_grad} | dict(model.named_buffers())
    for name, module in model.named_modules():
        own = {key: value for key, value in vars(module).items() if isinstance(value, Tensor)}
        found |= {f"{name}.{key}" if name else key: value for key, value in own.items()}
    return {name: value.detach().clone() for name, value in found.items() if name not in stacked}


def _equal(one: Tensor | None, two: Tensor) -> bool:
    alike = one is not None and one.shape == two.shape and one.dtype == two.dtype
    return alike and one is not None and torch.allclose(one, two, 0, 0, equal_nan=True)
