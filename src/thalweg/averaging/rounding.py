"""Stochastic rounding to bfloat16: up or down by chance, so that what is added is kept on average however small."""

import torch
from torch import Generator, Tensor


def round_into_(target: Tensor, value: Tensor, generator: Generator) -> None:
    """Writes float32 values into a bfloat16 tensor of their shape, each rounded up with the probability of its rest.

    The expectation is the value itself. An average with a small weight moves by less than half a unit in the last
    place of bfloat16, 2⁻⁹ of its size, at a step: rounded to the nearest it would stand still for ever. The price is
    noise: with u such a unit's whole and d the distance |θ − θ̄|, of √(d u/2) or so. (Kahan's compensation has less,
    but keeps the rest in a second bfloat16 tensor: then float32 costs as much and is simpler.)

    bfloat16 is the upper half of float32: chance is added to the lower half, whose carry rounds, and that half is cut.

    >>> mean = torch.empty(1000, dtype=torch.bfloat16)
    >>> round_into_(mean, torch.full((1000,), 1 + 2**-10), torch.Generator().manual_seed(0))
    >>> sorted(set(mean.tolist())), round((mean.double().mean().item() - 1) * 2**10, 1)
    ([1.0, 1.0078125], 0.9)
    """
    chance = torch.randint(2**16, value.shape, dtype=torch.int32, generator=generator, device=generator.device)
    cut = ((value.view(torch.int32) + chance.to(value.device)) & -(2**16)).view(torch.float32)
    # A NaN whose lower half is full would carry into its sign and become a number.
    target.copy_(torch.where(value.isnan(), value, cut))
