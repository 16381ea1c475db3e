"""Losses and metrics of stacked models, on all of a part of the data."""

from collections.abc import Callable, Collection
from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from thalweg.compare.execution.context import TaskContext
from thalweg.compare.execution.lane_buffers import rows
from thalweg.compare.task.examples import CHUNK, Split
from thalweg.tensors.compiling import compiled


def in_common(model: nn.Module, stacked: Collection[str]) -> dict[str, Tensor]:
    """Returns what all lanes have in common: frozen parameters, and buffers that no batch changes."""
    shared = {n: p for n, p in model.named_parameters() if not p.requires_grad} | dict(model.named_buffers())
    return {name: t for name, t in shared.items() if name not in stacked}


class Scores:
    """Evaluates stacked models.

    Arguments:
        context: of their data and the model.
        stacked: names of the buffers that each has of its own.
        compile_: whether the evaluation of all slots is compiled.
    """

    def __init__(self, context: TaskContext, stacked: Collection[str], compile_: bool) -> None:
        self.context, self.stacked, self.model = context, stacked, deepcopy(context.model).eval()
        self._metric_stacks = self._metric_can_be_stacked()
        self._validation = self._validation_kernel() if compile_ and self._metric_stacks else None

    def of(self, flat: Tensor, split: Split, buffers: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Returns the losses and the metrics of the rows of ``flat``, with these statistics, on a part of the data."""
        model, frozen = self.model, in_common(self.model, self.stacked)

        def forward(named: dict[str, Tensor], buffers: dict[str, Tensor], part: Tensor) -> Tensor:
            return functional_call(model, {**named, **frozen, **buffers}, (part,))

        def score(outputs: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
            if self._metric_stacks:
                losses, metrics = vmap(self.context.score, in_dims=(0, None))(outputs, target)
                return losses, metrics.reshape(-1)
            scores = [self.context.score(output, target) for output in outputs]
            return torch.stack([loss for loss, _ in scores]), torch.stack([metric.reshape(()) for _, metric in scores])

        named, stacked = self.context.layout.unflatten(flat), vmap(forward, in_dims=(0, 0, None))
        return split.evaluate(lambda part: stacked(named, buffers, part), score, dim=1)

    def of_slots(self, flat: Tensor, buffers: dict[str, Tensor], due: list[int]) -> tuple[list[float], list[float]]:
        """Returns validation losses and metrics of the slots that are due."""
        if self._validation is None:
            losses, metrics = self.of(flat[due], self.context.data.valid, rows(buffers, due))
        else:
            losses, metrics = (scores[due] for scores in self._validation(flat, buffers))
        return losses.tolist(), metrics.tolist()

    def _validation_kernel(self) -> Callable[[Tensor, dict[str, Tensor]], tuple[Tensor, Tensor]] | None:
        """Returns the compiled evaluation of all slots; None where the data are many, and eager is as fast."""
        valid = self.context.data.valid

        def validation(flat: Tensor, buffers: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
            return self.of(flat, valid, buffers)

        return compiled(validation, self.context.device, unguarded=True) if len(valid) <= CHUNK else None

    def _metric_can_be_stacked(self) -> bool:
        """Says whether vmap takes the user's metric, which may count with anything."""

        def score(output: Tensor, target: Tensor) -> None:
            vmap(self.context.score, in_dims=(0, None))(output.expand(2, *output.shape), target)

        try:
            self.context.data.valid.first(2).evaluate(self.model, score)
        except Exception:
            return False
        return True
