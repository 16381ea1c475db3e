"""The way past a residual branch: the identity where shapes agree, else the smallest linear map between them."""

import torch
from torch import Tensor, nn

from thalweg.architecture.linear_start import linear_start
from thalweg.tensors.private import ConvolutionBase

_CONVOLUTIONS = {3: nn.Conv1d, 4: nn.Conv2d, 5: nn.Conv3d}


class Undecided(nn.Module):
    """Stands for a shortcut until a batch shows the shapes; its weight, not yet there, becomes the projection's.

    An optimizer made before the first batch therefore holds the parameter that it is to train, and whatever needs
    to know the parameters' sizes says, in torch's words, that there is an uninitialized one.
    """

    def __init__(self, branch: nn.Module, seed: int) -> None:
        super().__init__()
        like = next(branch.parameters(), torch.empty(0))
        self.weight = nn.UninitializedParameter(device=like.device, dtype=like.dtype)  # type: ignore[call-arg]
        self.convolutional = any(isinstance(module, ConvolutionBase) for module in branch.modules())
        self.seed = seed

    def decide(self, x: Tensor, y: Tensor) -> nn.Module:
        """Returns the shortcut from ``x``, the branch's input, to ``y``, its output.

        Raises:
            ValueError: no linear layer or 1×1 convolution gives that shape.
        """
        if x.shape == y.shape:
            return nn.Identity()
        if self.convolutional and x.dim() == y.dim() and x.dim() in _CONVOLUTIONS:
            strides = tuple(map(_stride, x.shape[2:], y.shape[2:]))
            if x.shape[0] == y.shape[0] and all(strides):
                kind = _CONVOLUTIONS[x.dim()]
                return self._become(kind(x.shape[1], y.shape[1], 1, strides, bias=False, device="meta"))  # type: ignore[arg-type]
        elif x.shape[:-1] == y.shape[:-1]:
            return self._become(nn.Linear(x.shape[-1], y.shape[-1], bias=False, device="meta"))
        raise ValueError(
            f"no {'1×1 convolution' if self.convolutional else 'linear layer'} maps {tuple(x.shape)} to the branch's "
            f"{tuple(y.shape)}: pad the branch so that sizes are kept or divided, or pass shortcut=, a module that does"
        )

    def _become(self, projection: nn.Linear | ConvolutionBase) -> nn.Module:
        shape = tuple(projection.weight.shape)
        with torch.inference_mode(False), torch.no_grad():
            self.weight.materialize(shape)
            self.weight.copy_(linear_start(shape, self.seed))
        projection.weight = self.weight
        return projection


def _stride(before: int, after: int) -> int:
    """Returns the least stride that takes one size to the other, 0 if none does."""
    return next((s for s in range(1, before + 1) if (before - 1) // s + 1 == after), 0)
