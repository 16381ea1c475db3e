"""Identity: a layer that starts by handing on what it gets."""

import torch
from torch import Generator, Tensor

from thalweg.initialization.kernel import blocks_at_centre


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
