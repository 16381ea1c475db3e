"""Batch-norm statistics of stacked models: those of every slot, and their averages where the average is judged."""

from collections.abc import Mapping

from torch import Tensor, nn

from thalweg.compare.execution.trial_state import TrialState
from thalweg.normalization import BatchNorm


class LaneBuffers:
    """Statistics ``(width, …)`` by name.

    Attributes:
        now: as they are in training.
        mean: averaged with the weights of the parameters' average; integers stay as they began.
    """

    def __init__(self, model: nn.Module, width: int) -> None:
        self.fresh = {
            f"{name}.{own}" if name else own: b
            for name, module in model.named_modules()
            if isinstance(module, BatchNorm)
            for own, b in module.named_buffers(recurse=False)
        }
        self.now = {name: b.expand(width, *b.shape).clone() for name, b in self.fresh.items()}
        self.mean = {name: b.clone() for name, b in self.now.items()}

    def enter(self, slot: int, state: TrialState) -> None:
        """Puts the statistics of a trial into the slot."""
        for name, fresh in self.fresh.items():
            self.now[name][slot] = now = state.buffer(name, fresh)
            self.mean[name][slot] = state.buffer_mean(name, now)

    def average(self, part: slice, weights: Tensor) -> None:
        """Takes the statistics of some slots into their averages with weights ``(slots,)``."""
        for name, now in self.now.items():
            if now.is_floating_point():
                mean = self.mean[name][part]
                mean.lerp_(now[part], weights.view(-1, *[1] * (now.dim() - 1)))

    def shown(self, averaged: list[slice]) -> dict[str, Tensor]:
        """Returns the statistics that are judged: the averages in these slots."""
        if not averaged or not self.now:
            return self.now
        found = {name: now.clone() for name, now in self.now.items()}
        for name, values in found.items():
            for part in averaged:
                values[part] = self.mean[name][part]
        return found


def rows(buffers: Mapping[str, Tensor], slots: list[int]) -> dict[str, Tensor]:
    """Returns the statistics of some slots.

    >>> import torch
    >>> rows({"mean": torch.arange(3)}, [2])
    {'mean': tensor([2])}
    """
    return {name: values[slots] for name, values in buffers.items()}
