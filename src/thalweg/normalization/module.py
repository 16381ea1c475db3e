"""Batch normalization as a module, in place of torch's three."""

from typing import ClassVar

import torch
from torch import Tensor, distributed
from torch.nn import functional

from thalweg.normalization.batch_norm import Statistics, batch_norm, refuse_single_values
from thalweg.tensors.private import BatchNormBase
from thalweg.tensors.ranges import is_whole, is_within


class BatchNorm(BatchNormBase):
    """y = γ(H − μ)/√(δ + σ²) + β over the minibatch, by running statistics in evaluation; any number of dimensions.

    Stands in for ``nn.BatchNorm1d``, ``2d`` and ``3d``: the same arguments, numbers and ``state_dict``, and to torch's
    own tools it is one of them. In addition it takes ghost batches, batches spread over processes and channels in any
    dimension; half precision takes its statistics in float32 also where γ and β are half.

    Arguments:
        num_features: channels C.
        eps: δ.
        momentum: the share of a new batch in the running statistics; None gives all batches the same.
        affine: whether γ and β are learned; ``bias=False`` leaves β out.
        track_running_stats: whether running statistics are kept; without them evaluation uses the batch.
        device, dtype: of parameters and statistics.
        ghost: examples that share statistics in training, see :func:`batch_norm`; None is the whole batch.
        synchronize: True takes the batches of all processes of torch.distributed as one, a process group those of the
            group. It does nothing in evaluation, nor while torch.distributed is not initialized.
        dim: of the channels; −1 for ``(N, L, C)``. The first dimension is that of the examples.

    Raises:
        ValueError: a setting out of its range, ``ghost`` with ``synchronize``; when called, an input whose channels are
            not C, or in training a single value a channel.

    >>> from torch import nn
    >>> norm = BatchNorm(3)
    >>> x = torch.randn(32, 3, generator=torch.Generator().manual_seed(0))
    >>> y = norm(5 + 2 * x)
    >>> y.mean(dim=0).abs().max().item() < 1e-6, y.var(dim=0, correction=0).sub(1).abs().max().item() < 1e-4
    (True, True)
    >>> _ = norm.load_state_dict(nn.BatchNorm2d(3).state_dict())

    Source: Deep Learning, §8.7.1; Ioffe & Szegedy 2015.
    """

    __jit_unused_properties__: ClassVar = ["statistics"]

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        bias: bool = True,
        ghost: int | None = None,
        synchronize: "bool | distributed.ProcessGroup" = False,
        dim: int = 1,
    ) -> None:
        if ghost is not None and (not is_whole(ghost) or synchronize):
            raise ValueError(f"ghost={ghost}, synchronize={synchronize}: give ghost >= 1, and not both")
        if not is_whole(num_features, 0) or not is_within(eps, 0) or not isinstance(dim, int):
            settings = f"num_features={num_features}, eps={eps}, dim={dim}"
            raise ValueError(f"{settings}: give whole numbers with at least 0 channels, and eps >= 0")
        if momentum is not None and not is_within(momentum, 0, 1):
            raise ValueError(f"momentum={momentum}: give a share in [0, 1], or None")
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype)
        if not bias:
            self.register_parameter("bias", None)
        self.ghost, self.synchronize, self.dim = ghost, synchronize, dim

    @property
    def statistics(self) -> Statistics | None:
        """The running statistics; None where none are kept."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return None
        return Statistics(self.running_mean, self.running_var, self.num_batches_tracked)

    def forward(self, input: Tensor) -> Tensor:
        """Returns the normalized input, and in training brings the running statistics up to date."""
        if torch.jit.is_scripting():  # type: ignore[attr-defined]
            y = self._scripted(input)
        else:
            y = self._normalized(input)
        return y

    def _normalized(self, input: Tensor) -> Tensor:
        x = self._channels_second(input)
        group = self._group() if self.training else None
        by_batch = self.training or self.running_mean is None
        special = self.ghost is not None or group is not None or self.momentum is None or x.dtype.itemsize < 4
        if (by_batch and special and (x.numel() or group is not None)) or torch.compiler.is_compiling():
            y = self._by_function(x, group)
        else:
            if by_batch:
                refuse_single_values(x)
            y = super().forward(x)  # the same with less overhead
        return y if self.dim == 1 else y.movedim(1, self.dim)

    def _by_function(self, x: Tensor, group: "distributed.ProcessGroup | None") -> Tensor:
        before = self.statistics if self.track_running_stats or not self.training else None
        y, after = batch_norm(
            x,
            before,
            self.weight,
            self.bias,
            training=self.training,
            momentum=self.momentum,
            eps=self.eps,
            ghost=self.ghost,
            group=group,
        )
        if before is not None and after is not None and self.training:
            for buffer, value in zip(before, after, strict=True):
                buffer.copy_(value)
        return y

    def _group(self) -> "distributed.ProcessGroup | None":
        """Returns the processes to join with."""
        if not (self.synchronize and distributed.is_available() and distributed.is_initialized()):
            return None
        return distributed.group.WORLD if isinstance(self.synchronize, bool) else self.synchronize

    def _channels_second(self, input: Tensor) -> Tensor:
        channels = self.dim if self.dim >= 0 else self.dim + input.dim()
        if not 0 < channels < input.dim() or input.shape[channels] != self.num_features:
            raise ValueError(
                f"an input of shape {tuple(input.shape)} has no {self.num_features} channels in dimension "
                f"{self.dim}, after the dimension of examples: pass (N, C) or (N, C, *extent), or set dim="
            )
        own = self.weight if self.weight is not None else self.running_mean
        if own is not None and own.device != input.device:
            raise ValueError(f"the input is on {input.device} and the normalization on {own.device}: move one of them")
        return input if channels == 1 else input.movedim(channels, 1)

    def _scripted(self, input: Tensor) -> Tensor:
        """Returns the normalized input by what torch.jit.script knows: of whole batches on one process."""
        if self.ghost is not None or self.synchronize:
            raise ValueError(
                "TorchScript supports neither ghost batches nor processes: set ghost=None and synchronize=False first"
            )
        share = 0.0 if self.momentum is None else self.momentum
        if self.training and self.track_running_stats and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            if self.momentum is None:
                share = 1.0 / float(self.num_batches_tracked)
        keeps, by_batch = not self.training or self.track_running_stats, self.training or self.running_mean is None
        mean, var = self.running_mean if keeps else None, self.running_var if keeps else None
        x = input.movedim(self.dim, 1)
        y = functional.batch_norm(x, mean, var, self.weight, self.bias, by_batch, share, self.eps)
        return y.movedim(1, self.dim)

    def _check_input_dim(self, input: Tensor) -> None:
        """Does nothing: the input has been checked before torch's forward asks."""

    def extra_repr(self) -> str:
        """Returns torch's line and what is set beyond it."""
        own = {"ghost": (self.ghost, None), "synchronize": (bool(self.synchronize), False), "dim": (self.dim, 1)}
        return super().extra_repr() + "".join(f", {k}={value}" for k, (value, usual) in own.items() if value != usual)
