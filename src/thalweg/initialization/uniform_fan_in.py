"""U(−1/√m, 1/√m): the heuristic of before 2010, and torch's default for dense layers."""

import torch
from torch import Generator, Tensor

from thalweg.initialization.fans import fans, fill_uniform_


@torch.no_grad()
def uniform_fan_in_(weight: Tensor, generator: Generator | None = None) -> Tensor:
    """Fills the weight in place with W ~ U(−1/√m, 1/√m), m the fan-in; returns it.

    Its variance 1/(3m) lets activations shrink with depth.

    Arguments:
        weight: ``(n, m)`` or ``(out, in, *kernel)``.
        generator: source of the draws; torch's global one by default.

    >>> import torch
    >>> bool(uniform_fan_in_(torch.empty(3, 25)).abs().max() <= 0.2)
    True

    Source: Deep Learning, §8.4, equation before 8.23.
    """
    bound = fans(weight)[0] ** -0.5
    return fill_uniform_(weight, bound, generator)
