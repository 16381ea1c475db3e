"""The plainest head: the mean over all positions, and a linear layer that is made when it first sees its input."""

import torch
from torch import Tensor, nn

from thalweg.architecture.linear_start import linear_start


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
