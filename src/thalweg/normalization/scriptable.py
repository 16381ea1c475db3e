"""Batch normalization in the words that torch.jit.script knows."""

from torch import Tensor, nn
from torch.nn import functional


class Scriptable(nn.modules.batchnorm._BatchNorm):
    """What :class:`~thalweg.normalization.BatchNorm` computes over whole batches, with its parameters and statistics.

    Arguments:
        norm: the normalization, with channels in its dimension ``dim``.
    """

    dim: int

    def __init__(self, norm: nn.modules.batchnorm._BatchNorm) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats, "meta")
        self._parameters, self._buffers = norm._parameters, norm._buffers
        self.dim, self.training = int(norm.dim), norm.training  # type: ignore[arg-type]

    def forward(self, input: Tensor) -> Tensor:
        """Returns the normalized input."""
        factor = 0.0 if self.momentum is None else self.momentum
        if self.training and self.track_running_stats and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            if self.momentum is None:
                factor = 1.0 / float(self.num_batches_tracked)
        keeps = not self.training or self.track_running_stats
        y = functional.batch_norm(
            input.movedim(self.dim, 1),
            self.running_mean if keeps else None,
            self.running_var if keeps else None,
            self.weight, self.bias, self.training or self.running_mean is None, factor, self.eps,
        )  # fmt: skip
        return y.movedim(1, self.dim)
