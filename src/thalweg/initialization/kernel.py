"""The centre of a convolution's kernel."""

from torch import Tensor


def blocks_at_centre(weight: Tensor, groups: int = 1) -> Tensor:
    """Returns the view ``(groups, out / groups, in / groups)`` of what the kernel's central cell multiplies by.

    Arguments:
        weight: ``(out, in / groups, *kernel)``; a dense layer's has a kernel of no dimensions. The centre of s cells
            is s // 2 counted from 0.
        groups: in how many the convolution splits its channels.

    Raises:
        ValueError: fewer than two dimensions; channels that the groups do not divide.

    >>> import torch
    >>> blocks_at_centre(torch.arange(6.0).view(2, 1, 3), groups=2).flatten()
    tensor([1., 4.])
    """
    if weight.dim() < 2:
        raise ValueError(
            f"a weight of shape {tuple(weight.shape)} maps no channels to others: it needs at least two dimensions"
        )
    if groups < 1 or weight.shape[0] % groups:
        raise ValueError(
            f"{groups} groups do not divide the {weight.shape[0]} channels of the weight's first dimension"
        )
    centre = weight
    for size in weight.shape[2:]:
        centre = centre.select(2, size // 2)
    return centre.unflatten(0, (groups, weight.shape[0] // groups))
