"""Fan-in and fan-out of a weight."""

from torch import Tensor


def fans(weight: Tensor) -> tuple[int, int]:
    """Returns (m, n): how many inputs feed a unit and how many units an input feeds.

    Arguments:
        weight: ``(n, m)`` of a dense layer, ``(out, in, *kernel)`` of a convolution, where the kernel's
            size multiplies both. A row is what comes into one unit.

    Raises:
        ValueError: fewer than two dimensions.

    >>> import torch
    >>> fans(torch.empty(8, 3, 5, 5))
    (75, 200)
    """
    if weight.dim() < 2:
        raise ValueError(f"a weight of shape {tuple(weight.shape)} has no fan-in: it needs at least two dimensions")
    kernel = weight[0, 0].numel()
    return weight.shape[1] * kernel, weight.shape[0] * kernel
