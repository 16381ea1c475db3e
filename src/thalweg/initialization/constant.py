"""Constant: units with the same inputs start equal and stay equal for ever. Here to show just this."""

import torch
from torch import Generator, Tensor


@torch.no_grad()
def constant_(weight: Tensor, generator: Generator | None = None, value: float = 0.1) -> Tensor:
    """Fills the weight in place with one value; returns it. Never use it to train: nothing breaks the symmetry.

    Arguments:
        weight: any shape.
        generator: not used; every scheme takes one.
        value: the value.

    >>> import torch
    >>> constant_(torch.empty(1, 2))
    tensor([[0.1000, 0.1000]])

    Source: Deep Learning, §8.4 (breaking symmetry).
    """
    return weight.fill_(value)
