"""Dropout that leaves next to nothing."""

from collections.abc import Iterator

from torch import nn

from thalweg.diagnosis.findings import Finding
from thalweg.diagnosis.observe import Seen
from thalweg.tensors.private import DropoutBase

MOST = 0.8


def heavy_dropout(seen: Seen) -> list[Finding]:
    """Finds dropout that drops more than 0.8 of what it gets: from step to step hardly a unit trains with another.

    An error where it drops all. That of recurrent and attention layers is looked at, and calls of the function.

    >>> import torch
    >>> from thalweg.diagnosis.observe import observe
    >>> net = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.95), nn.Linear(4, 1))
    >>> found = heavy_dropout(observe(net, (torch.randn(9, 3), torch.randn(9, 1)), nn.functional.mse_loss))
    >>> [(f.layer, f.figure, f.threshold) for f in found]
    [('1', 0.95, 0.8)]

    Source: Deep Learning, §7.12 (keep half of the hidden and 0.8 of the input units).
    """
    return [
        Finding(
            "heavy dropout",
            "error" if p == 1 else "warning",
            name,
            p,
            f"{who} removes {p:.0%} of the units: keep half of the inner units, and more of the inputs",
            fix,
            threshold=MOST,
        )
        for name, p, who, fix in _shares(seen)
        if p > MOST
    ]


def _shares(seen: Seen) -> Iterator[tuple[str, float, str, str]]:
    """Yields where dropout is, the share that it drops, what does so, and the line that sets it."""
    for name, module in seen.model.named_modules():
        place = f"model.get_submodule({name!r})"
        if isinstance(module, DropoutBase):
            yield name, module.p, "dropout", f"{place}.p = 0.5"
        elif isinstance(module, nn.MultiheadAttention) or (isinstance(module, nn.RNNBase) and module.num_layers > 1):
            yield name, module.dropout, "its dropout", f"{place}.dropout = 0.5"
    for name, layer in seen.layers.items():
        yield name, layer.dropout, "a call of dropout after the layer", ""
