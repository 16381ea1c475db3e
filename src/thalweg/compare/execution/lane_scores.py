"""Losses and metrics of stacked models, on all of a part of the data."""

from collections.abc import Callable, Collection, Iterable, Mapping
from copy import deepcopy
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from thalweg.compare.execution.context import EVALUATION, TaskContext
from thalweg.compare.execution.lane_buffers import rows
from thalweg.compare.execution.stacked_form import stacked_form
from thalweg.compare.task.examples import CHUNK, Batch, HeldSplit, Split
from thalweg.compare.task.nested import size_of
from thalweg.tensors.compiling import compiled
from thalweg.tensors.draws import own_draws


def in_common(model: nn.Module, stacked: Collection[str]) -> dict[str, Tensor]:
    """Returns what all lanes have in common: frozen parameters, and buffers that no batch changes."""
    shared = {n: p for n, p in model.named_parameters() if not p.requires_grad} | dict(model.named_buffers())
    return {name: t for name, t in shared.items() if name not in stacked}


class Called(nn.Module):
    """A function of a model as a module, so that its parameters can be given to it.

    Arguments:
        model: the model.
        function: ``(model, batch) -> value``.
    """

    def __init__(self, model: nn.Module, function: Callable[[nn.Module, Any], Any]) -> None:
        super().__init__()
        self.model, self.function = model, function

    def forward(self, batch: Any) -> Any:
        """Returns the function's value for the model and the batch."""
        return self.function(self.model, batch)

    @staticmethod
    def name(of_model: str) -> str:
        """Returns the name here of a parameter or buffer of the model."""
        return f"model.{of_model}"

    def named(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Returns parameters and buffers of the model by their names here."""
        return {self.name(name): tensor for name, tensor in tensors.items()}


class Scores:
    """Evaluates stacked models.

    Arguments:
        context: of their data and the model.
        stacked: names of the buffers that each has of its own.
        compile_: whether the evaluation of all slots is compiled.
    """

    def __init__(self, context: TaskContext, stacked: Collection[str], compile_: bool) -> None:
        self.context, self.stacked = context, stacked
        self.model = stacked_form(deepcopy(context.model)).eval()
        self._metric_stacks = context.task.step is None and self._metric_can_be_stacked()
        self._validation = self._validation_kernel() if compile_ and self._metric_stacks else None

    def of(self, flat: Tensor, split: Split, buffers: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Returns the losses and the metrics of the rows of ``flat``, with these statistics, on a part of the data."""
        if self.context.task.step is None:
            return self._of_pairs(flat, split, buffers)
        if self.context.task.evaluate is None:
            losses = self._mean_losses(flat, split.chunks(), buffers)
            return losses, losses
        scores = [self._alone(flat[i], split, {name: b[i] for name, b in buffers.items()}) for i in range(len(flat))]
        losses, metrics = torch.tensor(scores, dtype=torch.float64).unbind(1)
        return losses, metrics

    def of_slots(self, flat: Tensor, buffers: dict[str, Tensor], due: list[int]) -> tuple[list[float], list[float]]:
        """Returns validation losses and metrics of the slots that are due."""
        if self._validation is None:
            losses, metrics = self.of(flat[due], self.context.data.valid, rows(buffers, due))
        else:
            losses, metrics = (scores[due] for scores in self._validation(flat, buffers))
        return losses.tolist(), metrics.tolist()

    def try_one(self, flat: Tensor, buffers: dict[str, Tensor]) -> None:
        """Evaluates a stacked model on very few examples. Raises where torch cannot stack what that takes."""
        valid = self.context.data.valid
        if self.context.task.step is not None:
            self._mean_losses(flat, islice(valid.chunks(), 1), buffers)
        elif isinstance(valid, HeldSplit):
            self._of_pairs(flat, valid.first(2), buffers)
        else:
            self._of_pairs(flat, HeldSplit(tuple(valid.head(2))), buffers)

    def _of_pairs(self, flat: Tensor, split: Split, buffers: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        model, frozen = self.model, in_common(self.model, self.stacked)

        def forward(named: dict[str, Tensor], buffers: dict[str, Tensor], part: Tensor) -> Tensor:
            with self.context.task.autocast(part):
                output: Tensor = functional_call(model, {**named, **frozen, **buffers}, (part,))
            return output if self.context.task.precision == "fp32" else output.float()

        def score(outputs: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
            if self._metric_stacks:
                losses, metrics = vmap(self.context.score, in_dims=(0, None))(outputs, target)
                return losses, metrics.reshape(-1)
            scores = [self.context.score(output, target) for output in outputs]
            return torch.stack([loss for loss, _ in scores]), torch.stack([metric.reshape(()) for _, metric in scores])

        named, stacked = self.context.layout.unflatten(flat), vmap(forward, in_dims=(0, 0, None))
        return split.evaluate(lambda part: stacked(named, buffers, part), score, dim=1)

    def _mean_losses(self, flat: Tensor, batches: Iterable[Batch], buffers: dict[str, Tensor]) -> Tensor:
        """Returns the means over all examples of the losses of the task's step."""
        called, frozen = Called(self.model, self.context.task.step_loss), in_common(self.model, self.stacked)

        def loss(named: dict[str, Tensor], buffers: dict[str, Tensor], batch: Batch) -> Tensor:
            with self.context.task.autocast(batch):
                value: Tensor = functional_call(called, called.named({**named, **frozen, **buffers}), (batch,))
            return value

        named, stacked = self.context.layout.unflatten(flat), vmap(loss, in_dims=(0, 0, None), randomness="same")
        total, count = torch.zeros(len(flat), device=flat.device, dtype=torch.float64), 0
        with own_draws(EVALUATION), torch.no_grad():
            for batch in batches:
                size = max(1, size_of(batch))
                total, count = total + stacked(named, buffers, batch).double() * size, count + size
        return total / count

    def _alone(self, flat: Tensor, split: Split, buffers: dict[str, Tensor]) -> tuple[float, float]:
        """Returns loss and metric of one model by the task's own evaluation."""
        model = deepcopy(self.model)
        model.load_state_dict({**self.context.layout.unflatten(flat), **buffers}, strict=False)
        return self.context.evaluate(model, split)

    def _validation_kernel(self) -> Callable[[Tensor, dict[str, Tensor]], tuple[Tensor, Tensor]] | None:
        """Returns the compiled evaluation of all slots; None where the data are many, and eager is as fast."""
        valid = self.context.data.valid

        def validation(flat: Tensor, buffers: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
            return self._of_pairs(flat, valid, buffers)

        is_small = isinstance(valid, HeldSplit) and len(valid) <= CHUNK
        return compiled(validation, self.context.device, unguarded=True) if is_small else None

    def _metric_can_be_stacked(self) -> bool:
        """Says whether vmap takes the user's metric, which may count with anything."""

        def score(output: Tensor, target: Tensor) -> None:
            vmap(self.context.score, in_dims=(0, None))(output.expand(2, *output.shape), target)

        try:
            head = self.context.data.valid.head(2)
            HeldSplit(tuple(part[:2] for part in head)).evaluate(self.model, score)
        except Exception:
            return False
        return True
