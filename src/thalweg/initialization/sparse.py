"""Sparse: each unit listens to exactly k inputs, so that its total input does not depend on how many there are."""

import torch
from torch import Generator, Tensor

from thalweg.tensors.ranges import is_whole

INPUTS = 15  # of each unit in Martens's experiments


@torch.no_grad()
def sparse_(weight: Tensor, generator: Generator | None = None, k: int = INPUTS, std: float = 1.0) -> Tensor:
    """Fills the weight in place: k entries of each row ~ N(0, std²), all others 0; returns it.

    Every k inputs are equally likely. Unlike ``torch.nn.init.sparse_``, which zeroes a fraction of each column, every
    unit gets the same number, and the generator decides which. The draws are made where the generator is and in double
    precision: one generator gives the same weight on every device, in every layout and, but for rounding, in every
    dtype.

    Arguments:
        weight: ``(n, m)`` or ``(out, in, *kernel)``, a row being one unit's weights; of any strides, so that
            ``layer.weight.transpose(0, 1)`` serves for a transposed convolution.
        generator: source of the draws; torch's global one, on the CPU, by default.
        k: non-zero weights a unit.
        std: standard deviation of the non-zero weights.

    Raises:
        ValueError: k < 1, k beyond the fan-in, fewer than two dimensions.

    >>> (sparse_(torch.empty(4, 100), k=15) != 0).sum(dim=1).tolist()
    [15, 15, 15, 15]

    Source: Deep Learning, §8.4; Martens 2010; Bentley & Floyd 1987 (a sample of brilliance).
    """
    if weight.dim() < 2:
        raise ValueError(f"a weight of shape {tuple(weight.shape)} has no fan-in: it needs at least two dimensions")
    n, m = weight.shape[0], weight.shape[1:].numel()
    if not is_whole(k):
        raise ValueError(f"k must be at least 1, not {k}")
    if k > m:
        raise ValueError(f"k = {k} non-zero weights do not fit a fan-in of {m}: pass k = {m} or less")
    # Whichever are fewer are chosen: the weights to draw, or those to leave out.
    few = 2 * k <= m
    chosen = _subsets(n, m, k if few else m - k, generator)
    wide = torch.complex128 if weight.is_complex() else torch.float64
    draws = torch.empty(n, k if few else m, dtype=wide, device=chosen.device)
    draws = draws.normal_(0, std, generator=generator).to(weight.device, weight.dtype)
    place = torch.arange(n)[:, None], *torch.unravel_index(chosen, weight.shape[1:])
    at = tuple(index.to(weight.device) for index in place)
    if few:
        weight.zero_()[at] = draws
    else:
        weight.copy_(draws.view(weight.shape))[at] = 0
    return weight


def _subsets(n: int, m: int, k: int, generator: Generator | None) -> Tensor:
    """Returns n times k distinct numbers below m, ``(n, k)``, each set equally likely: Floyd's algorithm.

    The i-th draw is among the first m−k+i+1 numbers; one that was taken before gives way to the last of them, which
    cannot have been. All n go along together. The remainder of 62 random bits favours none by more than m/2⁶².
    """
    device = generator.device if generator is not None else torch.device("cpu")
    ends = torch.arange(m - k + 1, m + 1, device=device)[:, None]
    chosen = torch.randint(2**62, (k, n), generator=generator, device=device) % ends
    # Where k² < m, comparing a draw with those before it touches less memory than a table of all m.
    table = torch.zeros(m if k * k >= m else 0, n, dtype=torch.bool, device=device)
    for i, draw in enumerate(chosen):
        taken = table.gather(0, draw[None])[0] if len(table) else (chosen[:i] == draw).any(0)
        draw.masked_fill_(taken, m - k + i)
        if len(table):
            table.scatter_(0, draw[None], True)
    return chosen.T
