"""How linear layers start that are made when their input is first seen: drawn from a seed that was fixed before."""

import torch
from torch import Generator, Tensor


def draw_seed(generator: Generator | None) -> int:
    """Returns a seed from the generator, torch's global one by default."""
    return int(torch.randint(2**62, (), generator=generator))


def linear_start(shape: tuple[int, ...], seed: int) -> Tensor:
    """Returns a weight from N(0, 1/fan-in), under which outputs vary as much as inputs, drawn on the CPU.

    >>> round(linear_start((200, 300, 1, 1), seed=0).std().item() * 300**0.5, 2)
    1.0
    """
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return weight / weight[0].numel() ** 0.5
