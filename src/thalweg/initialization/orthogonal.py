"""Orthogonal: every layer keeps the length of what passes, so that depth alone neither shrinks nor blows up."""

from torch import Generator, Tensor, nn


def orthogonal_(weight: Tensor, generator: Generator | None = None, gain: float = 1.0) -> Tensor:
    """Fills the weight in place with gain·Q, Q of orthonormal rows or columns, whichever are fewer; returns it.

    Arguments:
        weight: ``(n, m)`` or ``(out, in, *kernel)``, a row being one unit's weights.
        generator: source of the draws; torch's global one by default.
        gain: factor for the nonlinearity; √2 suits rectifiers.

    >>> import torch
    >>> w = orthogonal_(torch.empty(3, 5, dtype=torch.float64))
    >>> torch.allclose(w @ w.T, torch.eye(3, dtype=torch.float64))
    True

    Source: Deep Learning, §8.4; Saxe, McClelland & Ganguli 2013.
    """
    nn.init.orthogonal_(weight, gain, generator=generator)
    return weight
