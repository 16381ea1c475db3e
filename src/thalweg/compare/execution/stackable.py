"""Which models can be trained in lanes, as far as their modules show."""

from torch import nn

from thalweg.normalization import BatchNorm
from thalweg.tensors.private import BatchNormBase


class Unstackable(Exception):
    """The model cannot be trained in lanes; the message is the reason."""


def unstackable_reason(model: nn.Module) -> str | None:
    """Returns why lanes cannot train the model, as far as its modules show, or None."""
    for name, module in model.named_modules():
        if isinstance(module, BatchNormBase) and not isinstance(module, BatchNorm):
            what = f"{name or 'the model'} is a {type(module).__name__}"
            return f"{what}, which updates its running statistics in place"
        if isinstance(module, nn.RNNBase):
            return f"{name or 'the model'} is a {type(module).__name__}, whose fused kernel has no stacked form"
    return None
