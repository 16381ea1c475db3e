"""Batch normalization as a pure function: each unit with mean 0 and deviation 1 over the minibatch.

    μ = (1/m) Σ_i H_i,    σ² = (1/m) Σ_i (H_i − μ)²,    H' = (H − μ) / √(δ + σ²),    y = γH' + β

Gradients flow through μ and σ, so that no step of the layers before is spent on changing a unit's mean or deviation.
The running statistics, for use on single examples, are an exponential average, or with ``momentum=None`` the mean
over the batches: mean ← (1 − momentum) mean + momentum μ, var alike with the unbiased m/(m−1) σ².

δ is ``eps``, γ ``weight``, β ``bias``. The statistics go in and come out; nothing is written in place.

Source: Deep Learning, §8.7.1; Ioffe & Szegedy 2015; ghost batches: Hoffer, Hubara & Soudry 2017, algorithm 1.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, distributed
from torch.nn import functional

from thalweg.tensors.ranges import is_whole

Moments = tuple[Tensor, Tensor]


class Statistics(NamedTuple):
    """Running statistics of a layer's inputs.

    Attributes:
        mean, var: of each channel, ``(C,)``; the variance is unbiased.
        batches: how many minibatches went into them, an integer without dimensions.
    """

    mean: Tensor
    var: Tensor
    batches: Tensor

    @classmethod
    def fresh(cls, channels: int, dtype: torch.dtype | None = None, device: torch.device | None = None) -> "Statistics":
        """Returns mean 0 and variance 1 over no batch."""
        return cls(
            torch.zeros(channels, dtype=dtype, device=device),
            torch.ones(channels, dtype=dtype, device=device),
            torch.zeros((), dtype=torch.long, device=device),
        )


def batch_norm(
    x: Tensor,
    statistics: Statistics | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    *,
    training: bool,
    momentum: float | Tensor | None = 0.1,
    eps: float = 1e-5,
    ghost: int | None = None,
    group: "distributed.ProcessGroup | None" = None,
) -> tuple[Tensor, Statistics | None]:
    """Returns γH' + β and the new running statistics.

    Runs under torch.func and torch.compile; under ``vmap`` every argument that is a tensor may be stacked. Half
    precision takes its statistics in float32. A batch without values gives none and, as torch's, is counted but changes
    neither mean nor variance.

    Arguments:
        x: ``(N, C)`` or ``(N, C, *extent)``.
        statistics: so far; None keeps none, and then the batch is used in evaluation too.
        weight, bias: γ and β, ``(C,)``; 1 and 0 by default.
        training: normalize by the batch and update the statistics; otherwise normalize by the statistics.
        momentum: the share of the new batch; None gives all batches the same.
        eps: δ, added to the variance.
        ghost: examples that share statistics; of the groups the last is smaller where they do not come out even, and
            is joined to the one before rather than hold a single value. Each counts as a batch to the statistics.
        group: processes whose examples make up one batch; every one of them has to call.

    Raises:
        ValueError: in training, a single value a channel, over all processes; ``ghost`` below 1, or with ``group``.

    >>> x = torch.tensor([[1.0, 5.0], [3.0, 5.0]])
    >>> y, new = batch_norm(x, Statistics.fresh(2), training=True)
    >>> y[:, 0].round(decimals=3).tolist()
    [-1.0, 1.0]
    >>> new.mean.tolist(), int(new.batches)
    ([0.2..., 0.5], 1)
    """
    if ghost is not None and group is not None:
        raise ValueError(
            "ghost batches are smaller than the batch of a process, and those of a group are larger: pass ghost or "
            "group, not both"
        )
    if ghost is not None and not is_whole(ghost):
        raise ValueError(f"ghost must be a whole number of at least 1 example, not {ghost}")
    kind = _kind(x)
    weight, bias = (None if p is None else p.to(kind) for p in (weight, bias))
    if not training and statistics is not None:
        mean, var = (t.to(kind).view(-1, *[1] * (x.dim() - 2)) for t in statistics[:2])
        return _scaled(x.to(kind), mean, var, weight, bias, eps).to(x.dtype), statistics
    if group is not None:
        y, batches = _joined(x, weight, bias, eps, group)
    elif x.numel() == 0:  # it counts as a batch, and has nothing to say
        y, batches = functional.batch_norm(x, None, None, weight, bias, True, 0.0, eps), []
        statistics = None if statistics is None else statistics._replace(batches=statistics.batches + 1)
    else:
        parts = [_by_group(part, weight, bias, eps) for part in _groups(x, ghost or len(x))]
        y = parts[0][0] if len(parts) == 1 else torch.cat([part for part, _ in parts])
        batches = [batch for _, some in parts for batch in some]
    return y, None if statistics is None else _updated(statistics, batches, momentum)


def _by_group(part: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> tuple[Tensor, list[Moments]]:
    """Returns the output of the groups ``(groups, examples, C, *extent)``, and each one's mean and unbiased variance.

    The groups are normalized as if they were channels of their own.
    """
    groups, _, channels = part.shape[:3]
    count = refuse_single_values(part[0])
    x = part.transpose(0, 1).flatten(1, 2)
    weight, bias = (None if p is None else p.repeat(groups) for p in (weight, bias))
    if torch.compiler.is_compiling():  # the compiler makes a kernel of the formula, and stumbles over torch's in vmap
        wide = x.to(_kind(x))
        var, mean = torch.var_mean(wide, [0, *range(2, x.dim())], correction=0, keepdim=True)
        y = _scaled(wide, mean, var, weight, bias, eps).to(x.dtype)
        mean, var = mean.detach().flatten(), var.detach().flatten() * (count / (count - 1))
    else:  # made from x, the tensors that the kernel writes into are stacked where it is
        mean, var = (x.new_zeros(groups * channels, dtype=_kind(x)) for _ in range(2))
        y = functional.batch_norm(x, mean, var, weight, bias, True, 1.0, eps)
    y = y.unflatten(1, (groups, channels)).transpose(0, 1).flatten(0, 1)
    return y, list(zip(mean.chunk(groups), var.chunk(groups), strict=True))


def _joined(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, group: "distributed.ProcessGroup"
) -> tuple[Tensor, list[Moments]]:
    """Returns the output of this process's part of a batch, and the whole batch's mean and unbiased variance."""
    wide = x.to(_kind(x))
    mean, var, count = joined_moments(wide, group)
    _refuse(count)
    y = _scaled(wide, mean, var, weight, bias, eps).to(x.dtype)
    return y, [(mean.detach().flatten(), var.detach().flatten() * (count / (count - 1)))] if count else []


def _scaled(x: Tensor, mean: Tensor, var: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    """Returns γ(x − mean)/√(δ + var) + β; mean and variance are shaped to go with x."""
    y = (x - mean) * (var + eps).rsqrt()
    y = y if weight is None else y * weight.view_as(mean)
    return y if bias is None else y + bias.view_as(mean)


def _kind(x: Tensor) -> torch.dtype:
    """Returns the type of the statistics: at least float32."""
    return torch.promote_types(x.dtype, torch.float32)


def _groups(x: Tensor, size: int) -> list[Tensor]:
    """Returns the examples as groups, those of one size in one tensor."""
    if len(x) <= size:
        return [x[None]]
    rest = len(x) % size
    if rest and x[:rest, 0].numel() == 1:
        rest += size
    whole = len(x) - rest
    return [x[:whole].unflatten(0, (-1, size))] * (whole > 0) + [x[whole:][None]] * (rest > 0)


def _updated(statistics: Statistics, batches: list[Moments], momentum: float | Tensor | None) -> Statistics:
    mean, var, seen = statistics
    for new_mean, new_var in batches:
        seen = seen + 1
        share = seen.to(mean.dtype).reciprocal() if momentum is None else momentum
        mean = (1 - share) * mean + share * new_mean.to(mean.dtype)
        var = (1 - share) * var + share * new_var.to(var.dtype)
    return Statistics(mean, var, seen)


def refuse_single_values(x: Tensor) -> int:
    """Returns how many values a channel of ``(N, C, *extent)`` has.

    Raises:
        ValueError: a single one, which has no variance.
    """
    count = x.numel() // max(1, x.shape[1])
    _refuse(count)
    return count


def _refuse(count: int) -> None:
    if count == 1:
        raise ValueError(
            "a batch with 1 value per channel has no variance: pass more examples, drop the last batch, "
            "or call eval() first"
        )


def joined_moments(x: Tensor, group: "distributed.ProcessGroup") -> tuple[Tensor, Tensor, int]:
    """Returns the channels' means and biased variances over all processes, and the number of values in each.

        n = Σ_r n_r,    μ = Σ_r n_r μ_r / n,    σ² = Σ_r (M_r + n_r (μ_r − μ)²) / n,    M_r = Σ (H − μ_r)²

    The local moments are joined in one reduction, through which gradients pass: the loss of each process depends on
    the examples of all (Chan, Golub & LeVeque 1979).

    Every process of the group has to call; one without examples passes an empty tensor.

    Arguments:
        x: this process's part, ``(N, C, *extent)``; only N may differ between processes.
        group: the processes.
    """
    dims = (0, *range(2, x.dim()))
    count = x.new_tensor([x.numel() // x.shape[1]])
    own = x.sum(dims, keepdim=True) / count.clamp(min=1)
    spread = (x - own).square().sum(dims, keepdim=True)
    row = torch.cat([count, own.flatten(), spread.flatten()])
    place = torch.arange(distributed.get_world_size(group), device=x.device) == distributed.get_rank(group)
    table: Tensor = _Sum.apply(place[:, None] * row, group)
    counts, means, spreads = table.split([1, x.shape[1], x.shape[1]], dim=1)
    total = counts.sum()
    mean = (counts * means).sum(dim=0) / total.clamp(min=1)
    var = (spreads + counts * (means - mean).square()).sum(dim=0) / total.clamp(min=1)
    return mean.view_as(own), var.view_as(own), int(total)


class _Sum(torch.autograd.Function):
    """Sum over processes; its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: "distributed.ProcessGroup") -> Tensor:
        ctx.group = group
        total = x.clone()
        distributed.all_reduce(total, group=group)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        return _Sum.apply(gradient, ctx.group), None
