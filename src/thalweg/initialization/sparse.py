"""Sparse: each unit listens to exactly k inputs, so that its total input does not depend on how many there are."""

import torch
from torch import Generator, Tensor


def sparse_(weight: Tensor, generator: Generator | None = None, k: int = 15, std: float = 1.0) -> Tensor:
    """Fills the weight in place: k entries of each row ~ N(0, std²), all others 0; returns it.

    Unlike ``torch.nn.init.sparse_``, which zeroes a fraction of each column, every unit gets the same number.

    Arguments:
        weight: ``(n, m)`` or ``(out, in, *kernel)``, a row being one unit's weights.
        generator: source of the draws; torch's global one by default.
        k: non-zero weights a unit; all of them where there are fewer.
        std: standard deviation of the non-zero weights.

    Raises:
        ValueError: k < 1.

    >>> (sparse_(torch.empty(4, 100), k=15) != 0).sum(dim=1).tolist()
    [15, 15, 15, 15]

    Source: Deep Learning, §8.4; Martens 2010.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, not {k}")
    rows = weight.detach().new_zeros(weight.shape[0], weight[0].numel())
    k = min(k, rows.shape[1])
    chosen = torch.rand(rows.shape, generator=generator, device=rows.device).topk(k, dim=1).indices
    draws = torch.empty_like(rows[:, :k]).normal_(0, std, generator=generator)
    return weight.copy_(rows.scatter_(1, chosen, draws).view(weight.shape))
