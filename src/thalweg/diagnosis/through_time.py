"""Gradients over time: whether what a recurrent layer reads at first still counts."""

import math

from torch import Tensor, nn

from thalweg.diagnosis.findings import Finding
from thalweg.diagnosis.observe import Seen

SMALL, LONG, SMALL_IF_LONG = 1e-10, 50, 1e-4


def through_time(seen: Seen) -> list[Finding]:
    """Finds recurrent layers by whose first step the loss has next to no gradient, beside that by its largest one.

        ‖∂J/∂x_1‖ / max_t ‖∂J/∂x_t‖

    Below 1e-10, or from 50 steps on, over which memory is what is asked for, below 1e-4. Of a cell that is called step
    by step it is the states. Each step multiplies by about the gate that keeps the memory, one half where its bias is
    0, so that after 40 steps nothing is left.

    >>> import torch
    >>> from thalweg.diagnosis.observe import observe
    >>> net = nn.LSTM(3, 4, batch_first=True)
    >>> batch = (torch.randn(9, 200, 3), torch.randn(9, 4))
    >>> found = through_time(observe(net, batch, lambda y, t: (y[0][:, -1] - t).square().mean()))
    >>> [(f.kind, f.severity, f.threshold) for f in found]
    [('vanishing gradient through time', 'warning', 0.0001)]

    Source: Deep Learning, §8.2.5, §10.7, §10.10.1.
    """
    found = []
    for name, norms in seen.through_time.items():
        ratio = _ratio(norms)
        bound = SMALL if len(norms) < LONG else SMALL_IF_LONG
        if ratio is not None and ratio < bound:
            meaning = f"over {len(norms)} steps, the gradient at the first is {ratio:.2g} times the largest one"
            fix = _fix(name, seen.model.get_submodule(name), len(norms))
            kind = "vanishing gradient through time"
            found.append(Finding(kind, "warning", name, ratio, meaning, fix, threshold=bound))
    return found


def _ratio(norms: Tensor) -> float | None:
    return float(norms[0] / norms.max()) if len(norms) > 1 and 0 < float(norms.max()) < math.inf else None


def _fix(name: str, module: nn.Module, steps: int) -> str:
    layer = f"model.get_submodule({name!r})"
    if isinstance(module, (nn.LSTM, nn.LSTMCell, nn.GRU, nn.GRUCell)):
        return f"thalweg.initialization.gate_biases_({layer}, {math.log(steps):.1f})"
    return f'thalweg.initialization.initialize({layer}, "orthogonal"); {layer}.weight_ih_l0.data.mul_(0.1)'
