"""A model as a function of its parameters and buffers, which gives back what it would have written into them."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.func import functional_call


def stateless_call(
    model: nn.Module, tensors: Mapping[str, Tensor], args: tuple[Any, ...], kwargs: Mapping[str, Any] | None = None
) -> tuple[Any, dict[str, Tensor]]:
    """Returns the model's output and its buffers after the call: statistics in, statistics out.

    Neither the model nor the tensors passed are changed, so that under ``vmap`` every lane has statistics of its own.
    torch's batch normalizations can be called so too, but for those with ``momentum=None``.

    Arguments:
        model: any module that writes into its buffers in place.
        tensors: parameters and buffers by name; the model's own where a name is missing. Under ``vmap`` buffers that
            the model writes into have to be stacked.
        args, kwargs: of the model.

    Returns:
        the output, and all buffers by name.

    >>> import torch
    >>> from thalweg.normalization import BatchNorm
    >>> net, x = nn.Sequential(nn.Linear(2, 3), BatchNorm(3)), torch.ones(5, 2)
    >>> y, buffers = stateless_call(net, {}, (x,))
    >>> int(buffers["1.num_batches_tracked"]), int(net[1].num_batches_tracked)
    (1, 0)
    """
    buffers = {name: tensors.get(name, own).clone() for name, own in model.named_buffers()}
    output = functional_call(model, {**tensors, **buffers}, args, dict(kwargs or {}))
    return output, buffers
