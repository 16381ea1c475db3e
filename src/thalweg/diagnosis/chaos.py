"""Chaos: a small difference between inputs that grows, layer by layer, against the differences between examples."""

from typing import Any

import torch
from torch import Tensor

from thalweg.diagnosis.findings import Finding
from thalweg.diagnosis.forward_recorder import first_of, in_place_of
from thalweg.diagnosis.observe import Seen, deviation
from thalweg.tensors.as_trained import as_trained
from thalweg.tensors.parts import watched

SHIFT, MOST = 1e-5, 1e3


def growth(seen: Seen) -> dict[str, float]:
    """Returns for each layer by how much a small difference at the first one's output grew until there.

        δ_1 = 1e-5 (a_1 rolled by one example − a_1),   growth_l = (‖δ_l‖ / σ_l) / (‖δ_1‖ / σ_1)

    σ_l is the deviation between examples, so that a layer that scales all alike neither adds nor takes. A layer where
    δ_l is of the size of rounding is left out.

    >>> from torch import nn
    >>> from thalweg.diagnosis.observe import observe
    >>> net = nn.Sequential(nn.Linear(3, 8), nn.Linear(8, 8), nn.Linear(8, 1)).double()
    >>> batch = (torch.randn(64, 3).double(), torch.randn(64, 1).double())
    >>> 0.2 < growth(observe(net, batch, nn.functional.mse_loss))["2"] < 5
    True
    """
    names = list(seen.layers)
    if seen.examples < 2 or len(names) < 2:
        return {}
    outputs: dict[str, Tensor] = {}

    def note(name: str, output: Any) -> Any:
        tensor = first_of(output)
        if tensor is None or name in outputs:
            return None
        if name == names[0]:
            dim = 1 if tensor.dim() > 2 and tensor.shape[0] != seen.examples == tensor.shape[1] else 0
            tensor = tensor + SHIFT * (tensor.roll(1, dim) - tensor)
            outputs[name] = tensor.clone()
            return in_place_of(output, tensor)
        outputs[name] = tensor.clone()
        return None

    modules = {name: layer.module for name, layer in seen.layers.items()}
    with watched(modules, note), as_trained(seen.model), torch.no_grad():
        seen.model(*seen.inputs)
    found: dict[str, float] = {}
    for name in names:
        before, after = seen.layers[name].output, outputs.get(name)
        if after is None or after.shape != before.shape:
            continue
        moved, size = _rms(after - before), _rms(before)
        spread = deviation(before, seen.examples)
        if spread > 0 and moved > 20 * torch.finfo(before.dtype).eps * size:
            found[name] = moved / spread
    start = found.get(names[0])
    return {name: value / start for name, value in found.items()} if start else {}


def chaos(growths: dict[str, float]) -> list[Finding]:
    """Finds growth above 1e3 at the last layer, and names the layer where it passes that.

    >>> [(f.kind, f.layer, f.figure) for f in chaos({"0": 1.0, "2": 2e3, "4": 4e3})]
    [('chaos', '2', 4000.0)]

    Source: Deep Learning, §8.4 (p. 302: chaos, in recurrent and deep networks with weights too large).
    """
    names = list(growths)
    if not names or growths[names[-1]] <= MOST:
        return []
    begins = next(name for name in names if growths[name] > MOST)
    end = growths[names[-1]]
    meaning = f"a small difference between inputs grows {end:.2g} times as much as the differences between examples"
    fix = 'thalweg.initialization.initialize(model, "orthogonal", gain="nonlinearity")'
    return [Finding("chaos", "warning", begins, end, meaning, fix, threshold=MOST)]


def _rms(values: Tensor) -> float:
    return float(values.double().square().mean()) ** 0.5
