"""An image as its patches, and back: where patches overlap their mean counts."""

import torch
from torch import Tensor
from torch.nn.functional import fold, unfold


def patches(image: Tensor, size: int, stride: int = 1) -> Tensor:
    """Returns the square patches of an image, row by row, flattened ``(n, size²)``.

    Arguments:
        image: ``(height, width)``.
        size: of a patch in pixels.
        stride: pixels from one patch to the next.

    Raises:
        ValueError: an image that is not a matrix or is smaller than a patch.

    >>> patches(torch.arange(6.0).view(2, 3), 2).tolist()
    [[0.0, 1.0, 3.0, 4.0], [1.0, 2.0, 4.0, 5.0]]
    """
    if image.dim() != 2 or min(image.shape) < size:
        raise ValueError(f"the image has shape {tuple(image.shape)}: pass a matrix of at least {size} × {size} pixels")
    return unfold(image[None, None], size, stride=stride)[0].T.contiguous()


def from_patches(rows: Tensor, shape: tuple[int, int], size: int, stride: int = 1) -> Tensor:
    """Returns the image ``shape`` whose patches these are, the mean where they overlap, 0 where there are none.

    >>> image = torch.arange(12.0).view(3, 4)
    >>> bool(torch.equal(from_patches(patches(image, 2), (3, 4), 2), image))
    True
    """
    both = torch.stack([rows.T, torch.ones_like(rows.T)])
    total, count = fold(both, shape, size, stride=stride)[:, 0]
    return total / count.clamp(min=1)
