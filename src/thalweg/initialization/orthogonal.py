"""Starts that keep the length of what passes, so that depth alone neither shrinks nor blows it up: orthogonal, or 1."""

import torch
from torch import Generator, Tensor, nn


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
            f"a weight of shape {tuple(weight.shape)} does not map channels to channels: it needs at least two "
            "dimensions"
        )
    if groups < 1 or weight.shape[0] % groups:
        raise ValueError(
            f"{groups} groups do not divide the {weight.shape[0]} channels of the weight's first dimension"
        )
    centre = weight
    for size in weight.shape[2:]:
        centre = centre.select(2, size // 2)
    return centre.unflatten(0, (groups, weight.shape[0] // groups))


@torch.no_grad()
def orthogonal_(weight: Tensor, generator: Generator | None = None, gain: float = 1.0) -> Tensor:
    """Fills the weight in place with gain·Q, Q of orthonormal rows or columns, whichever are fewer; returns it.

    Q is uniform over the orthogonal matrices; of a complex weight it is unitary.

    Arguments:
        weight: ``(n, m)`` or ``(out, in, *kernel)``, a row being one unit's weights.
        generator: source of the draws; torch's global one by default.
        gain: factor for the nonlinearity; 1 is the published form, √2 suits rectifiers.

    >>> w = orthogonal_(torch.empty(3, 5, dtype=torch.float64))
    >>> torch.allclose(w @ w.T, torch.eye(3, dtype=torch.float64))
    True

    Source: Deep Learning, §8.4; Saxe, McClelland & Ganguli 2013.
    """
    if not weight.is_complex():
        nn.init.orthogonal_(weight, gain, generator=generator)
        return weight
    draws = torch.empty(len(weight), weight[0].numel(), dtype=weight.dtype, device=weight.device)
    draws.normal_(generator=generator)
    wide = draws.shape[0] < draws.shape[1]
    q, r = torch.linalg.qr(draws.mH if wide else draws)
    q = q * r.diagonal().sgn()  # by which Q is uniform
    return weight.copy_((q.mH if wide else q).reshape(weight.shape)).mul_(gain)


@torch.no_grad()
def delta_orthogonal_(weight: Tensor, generator: Generator | None = None, gain: float = 1.0, groups: int = 1) -> Tensor:
    """Fills the weight in place with W[:, :, centre] = gain·Q, QᵀQ = I, all else 0; returns it.

    At stride 1 and a padding of half the kernel, ‖W ∗ x‖ = gain·‖x‖ for every x. An orthogonal matrix spread over the
    whole kernel, as :func:`~thalweg.initialization.orthogonal_` draws, has no such property: pixels overlap.

    Arguments:
        weight: ``(out, in / groups, *kernel)``. The centre of a kernel of s cells is s // 2 counted from 0: the later
            of the middle two if s is even, where a padding of s // 2 keeps every pixel (``padding="same"`` moves the
            image by one, and drops its edge).
        generator: source of the draws, made where it is; torch's global one, on the CPU, by default.
        gain: factor for the nonlinearity; √2 suits rectifiers.
        groups: as the convolution has; each gets a Q of its own.

    Raises:
        ValueError: fewer outputs than inputs in a group, so that some input must be lost; a weight without a kernel;
            channels that the groups do not divide.

    >>> layer = torch.nn.Conv1d(2, 3, 5, padding=2, bias=False, dtype=torch.float64)
    >>> x = torch.randn(2, 7, dtype=torch.float64)
    >>> _ = delta_orthogonal_(layer.weight)
    >>> torch.allclose(layer(x).norm(), x.norm())
    True

    Source: Xiao, Bahri, Sohl-Dickstein, Schoenholz & Pennington 2018; Deep Learning, §8.4 (orthogonal matrices).
    """
    if weight.dim() < 3:
        raise ValueError(f"a weight of shape {tuple(weight.shape)} has no kernel: use orthogonal_")
    blocks = blocks_at_centre(weight, groups)
    outputs, inputs = blocks.shape[1:]
    if outputs < inputs:
        raise ValueError(
            f"{outputs} outputs cannot keep the length of {inputs} inputs{' of a group' if groups > 1 else ''}: "
            f"use at least {inputs} outputs, or orthogonal_"
        )
    weight.zero_()
    device = generator.device if generator is not None else torch.device("cpu")
    for block in blocks:
        # The factorization knows no half precision.
        q = torch.empty(block.shape, dtype=torch.promote_types(weight.dtype, torch.float32), device=device)
        block.copy_(orthogonal_(q, generator, gain))
    return weight


@torch.no_grad()
def identity_(weight: Tensor, generator: Generator | None = None, gain: float = 1.0, groups: int = 1) -> Tensor:
    """Fills the weight in place with W[i, i, centre] = gain, all else 0; returns it.

    A dense layer gets gain·I, a convolution gain times the Dirac delta from each channel to its namesake, as far as
    there are both: what ``torch.nn.init.eye_`` and ``dirac_`` fill in at gain 1. It draws nothing, and units with
    different inputs break the symmetry.

    Arguments:
        weight: ``(n, m)`` or ``(out, in / groups, *kernel)``; a transposed convolution's
            ``(in, out / groups, *kernel)`` serves as it is. The centre of a kernel of s cells is s // 2 counted from
            0: the later of the middle two if s is even, where a padding of s // 2 keeps every pixel in its place, and
            ``padding="same"`` moves the image by one.
        generator: not used; every scheme takes one.
        gain: what the input is multiplied by.
        groups: as the convolution has; each maps its own channels in turn.

    Raises:
        ValueError: fewer than two dimensions; channels that the groups do not divide.

    >>> identity_(torch.empty(2, 3))
    tensor([[1., 0., 0.],
            [0., 1., 0.]])
    >>> identity_(torch.empty(1, 1, 3), gain=2.0)
    tensor([[[0., 2., 0.]]])

    Source: Le, Jaitly & Hinton 2015 (recurrent rectifiers); Deep Learning, §8.4 (keeping the scale of what passes).
    """
    blocks = blocks_at_centre(weight, groups)
    weight.zero_()
    blocks.diagonal(dim1=1, dim2=2).fill_(gain)
    return weight
