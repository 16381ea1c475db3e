"""He: the gain √2 makes up for the half of its input that a rectifier cuts off."""

import torch
from torch import Generator, Tensor

from thalweg.initialization.fans import fans


@torch.no_grad()
def he_(weight: Tensor, generator: Generator | None = None, gain: float = 2**0.5) -> Tensor:
    """Fills the weight in place with W ~ N(0, gain²/m), m the fan-in; returns it.

    Arguments:
        weight: ``(n, m)`` or ``(out, in, *kernel)``.
        generator: source of the draws; torch's global one by default.
        gain: factor for the nonlinearity, see :func:`thalweg.initialization.gain_of`; √2 for rectifiers.

    >>> import torch
    >>> he_(torch.empty(2, 4)).shape
    torch.Size([2, 4])

    Source: He, Zhang, Ren & Sun 2015; the gain that Deep Learning, §8.4, speaks of.
    """
    return weight.normal_(0, gain / fans(weight)[0] ** 0.5, generator=generator)
