"""The criterion by which a run has diverged."""

import torch
from torch import Tensor, nn

from thalweg.compare.user_errors import Stopped

DIVERGED_AT = 10.0  # a loss above this multiple of the run's first loss has diverged


class LoopDiverged(Stopped):
    """A loop's losses have diverged at a step; no ``except Exception`` of the user's holds it up."""

    def __init__(self, step: int) -> None:
        super().__init__(step)
        self.step = step


def first_divergence(losses: Tensor, first: Tensor, usual: float) -> list[int | None]:
    """Returns for each lane the index of its first bad loss, or None.

    A loss is bad when it is not finite or exceeds :data:`DIVERGED_AT` times the lane's first loss, or that many times
    the usual one where the first is nearer to zero, as that of a model which has been trained already.
    Arguments: ``losses`` ``(steps, lanes)``, ``first`` ``(lanes,)``, ``usual`` see :meth:`TaskContext.usual_loss`.
    """
    limit = first + (DIVERGED_AT - 1) * first.abs().clamp_min(usual)
    bad = ~(losses <= limit) | losses.isinf()
    indices = bad.int().argmax(dim=0)
    return [int(i) if hit else None for i, hit in zip(indices.tolist(), bad.any(dim=0).tolist(), strict=True)]


@torch.no_grad()
def shuffle(model: nn.Module) -> None:
    """Permutes each parameter, so that the model has learned nothing: its losses are those of an untrained one."""
    own = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        order = torch.randperm(parameter.numel(), generator=own)
        if bool((order == torch.arange(len(order))).all()):  # as may happen to two or three
            order = order.roll(1)
        parameter.copy_(parameter.reshape(-1)[order.to(parameter.device)].view_as(parameter))
