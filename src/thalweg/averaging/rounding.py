"""Stochastic rounding to bfloat16: up or down by chance, so that what is added is kept on average however small.

An average with a small weight moves at a step by less than half a unit in the last place of bfloat16, 2⁻⁹ of its size:
rounded to the nearest it would stand still for ever. Rounded up with the probability of the rest it moves as it should
in expectation; the price is noise of about √(d u/2), with u such a unit and d the distance |θ − θ̄|. (Kahan's
compensation has less, but keeps the rest in a second bfloat16 tensor: float32 costs no more and is simpler.)
"""

import torch
from torch import Generator, Tensor

PIECE = 2**18  # elements at a time on the CPU, so that what is worked out between stays in its cache


def lerp_rounded_(mean: Tensor, value: Tensor, weight: float, generator: Generator) -> None:
    """Moves a bfloat16 mean towards the value, θ̄ ← θ̄ + w (θ − θ̄), worked out in float32.

    >>> mean = torch.ones(10_000, dtype=torch.bfloat16)
    >>> draws = torch.Generator().manual_seed(0)
    >>> for _ in range(100):
    ...     lerp_rounded_(mean, torch.full((10_000,), 2.0), 0.001, draws)
    >>> round(mean.double().mean().item(), 2), round(2 - 0.999**100, 2)
    (1.1, 1.1)
    """
    pairs = [(mean, value.to(mean.device))]
    if mean.device.type == "cpu" and mean.is_contiguous() and value.is_contiguous():
        pairs = list(zip(*(t.view(-1).split(PIECE) for t in pairs[0]), strict=True))
    for m, v in pairs:
        round_into_(m, m.float().lerp_(v.float(), weight), generator)


def round_into_(target: Tensor, value: Tensor, generator: Generator) -> None:
    """Writes float32 values into a bfloat16 tensor of their shape, each rounded up with the probability of its rest.

    bfloat16 is the upper half of float32: chance is added to the lower half, whose carry rounds, and that half is cut.

    >>> eighth = torch.empty(10_000, dtype=torch.bfloat16)  # of the way from 1 to the next number, 1 + 2⁻⁷
    >>> round_into_(eighth, torch.full((10_000,), 1 + 2**-10), torch.Generator().manual_seed(0))
    >>> eighth.unique().tolist(), round((eighth > 1).double().mean().item(), 2)
    ([1.0, 1.0078125], 0.13)
    """
    draws = torch.empty(-(-value.numel() // 4), dtype=torch.int64, device=generator.device)
    draws.random_(-(2**63), None, generator=generator)  # each is four numbers of 16 bits: drawing takes the time
    chance = draws.to(value.device).view(torch.int16)[: value.numel()].view(value.shape)
    cut = (value.view(torch.int32) + chance).add_(2**15).bitwise_and_(-(2**16)).view(torch.float32)
    # A NaN whose lower half is full would carry into its sign and become a number.
    target.copy_(torch.where(value.isnan(), value, cut))
