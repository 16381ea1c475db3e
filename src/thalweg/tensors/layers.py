"""Which layers have weights or scales of the usual kind, and how to see one unit a row in them."""

from torch import Tensor, nn

from thalweg.tensors.private import NormBase

TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
NORMS = (NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
WEIGHTED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, *TRANSPOSED)


def unit_blocks(layer: nn.Module, weight: Tensor) -> list[Tensor]:
    """Returns the weight as views ``(units, inputs, *kernel)``, one a group; a row is what comes into one unit.

    A transposed convolution keeps its inputs first; of g groups each has inputs and units of its own.

    >>> layer = nn.ConvTranspose1d(4, 6, 5, groups=2)
    >>> [tuple(block.shape) for block in unit_blocks(layer, layer.weight)]
    [(3, 2, 5), (3, 2, 5)]
    """
    blocks = weight.chunk(getattr(layer, "groups", 1))
    return [block.transpose(0, 1) for block in blocks] if isinstance(layer, TRANSPOSED) else list(blocks)


def unit_count(layer: nn.Module) -> int:
    """Returns how many units the layer has.

    >>> unit_count(nn.ConvTranspose1d(4, 6, 5, groups=2))
    6
    """
    weight: Tensor = layer.weight  # type: ignore[assignment]
    return sum(len(block) for block in unit_blocks(layer, weight))
