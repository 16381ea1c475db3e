"""Large weights: a layer that multiplies what it gets by so much that what follows is driven where it hardly learns."""

import math

from torch import nn

from thalweg.diagnosis.findings import Finding
from thalweg.diagnosis.forward_recorder import Layer
from thalweg.diagnosis.observe import Seen, deviation
from thalweg.initialization.weights import fans
from thalweg.tensors.layers import WEIGHTED, unit_blocks

GAIN, GROWTH = 4.0, 2.5


def large_weights(seen: Seen) -> list[Finding]:
    """Finds layers of gain above 4 that no normalization follows and that do enlarge the signal.

        gain = √m · rms(W),   m the inputs of a unit

    Schemes give 1 to 1.7, and 4 before a sigmoid, whose slope is ¼: there, as anywhere, it is no fault where the signal
    is not larger for it than 2.5 times that of the layers before. Layers that are not trained are left out.

    >>> import torch
    >>> from torch import nn
    >>> from thalweg.diagnosis.observe import observe
    >>> net = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 1))
    >>> _ = nn.init.normal_(net[2].weight, 0.0, 4.0)
    >>> found = large_weights(observe(net, (torch.randn(9, 16), torch.randn(9, 1)), nn.functional.mse_loss))
    >>> [(f.layer, f.threshold) for f in found]
    [('2', 4.0)]

    Source: Deep Learning, §8.4 (p. 302).
    """
    found = []
    for layer in seen.layers.values():
        gain = gain_of_weights(layer)
        if gain is None or gain <= GAIN or layer.normalized or "sin" in layer.activations or not _grows(seen, layer):
            continue
        meaning = f"the weights multiply the signal by {gain:.3g}, and no normalization follows"
        place = f"model.get_submodule({layer.name!r})"
        fix = f"{place}.weight.data.div_({gain:.3g})"
        if isinstance(layer.module, nn.RNNBase):
            fix = f'thalweg.initialization.initialize({place}, "he")'
        found.append(Finding("large weights", "warning", layer.name, gain, meaning, fix, threshold=GAIN))
    return found


def gain_of_weights(layer: Layer) -> float | None:
    """Returns √m · rms(W) of a trained dense or convolution layer, or of recurrent weights; None for others."""
    module = layer.module
    if isinstance(module, nn.RNNBase):
        own = [
            p.detach().double() for n, p in module.named_parameters() if n.startswith("weight_hh") and p.requires_grad
        ]
        return max((math.sqrt(w.shape[1] * float(w.square().mean())) for w in own), default=None)
    if not isinstance(module, WEIGHTED) or not module.weight.requires_grad:
        return None
    block = unit_blocks(module, module.weight.detach())[0]
    inputs, _ = fans(block)
    return math.sqrt(inputs * float(module.weight.detach().double().square().mean()))


def _grows(seen: Seen, layer: Layer) -> bool:
    if seen.examples < 2 or isinstance(layer.module, nn.RNNBase):
        return True
    own = deviation(layer.output, seen.examples)
    before = [deviation(seen.layers[name].output, seen.examples) for name in layer.fed]
    if not before:
        return own > GROWTH
    return own > GROWTH * max(before)
