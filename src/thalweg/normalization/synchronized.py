"""Moments of one batch that is spread over processes: local ones, joined by Chan's rule in one reduction.

    n = Σ_r n_r,    μ = Σ_r n_r μ_r / n,    σ² = Σ_r (M_r + n_r (μ_r − μ)²) / n,    M_r = Σ (H − μ_r)²

Gradients pass through the reduction: the loss of each process depends on the examples of all.

Source: Chan, Golub & LeVeque 1979.
"""

from typing import Any

import torch
from torch import Tensor, distributed


def joined_moments(x: Tensor, group: "distributed.ProcessGroup") -> tuple[Tensor, Tensor, int]:
    """Returns the channels' means and biased variances over all processes, and the number of values in each.

    Every process of the group has to call; one without examples passes an empty tensor.

    Arguments:
        x: this process's part, ``(N, C, *extent)``; only N may differ between processes.
        group: the processes.
    """
    dims = (0, *range(2, x.dim()))
    count = x.new_tensor([x.numel() // x.shape[1]])
    own = x.sum(dims, keepdim=True) / count.clamp(min=1)
    spread = (x - own).square().sum(dims, keepdim=True)
    row = torch.cat([count, own.flatten(), spread.flatten()])
    place = torch.arange(distributed.get_world_size(group), device=x.device) == distributed.get_rank(group)
    table: Tensor = _Sum.apply(place[:, None] * row, group)
    counts, means, spreads = table.split([1, x.shape[1], x.shape[1]], dim=1)
    total = counts.sum()
    mean = (counts * means).sum(dim=0) / total.clamp(min=1)
    var = (spreads + counts * (means - mean).square()).sum(dim=0) / total.clamp(min=1)
    return mean.view_as(own), var.view_as(own), int(total)


class _Sum(torch.autograd.Function):
    """Sum over processes; its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: "distributed.ProcessGroup") -> Tensor:
        ctx.group = group
        total = x.clone()
        distributed.all_reduce(total, group=group)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        return _Sum.apply(gradient, ctx.group), None
