"""Too large: the scale at which signals explode and saturating units saturate. Here to show just this."""

import torch
from torch import Generator, Tensor

from thalweg.initialization.fans import fans


@torch.no_grad()
def too_large_(weight: Tensor, generator: Generator | None = None, gain: float = 10.0) -> Tensor:
    """Fills the weight in place with W ~ N(0, gain²/m): each layer multiplies its input by about the gain; returns it.

    Arguments:
        weight: ``(n, m)`` or ``(out, in, *kernel)``.
        generator: source of the draws; torch's global one by default.
        gain: factor a layer; a perturbation of the input grows by it at each layer.

    >>> import torch
    >>> too_large_(torch.empty(2, 4)).shape
    torch.Size([2, 4])

    Source: Deep Learning, §8.4 (exploding values, chaos).
    """
    return weight.normal_(0, gain / fans(weight)[0] ** 0.5, generator=generator)
