"""Linear layers that are made when their input is first seen: their start, from a fixed seed, and the plainest head."""

import torch
from torch import Generator, Tensor, nn


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


class PositionMean(nn.Module):
    """The mean over all dimensions after the channels: ``(N, C, …)`` to ``(N, C)``.

    >>> PositionMean()(torch.arange(8.0).view(1, 2, 2, 2))
    tensor([[1.5000, 5.5000]])
    """

    def forward(self, x: Tensor) -> Tensor:
        """Returns the means ``(N, C)``.

        Raises:
            TypeError: a layer that gives several tensors.
        """
        if isinstance(x, (tuple, list, dict)):
            raise TypeError(f"the layer returns a {type(x).__name__}, not a tensor: pass your own head for it")
        return x.unsqueeze(-1).flatten(2).mean(dim=2)


class SeededLinear(nn.LazyLinear):
    """``nn.LazyLinear`` with weights N(0, 1/fan-in) from a seed and biases 0; a plain ``nn.Linear`` once made.

    >>> layer = SeededLinear(2, seed=0)
    >>> _ = layer(torch.ones(1, 3))
    >>> layer
    Linear(in_features=3, out_features=2, bias=True)
    """

    def __init__(self, out_features: int, seed: int) -> None:
        super().__init__(out_features)
        self.seed = seed

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draws, once the number of inputs is known."""
        if self.in_features and not self.has_uninitialized_params():
            self.weight.copy_(linear_start(tuple(self.weight.shape), self.seed))
            self.bias.zero_()


def pooled_linear(outputs: int, seed: int) -> nn.Module:
    """Returns the head: features ``(N, C, …)`` to ``(N, outputs)``."""
    return nn.Sequential(PositionMean(), SeededLinear(outputs, seed))
