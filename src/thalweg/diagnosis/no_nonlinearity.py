"""A model without a nonlinearity: however many layers it has, it is one linear map."""

from torch import Tensor

from thalweg.diagnosis.findings import Finding
from thalweg.diagnosis.observe import Seen, deviation
from thalweg.diagnosis.passes import along, evaluated, stepped
from thalweg.tensors.layers import WEIGHTED

LEAST = 1e-4


def no_nonlinearity(seen: Seen) -> list[Finding]:
    """Finds dense and convolution layers, two or more, of which the last is an affine function of the first.

        a_L(½ (a_1 + P a_1)) = ½ (a_L(a_1) + P a_L(a_1)),   P moves each example to the next place

    The difference of both sides is below 1e-4 of the outputs' deviation, in evaluation mode, at the start and after
    one step.

    >>> import torch
    >>> from torch import nn
    >>> from thalweg.diagnosis.observe import observe
    >>> net = nn.Sequential(nn.Linear(3, 8), nn.Dropout(), nn.Linear(8, 8), nn.Linear(8, 1))
    >>> found = no_nonlinearity(observe(net, (torch.randn(9, 3), torch.randn(9, 1)), nn.functional.mse_loss))
    >>> [(f.kind, f.layer, f.threshold) for f in found]
    [('no nonlinearity', '0', 0.0001)]

    Source: Deep Learning, §6.1 (layers of linear functions are a linear function).
    """
    layers = list(seen.layers.values())
    if seen.examples < 4 or len(layers) < 2 or not all(isinstance(layer.module, WEIGHTED) for layer in layers):
        return []
    first, last = layers[0].name, layers[-1].name
    off = _off(seen, first, last)
    if off is None or not off < LEAST:
        return []
    with stepped(seen) as later:  # branches may only start at 0
        if not (_off(later, first, last) or 0.0) < LEAST:
            return []
    meaning = f"from {first} to {last} the model is linear: the {len(layers)} layers are equivalent to one"
    fix = f"model.set_submodule({first!r}, torch.nn.Sequential(model.get_submodule({first!r}), torch.nn.ReLU()))"
    return [Finding("no nonlinearity", "warning", first, off, meaning, fix, threshold=LEAST)]


def _off(seen: Seen, first: str, last: str) -> float | None:
    """Returns by how much the last layer is off from a linear function of the first; None where it cannot be told."""
    before = seen.calm[1]
    dims = along(before[first], seen.examples) if first in before else []
    if not dims or last not in before or not along(before[last], seen.examples):
        return None

    def mixed(values: Tensor) -> Tensor:
        return (values + values.roll(1, along(values, seen.examples)[0])) / 2

    after = evaluated(seen, change={first: mixed})[1].get(last)
    spread = deviation(before[last], seen.examples)
    if after is None or not spread > 0 or not deviation(after, seen.examples) > 0:
        return None
    return float((after - mixed(before[last])).double().square().mean().sqrt()) / spread
