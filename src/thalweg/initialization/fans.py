"""Fan-in and fan-out of a weight, and a uniform draw of a bound that follows from them."""

import torch
from torch import Generator, Tensor


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


def fill_uniform_(weight: Tensor, bound: float, generator: Generator | None = None) -> Tensor:
    """Fills the weight in place with U(−bound, bound); real and imaginary part of a complex one share the variance.

    >>> torch.manual_seed(0)
    <torch._C.Generator object at ...>
    >>> w = fill_uniform_(torch.empty(10_000, dtype=torch.complex64), 3.0)
    >>> round(w.abs().square().mean().item(), 1), round(w.real.square().mean().item(), 1)
    (3.0, 1.5)
    """
    if weight.is_complex():
        torch.view_as_real(weight).uniform_(-bound / 2**0.5, bound / 2**0.5, generator=generator)
        return weight
    return weight.uniform_(-bound, bound, generator=generator)
