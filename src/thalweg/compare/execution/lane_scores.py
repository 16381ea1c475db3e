"""Losses and metrics of stacked models, on all of a part of the data."""

from collections.abc import Callable, Collection
from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from thalweg.compare.execution.context import TaskContext
from thalweg.compare.execution.lane_buffers import rows
from thalweg.tensors.compiling import compiled

CHUNK = 1024  # rows evaluated at once


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

    def of(
        self, flat: Tensor, x: Tensor, y: Tensor, buffers: dict[str, Tensor], chunk: int = CHUNK
    ) -> tuple[Tensor, Tensor]:
        """Returns the losses and the metrics of the rows of ``flat``, with these statistics, on all of (x, y)."""
        model, frozen = self.model, in_common(self.model, self.stacked)

        def forward(named: dict[str, Tensor], buffers: dict[str, Tensor], part: Tensor) -> Tensor:
            return functional_call(model, {**named, **frozen, **buffers}, (part,))

        with torch.no_grad():
            named = self.context.layout.unflatten(flat)
            stacked = vmap(forward, in_dims=(0, 0, None))
            outputs = torch.cat([stacked(named, buffers, x[i : i + chunk]) for i in range(0, len(x), chunk)], dim=1)
            if self._metric_stacks:
                losses, metrics = vmap(self.context.score, in_dims=(0, None))(outputs, y)
                return losses, metrics.reshape(-1)
            scores = [self.context.score(output, y) for output in outputs]
        return torch.stack([loss for loss, _ in scores]), torch.stack([metric.reshape(()) for _, metric in scores])

    def of_slots(self, flat: Tensor, buffers: dict[str, Tensor], due: list[int]) -> tuple[list[float], list[float]]:
        """Returns validation losses and metrics of the slots that are due."""
        data = self.context.data
        if self._validation is None:
            losses, metrics = self.of(flat[due], data.valid_x, data.valid_y, rows(buffers, due))
        else:
            losses, metrics = (scores[due] for scores in self._validation(flat, buffers))
        return losses.tolist(), metrics.tolist()

    def _validation_kernel(self) -> Callable[[Tensor, dict[str, Tensor]], tuple[Tensor, Tensor]] | None:
        """Returns the compiled evaluation of all slots; None where the data are many, and eager is as fast."""
        x, y = self.context.data.valid_x, self.context.data.valid_y

        def validation(flat: Tensor, buffers: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
            return self.of(flat, x, y, buffers)

        return compiled(validation, self.context.device, unguarded=True) if len(x) <= CHUNK else None

    def _metric_can_be_stacked(self) -> bool:
        """Says whether vmap takes the user's metric, which may count with anything."""
        data = self.context.data
        try:
            with torch.no_grad():
                output = self.model(data.valid_x[:2])
                vmap(self.context.score, in_dims=(0, None))(output.expand(2, *output.shape), data.valid_y[:2])
        except Exception:
            return False
        return True
