"""Saturated gates of recurrent layers, which their outputs do not show."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from thalweg.diagnosis.findings import Finding
from thalweg.diagnosis.observe import FEWEST, Seen
from thalweg.diagnosis.saturated_units import SHARE, at_bounds

GATES: dict[type[nn.Module], dict[str, int]] = {
    nn.LSTM: {"input gate": 0, "forget gate": 1, "output gate": 3},
    nn.GRU: {"reset gate": 0, "update gate": 1},
}


def saturated_gates(seen: Seen) -> list[Finding]:
    """Finds gates of an LSTM or GRU half of which are shut or wide open in nine cases of ten.

    A forget gate that is open throughout keeps the memory, as a large bias asks of it, and is no fault.

    >>> from thalweg.diagnosis.observe import observe
    >>> net = nn.LSTM(3, 4, batch_first=True)
    >>> _ = nn.init.constant_(net.bias_ih_l0, -100.0)
    >>> batch = (torch.randn(9, 5, 3), torch.randn(9, 5, 4))
    >>> found = saturated_gates(observe(net, batch, lambda y, t: (y[0] - t).square().mean()))
    >>> found[0].meaning
    '100% of the input gates are closed or fully open for 90 % of the cases, and hardly learn'

    Source: Deep Learning, §8.4 (p. 305: gates start open), §10.10.
    """
    found = []
    for layer in seen.layers.values() if seen.examples >= FEWEST else ():
        for name, values in gates(layer.module, layer.inputs).items():
            high = math.inf if name.startswith("forget") else 1.0
            share = float(at_bounds(values, 0.0, high).float().mean())
            if share >= SHARE:
                gate = name.replace("gate", "gates")
                meaning = f"{share:.0%} of the {gate} are closed or fully open for 90 % of the cases, and hardly learn"
                fix = f"thalweg.initialization.initialize(model.get_submodule({layer.name!r}))  # gates start half-open"
                found.append(Finding("saturated gates", "warning", layer.name, share, meaning, fix, threshold=SHARE))
    return found


@torch.no_grad()
def gates(module: Any, inputs: tuple[Any, ...]) -> dict[str, Tensor]:
    """Returns each gate's values ``(cases, units)``, a case for every example and place, from states that begin at 0.

        gate = σ(W_ih x_t + b_ih + W_hh h_{t−1} + b_hh)

    Of several layers each is looked at, of two directions the first layer's forward one. Nothing comes back for
    packed sequences, projections, and modules without gates.

    >>> lstm = nn.LSTM(3, 4, num_layers=2)
    >>> [(name, tuple(values.shape)) for name, values in gates(lstm, (torch.zeros(5, 2, 3),)).items()][:2]
    [('input gate of layer 0', (10, 4)), ('forget gate of layer 0', (10, 4))]
    """
    x = inputs[0] if inputs else None
    if type(module) not in GATES or module.proj_size or not isinstance(x, Tensor):
        return {}
    found: dict[str, Tensor] = {}
    time = 1 if module.batch_first and x.dim() == 3 else 0
    layers = 1 if module.bidirectional else module.num_layers
    for layer in range(layers):
        own = {
            name.removesuffix(f"_l{layer}"): p
            for name, p in module.named_parameters(recurse=False)
            if name.endswith(f"_l{layer}")
        }
        options = {"bias": module.bias, "batch_first": module.batch_first, "device": "meta"}
        one = type(module)(x.shape[-1], module.hidden_size, **options)  # on meta: nothing is drawn
        states = torch.func.functional_call(one, {f"{n}_l0": p for n, p in own.items()}, (x,))[0]
        before = states.roll(1, time)
        before.narrow(time, 0, 1).zero_()
        sums = linear(x, own["weight_ih"], own.get("bias_ih")) + linear(before, own["weight_hh"], own.get("bias_hh"))
        for name, block in GATES[type(module)].items():
            values = sums.narrow(-1, block * module.hidden_size, module.hidden_size).sigmoid()
            found[f"{name} of layer {layer}" if layers > 1 else name] = values.flatten(0, -2)
        x = states
    return found
