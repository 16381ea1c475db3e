"""Glorot: a compromise between equal variance of activations forward and of gradients backward."""

import torch
from torch import Generator, Tensor

from thalweg.initialization.fans import fans, fill_uniform_


@torch.no_grad()
def glorot_uniform_(weight: Tensor, generator: Generator | None = None, gain: float = 1.0) -> Tensor:
    """Fills the weight in place with W ~ gain · U(−√(6/(m+n)), √(6/(m+n))); returns it.

    Arguments:
        weight: ``(n, m)`` or ``(out, in, *kernel)``.
        generator: source of the draws; torch's global one by default.
        gain: factor for the nonlinearity; 1 is the published form.

    >>> import torch
    >>> bool(glorot_uniform_(torch.empty(2, 4)).abs().max() <= 1)
    True

    Source: Deep Learning, §8.4, equation 8.23; Glorot & Bengio 2010.
    """
    bound = gain * (6 / sum(fans(weight))) ** 0.5
    return fill_uniform_(weight, bound, generator)


@torch.no_grad()
def glorot_normal_(weight: Tensor, generator: Generator | None = None, gain: float = 1.0) -> Tensor:
    """Fills the weight in place with W ~ N(0, gain² 2/(m+n)); returns it.

    Arguments:
        weight: ``(n, m)`` or ``(out, in, *kernel)``.
        generator: source of the draws; torch's global one by default.
        gain: factor for the nonlinearity; 1 is the published form.

    >>> import torch
    >>> glorot_normal_(torch.empty(2, 4)).shape
    torch.Size([2, 4])

    Source: Glorot & Bengio 2010.
    """
    return weight.normal_(0, gain * (2 / sum(fans(weight))) ** 0.5, generator=generator)
