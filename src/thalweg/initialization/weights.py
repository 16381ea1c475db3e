"""Draws of one weight whose scale follows from its fan-in and fan-out, and two that show why it should.

Glorot's is a compromise between equal variance of activations forward and of gradients backward; He's gain of √2 makes
up for the half of its input that a rectifier cuts off; uniform draws by the fan-in alone are the heuristic of before
2010, and torch's default. Where the scale is too large, signals explode and saturating units saturate; where all
weights are one constant, units with the same inputs start equal and stay equal for ever.
"""

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


@torch.no_grad()
def uniform_fan_in_(weight: Tensor, generator: Generator | None = None) -> Tensor:
    """Fills the weight in place with W ~ U(−1/√m, 1/√m), m the fan-in; returns it.

    Its variance 1/(3m) lets activations shrink with depth.

    Arguments:
        weight: ``(n, m)`` or ``(out, in, *kernel)``.
        generator: source of the draws; torch's global one by default.

    >>> import torch
    >>> bool(uniform_fan_in_(torch.empty(3, 25)).abs().max() <= 0.2)
    True

    Source: Deep Learning, §8.4, equation before 8.23.
    """
    bound = fans(weight)[0] ** -0.5
    return fill_uniform_(weight, bound, generator)


@torch.no_grad()
def glorot_uniform_(weight: Tensor, generator: Generator | None = None, gain: float = 1.0) -> Tensor:
    """Fills the weight in place with W ~ gain · U(−√(6/(m+n)), √(6/(m+n))); returns it.

    Arguments:
        weight: ``(n, m)`` or ``(out, in, *kernel)``.
        generator: source of the draws; torch's global one by default.
        gain: factor for the nonlinearity; 1 is the published form.

    >>> import torch
    >>> bool(glorot_uniform_(torch.empty(2, 4)).abs().max() <= 1)
    True

    Source: Deep Learning, §8.4, equation 8.23; Glorot & Bengio 2010.
    """
    bound = gain * (6 / sum(fans(weight))) ** 0.5
    return fill_uniform_(weight, bound, generator)


@torch.no_grad()
def glorot_normal_(weight: Tensor, generator: Generator | None = None, gain: float = 1.0) -> Tensor:
    """Fills the weight in place with W ~ N(0, gain² 2/(m+n)); returns it.

    Arguments:
        weight: ``(n, m)`` or ``(out, in, *kernel)``.
        generator: source of the draws; torch's global one by default.
        gain: factor for the nonlinearity; 1 is the published form.

    >>> import torch
    >>> glorot_normal_(torch.empty(2, 4)).shape
    torch.Size([2, 4])

    Source: Glorot & Bengio 2010.
    """
    return weight.normal_(0, gain * (2 / sum(fans(weight))) ** 0.5, generator=generator)


@torch.no_grad()
def he_(weight: Tensor, generator: Generator | None = None, gain: float = 2**0.5) -> Tensor:
    """Fills the weight in place with W ~ N(0, gain²/m), m the fan-in; returns it.

    Arguments:
        weight: ``(n, m)`` or ``(out, in, *kernel)``.
        generator: source of the draws; torch's global one by default.
        gain: factor for the nonlinearity, see :func:`thalweg.initialization.gain_of`; √2 for rectifiers.

    >>> import torch
    >>> he_(torch.empty(2, 4)).shape
    torch.Size([2, 4])

    Source: He, Zhang, Ren & Sun 2015; the gain that Deep Learning, §8.4, speaks of.
    """
    return weight.normal_(0, gain / fans(weight)[0] ** 0.5, generator=generator)


@torch.no_grad()
def too_large_(weight: Tensor, generator: Generator | None = None, gain: float = 10.0) -> Tensor:
    """Fills the weight in place with W ~ N(0, gain²/m): each layer multiplies its input by about the gain; returns it.

    Arguments:
        weight: ``(n, m)`` or ``(out, in, *kernel)``.
        generator: source of the draws; torch's global one by default.
        gain: factor a layer; a perturbation of the input grows by it at each layer.

    >>> import torch
    >>> too_large_(torch.empty(2, 4)).shape
    torch.Size([2, 4])

    Source: Deep Learning, §8.4 (exploding values, chaos).
    """
    return weight.normal_(0, gain / fans(weight)[0] ** 0.5, generator=generator)


@torch.no_grad()
def constant_(weight: Tensor, generator: Generator | None = None, value: float = 0.1) -> Tensor:
    """Fills the weight in place with one value; returns it. Never use it to train: nothing breaks the symmetry.

    Arguments:
        weight: any shape.
        generator: not used; every scheme takes one.
        value: the value.

    >>> import torch
    >>> constant_(torch.empty(1, 2))
    tensor([[0.1000, 0.1000]])

    Source: Deep Learning, §8.4 (breaking symmetry).
    """
    return weight.fill_(value)
