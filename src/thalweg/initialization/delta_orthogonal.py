"""Delta-orthogonal: a convolution that keeps the length of every image, at whatever depth."""

import torch
from torch import Generator, Tensor

from thalweg.initialization.kernel import blocks_at_centre
from thalweg.initialization.orthogonal import orthogonal_


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
            f"the layer needs at least {inputs} outputs, or orthogonal_"
        )
    weight.zero_()
    device = generator.device if generator is not None else torch.device("cpu")
    for block in blocks:
        # The factorization knows no half precision.
        q = torch.empty(block.shape, dtype=torch.promote_types(weight.dtype, torch.float32), device=device)
        block.copy_(orthogonal_(q, generator, gain))
    return weight
