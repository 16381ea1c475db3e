"""He: the gain √2 makes up for the half of its input that a rectifier cuts off."""

from torch import Generator, Tensor

from thalweg.initialization.fans import fans


def he_(weight: Tensor, generator: Generator | None = None) -> Tensor:
    """Fills the weight in place with W ~ N(0, 2/m), m the fan-in; returns it.

    Arguments:
        weight: ``(n, m)`` or ``(out, in, *kernel)``.
        generator: source of the draws; torch's global one by default.

    >>> import torch
    >>> he_(torch.empty(2, 4)).shape
    torch.Size([2, 4])

    Source: He, Zhang, Ren & Sun 2015; the gain that Deep Learning, §8.4, speaks of.
    """
    return weight.normal_(0, (2 / fans(weight)[0]) ** 0.5, generator=generator)
