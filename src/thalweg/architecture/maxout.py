"""Maxout: the largest of k linear pieces, a unit that is linear over large regions and never flat in all directions.

    h_i = max_j z_{ik + j},   j = 0 … k − 1,   z = Wx + b

A rectifier is the maxout of z and 0; where it is off, no gradient comes through. Of k learned pieces one is always on.

Source: Deep Learning, §8.7.5 and §6.3.1; Goodfellow, Warde-Farley, Mirza, Courville & Bengio 2013.
"""

import torch
from torch import Tensor, nn

from thalweg.tensors.ranges import is_whole


def maxout(x: Tensor, pieces: int, dim: int = 1) -> Tensor:
    """Returns the largest of every ``pieces`` neighbours along a dimension; ties share the gradient.

    After a convolution with k times the channels it is the convolutional maxout unit.

    Arguments:
        x: ``(…, units · pieces, …)``.
        pieces: k, how many linear pieces make one unit.
        dim: the dimension that holds them; 1, the channels, by default.

    Returns:
        ``(…, units, …)``.

    Raises:
        ValueError: the dimension cannot be divided into pieces.

    >>> maxout(torch.tensor([[1.0, 3.0, -2.0, -5.0]]), pieces=2)
    tensor([[ 3., -2.]])

    Source: Deep Learning, §6.3.1; Goodfellow et al. 2013.
    """
    try:
        grouped = x.unflatten(dim, (-1, pieces))
    except RuntimeError as error:
        raise ValueError(
            f"dimension {dim} of shape {tuple(x.shape)} does not divide into pieces of {pieces}: pass units · pieces"
        ) from error
    return grouped.amax(dim + 1 if dim >= 0 else dim)


class Maxout(nn.Module):
    """A dense layer of maxout units, h = max_j (W_j x + b_j).

    With two pieces and no bias E h² = E z² for weights symmetric about 0, so that a stack keeps its size at gain 1:
    ``initialize(model, "he", gain=1.0)`` of :mod:`thalweg.initialization`.

    Arguments:
        in_features: inputs.
        out_features: units.
        pieces: k, linear pieces of each unit; parameters and products grow k-fold.
        bias: whether pieces have biases.
        device, dtype: of the parameters.

    Shapes: ``(…, in_features)`` to ``(…, out_features)``.

    Raises:
        ValueError: fewer than one piece.

    >>> layer = Maxout(3, 4, pieces=2)
    >>> layer(torch.randn(5, 3)).shape, layer.linear.weight.shape
    (torch.Size([5, 4]), torch.Size([8, 3]))

    Source: Deep Learning, §8.7.5 and §6.3.1; Goodfellow et al. 2013.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        pieces: int = 2,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if not is_whole(pieces):
            raise ValueError(f"pieces is {pieces}: a maxout unit needs at least one, and is linear with one")
        self.pieces = pieces
        self.linear = nn.Linear(in_features, out_features * pieces, bias, device, dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Returns the units ``(…, out_features)``."""
        return maxout(self.linear(x), self.pieces, dim=-1)
