"""Dropout that leaves next to nothing."""

from thalweg.diagnosis.findings import Finding
from thalweg.diagnosis.observe import Seen
from thalweg.tensors.private import DropoutBase

MOST = 0.8


def heavy_dropout(seen: Seen) -> list[Finding]:
    """Finds dropout that drops more than 0.8 of what it gets: from step to step hardly a unit trains with another.

    >>> import torch
    >>> from thalweg.diagnosis.observe import observe
    >>> from torch import nn
    >>> net = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.95), nn.Linear(4, 1))
    >>> found = heavy_dropout(observe(net, (torch.randn(9, 3), torch.randn(9, 1)), nn.functional.mse_loss))
    >>> [(f.layer, f.figure, f.threshold) for f in found]
    [('1', 0.95, 0.8)]

    Source: Deep Learning, §7.12 (keep half of the hidden and 0.8 of the input units).
    """
    found = []
    for name, module in seen.model.named_modules():
        if isinstance(module, DropoutBase) and module.p > MOST:
            meaning = (
                f"dropout removes {module.p:.0%} of the units: keep half of the inner units, and more of the inputs"
            )
            fix = f"model.get_submodule({name!r}).p = 0.5"
            found.append(Finding("heavy dropout", "warning", name, module.p, meaning, fix, threshold=MOST))
    return found
