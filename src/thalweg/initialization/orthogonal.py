"""Orthogonal: every layer keeps the length of what passes, so that depth alone neither shrinks nor blows up."""

import torch
from torch import Generator, Tensor, nn


@torch.no_grad()
def orthogonal_(weight: Tensor, generator: Generator | None = None, gain: float = 1.0) -> Tensor:
    """Fills the weight in place with gain·Q, Q of orthonormal rows or columns, whichever are fewer; returns it.

    Q is uniform over the orthogonal matrices; of a complex weight it is unitary.

    Arguments:
        weight: ``(n, m)`` or ``(out, in, *kernel)``, a row being one unit's weights.
        generator: source of the draws; torch's global one by default.
        gain: factor for the nonlinearity; 1 is the published form, √2 suits rectifiers.

    >>> w = orthogonal_(torch.empty(3, 5, dtype=torch.float64))
    >>> torch.allclose(w @ w.T, torch.eye(3, dtype=torch.float64))
    True

    Source: Deep Learning, §8.4; Saxe, McClelland & Ganguli 2013.
    """
    if not weight.is_complex():
        nn.init.orthogonal_(weight, gain, generator=generator)
        return weight
    draws = torch.empty(len(weight), weight[0].numel(), dtype=weight.dtype, device=weight.device)
    draws.normal_(generator=generator)
    wide = draws.shape[0] < draws.shape[1]
    q, r = torch.linalg.qr(draws.mH if wide else draws)
    q = q * r.diagonal().sgn()  # by which Q is uniform
    return weight.copy_((q.mH if wide else q).reshape(weight.shape)).mul_(gain)
