"""Outputs that are the same for every example, whatever the layers before give."""

import math
from typing import Any

from torch import nn

from thalweg.diagnosis.findings import Finding
from thalweg.diagnosis.forward_recorder import Layer
from thalweg.diagnosis.observe import Seen, deviation

LEAST = 1e-6


def constant_output(seen: Seen) -> list[Finding]:
    """Finds normalizations over one number, whose output is their shift, and functions that make all outputs equal.

        (x − mean(x)) / std(x) = 0,   x / rms(x) = ±1,   of one number x

    >>> import torch
    >>> from thalweg.diagnosis.observe import observe
    >>> net = nn.Sequential(nn.Linear(3, 1), nn.LayerNorm(1))
    >>> found = constant_output(observe(net, (torch.randn(9, 3), torch.randn(9, 1)), nn.functional.mse_loss))
    >>> [(f.kind, f.layer, f.fix_code) for f in found]
    [('normalized alone', '1', "model.set_submodule('1', torch.nn.Identity())")]

    Source: Deep Learning, §8.7.1.
    """
    found = [_alone(name) for name, norm in seen.norms.items() if _count(norm) == 1]
    last = next(reversed(seen.layers.values()), None)
    if found or last is None or seen.scores is None or seen.examples < 2:
        return found
    before = deviation(last.output, seen.examples)
    left = deviation(seen.scores, seen.examples) / before if before > 0 else 1.0
    if left > LEAST:
        return []
    meaning = "the output is the same for every example, and the last layer's is not: what follows that takes it away"
    return [Finding("same output", "error", last.name, left, meaning, threshold=LEAST)]


def _alone(name: str) -> Finding:
    meaning = "it normalizes each number by itself: its output is its shift or a sign, and no gradient comes back"
    fix = f"model.set_submodule({name!r}, torch.nn.Identity())" if name else ""
    return Finding("normalized alone", "error", name, 1.0, meaning, fix, threshold=1.0)


def _count(norm: Layer) -> int:
    """Returns how many numbers are normalized together; 0 of a normalization over examples."""
    module: Any = norm.module
    if isinstance(module, (nn.LayerNorm, nn.RMSNorm)):
        return math.prod(module.normalized_shape)
    if isinstance(module, nn.GroupNorm):
        return norm.output[0].numel() // module.num_groups if len(norm.output) else 0
    return 0
