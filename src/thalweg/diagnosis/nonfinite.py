"""NaN and infinity at the start: where they first appear."""

from typing import Any

import torch
from torch import Tensor

from thalweg.diagnosis.findings import Finding
from thalweg.diagnosis.half_precision import overflowed
from thalweg.diagnosis.observe import Seen

KIND = "not finite"


def nonfinite(seen: Seen) -> list[Finding]:
    """Finds NaN or infinity in inputs, parameters, outputs, the loss or gradients; names where it begins.

    >>> import torch
    >>> from torch import nn
    >>> from thalweg.diagnosis.observe import observe
    >>> net = nn.Sequential(nn.Linear(2, 1))
    >>> nn.init.constant_(net[0].bias, float("inf")).isinf().item()
    True
    >>> [f.layer for f in nonfinite(observe(net, (torch.ones(4, 2), torch.ones(4, 1)), nn.functional.mse_loss))]
    ['0.bias']

    Source: Deep Learning, §8.4 (exploding values).
    """
    count = sum(map(_bad, seen.inputs))
    if count:
        meaning = f"the inputs contain NaN or infinity{_range(*seen.inputs)}"
        return [_finding("", count, meaning, "inputs = inputs.nan_to_num()")]
    for name, p in seen.model.named_parameters():
        if count := _bad(p):
            fix = "thalweg.initialization.initialize(model)"
            return [_finding(name, count, f"the parameter contains NaN or infinity{_range(p)}", fix)]
    found = _followed(seen)
    return found and (overflowed(seen) or found)


def _followed(seen: Seen) -> list[Finding]:
    """Finds what is not finite although inputs and parameters are."""
    every = seen.layers | seen.norms
    for name in seen.order:
        if count := _bad(every[name].output):
            fix = "thalweg.initialization.scale_by_data(model, inputs)"
            return [_finding(name, count, "the first layer whose output is NaN or infinite", fix)]
    if _bad(seen.output) or _bad(torch.tensor(seen.loss)):
        what = "the model's output is" if _bad(seen.output) else "the output is finite, the loss is"
        fix = "loss = torch.nn.functional.cross_entropy  # takes logits; no log or division of your own"
        return [_finding("", 1, f"{what} NaN or infinite", fix)]
    for name, gradient in seen.gradients.items():
        if count := _bad(gradient):
            fix = "x.clamp_min(1e-12).sqrt()  # no root, log or norm at 0"
            return [_finding(name, count, "the outputs are finite, the parameter's gradient is not", fix)]
    return []


def _range(*values: Any) -> str:
    """Returns what to add where numbers may have become infinite as they were cast."""
    held = next((v for v in values if isinstance(v, Tensor) and v.dtype is torch.float16 and v.isinf().any()), None)
    return "" if held is None else ": float16 ends at 65,504, so scale them before they are cast"


def _finding(layer: str, count: int, meaning: str, fix: str) -> Finding:
    return Finding(KIND, "error", layer, float(count), meaning, fix)


def _bad(value: Any) -> int:
    if not isinstance(value, Tensor) or value.dtype.itemsize < 2:  # 8 bits: quantized, and of no such values here
        return 0
    value = value.detach()
    return int((~(value.coalesce().values() if value.is_sparse else value).isfinite()).sum())
