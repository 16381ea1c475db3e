"""A bias before a batch normalization, which takes the mean away again."""

from functools import partial
from typing import Any

import torch
from torch import nn

from thalweg.diagnosis.findings import Finding
from thalweg.diagnosis.observe import Seen


def redundant_bias(seen: Seen) -> list[Finding]:
    """Finds layers with a bias whose output goes to a batch or instance normalization and nowhere else.

        a + b − mean(a + b) = a − mean(a)

    >>> import torch
    >>> from torch import nn
    >>> from thalweg.diagnosis.observe import observe
    >>> net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 1))
    >>> found = redundant_bias(observe(net, (torch.randn(9, 3), torch.randn(9, 1)), nn.functional.mse_loss))
    >>> [(f.severity, f.layer, f.figure) for f in found]
    [('note', '0', 4.0)]

    Source: Deep Learning, §8.7.1 (p. 320: the bias should be left out).
    """
    found = []
    for layer in seen.layers.values():
        bias = getattr(layer.module, "bias", None)
        if layer.norm and bias is not None and bias is not True and bias.requires_grad:
            meaning = f"{layer.norm}, which follows, removes the bias: its {bias.numel()} numbers have no effect"
            fix = f'model.get_submodule({layer.name!r}).register_parameter("bias", None)  # bias=False'
            apply_fix = partial(_leave_out, layer.name, layer.norm)
            found.append(Finding("redundant bias", "note", layer.name, float(bias.numel()), meaning, fix, apply_fix))
    return found


@torch.no_grad()
def _leave_out(name: str, norm_name: str, model: nn.Module) -> None:
    """Drops the bias; running means, which hold it, are as if it had never been."""
    layer, norm = model.get_submodule(name), model.get_submodule(norm_name)
    bias: Any = layer.bias
    mean: Any = getattr(norm, "running_mean", None)
    if mean is not None and int(norm.num_batches_tracked):  # type: ignore[arg-type]
        mean.sub_(bias)
    layer.register_parameter("bias", None)
