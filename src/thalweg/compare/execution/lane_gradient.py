"""The gradient of stacked models, each on its own minibatches, as one function that may be compiled."""

from collections.abc import Callable, Collection, Sequence

import torch
from torch import Tensor, nn
from torch.func import grad_and_value, vmap

from thalweg.compare.execution.context import TaskContext
from thalweg.compare.execution.kernels import clipping
from thalweg.compare.execution.lane_scores import Called, in_common
from thalweg.compare.task.examples import Batch, HeldSplit, input_of, target_of
from thalweg.normalization import stateless_call
from thalweg.tensors.compiling import compiled

Buffers = dict[str, Tensor]
Gradient = Callable[[Tensor, Buffers, Tensor], tuple[Tensor, Tensor, Buffers]]


def gradient_kernel(context: TaskContext, model: nn.Module, stacked: Collection[str], compile_: bool) -> Gradient:
    """Returns ``(flat, buffers, rows) -> losses, flat gradients, buffers`` of stacked models.

    Arguments:
        context: of the task.
        model: in training mode.
        stacked: names of the buffers that each has of its own.
        compile_: whether it is compiled: with the gathering of examples where they are in memory.
    """
    train, task = context.data.train, context.task
    of_batch = _of_batch(context, model, list(stacked))

    def of_parts(flat: Tensor, buffers: Buffers, parts: Sequence[Batch]) -> tuple[Tensor, Tensor, Buffers]:
        losses, grads, buffers = of_batch(flat, buffers, parts[0])
        for part in parts[1:]:
            more, others, buffers = of_batch(flat, buffers, part)
            losses, grads = losses + more, grads + others
        if len(parts) > 1:
            losses, grads = losses / len(parts), grads / len(parts)
        if task.clip_norm is not None:
            grads = grads * clipping(grads, task.clip_norm)
        return losses, grads, buffers

    def batches(rows: Tensor) -> list[Batch]:
        return [train.batch(rows)] if task.accumulate == 1 else [train.batch(part) for part in rows.unbind(1)]

    def gathering(flat: Tensor, buffers: Buffers, rows: Tensor) -> tuple[Tensor, Tensor, Buffers]:
        return of_parts(flat, buffers, batches(rows))

    if isinstance(train, HeldSplit):
        return compiled(gathering, context.device, unguarded=True) if compile_ else gathering
    step = compiled(of_parts, context.device, unguarded=True) if compile_ else of_parts
    return lambda flat, buffers, rows: step(flat, buffers, batches(rows))


def _of_batch(
    context: TaskContext, model: nn.Module, stacked: Sequence[str]
) -> Callable[[Tensor, Buffers, Batch], tuple[Tensor, Tensor, Buffers]]:
    """Returns the losses and gradients of stacked models, each on a batch of its own."""
    layout, task, called = context.layout, context.task, Called(model, context.task.step_loss)
    frozen, there = in_common(model, stacked), torch.empty(0, device=context.device)
    randomness = "different" if context.is_random() else "error"

    def loss(named: dict[str, Tensor], buffers: Buffers, batch: Batch) -> tuple[Tensor, Buffers]:
        tensors = {**named, **frozen, **buffers}
        with task.autocast(there):
            if task.step is not None:
                value, after = stateless_call(called, called.named(tensors), (batch,))
                return value, {name: after[called.name(name)] for name in stacked}
            output, after = stateless_call(model, tensors, (input_of(batch),))
            value = task.training_loss(model, output, target_of(batch))
            return value, {name: after[name] for name in stacked}

    def of_batch(flat: Tensor, buffers: Buffers, batch: Batch) -> tuple[Tensor, Tensor, Buffers]:
        gradient = vmap(grad_and_value(loss, has_aux=True), randomness=randomness)
        grads, (losses, buffers) = gradient(layout.unflatten(flat), buffers, batch)
        return losses, layout.flatten(grads), buffers

    return of_batch
