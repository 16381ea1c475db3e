"""A small positive bias: a rectifier that starts active for most inputs learns from most of them."""

import torch
from torch import Tensor

from thalweg.tensors.ranges import is_within


@torch.no_grad()
def rectifier_bias_(bias: Tensor, value: float = 0.1) -> Tensor:
    """Fills the bias of a layer of rectifiers in place with one small positive value; returns it.

    The weights break the symmetry: unlike :func:`~thalweg.initialization.constant_` on a weight, this one is to train.
    Not for weights drawn by a scheme that expects no strong input from the biases, such as Sussillo's random walk.

    Arguments:
        bias: any shape.
        value: the value, above 0.

    Raises:
        ValueError: a value that is not positive.

    >>> rectifier_bias_(torch.empty(2))
    tensor([0.1000, 0.1000])

    Source: Deep Learning, §8.4 (avoiding saturation at initialization).
    """
    if not (is_within(value, 0) and value > 0):
        raise ValueError(f"the value must be positive to keep rectifiers active, not {value}")
    return bias.fill_(value)
