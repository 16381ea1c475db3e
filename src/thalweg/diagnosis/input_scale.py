"""Inputs as they reach the first layers: their scale, features that stand out, features that do not differ."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from thalweg.diagnosis.findings import Finding
from thalweg.diagnosis.forward_recorder import Layer
from thalweg.diagnosis.observe import FEWEST, Seen
from thalweg.tensors.layers import TRANSPOSED

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
SCALE, SMALL, APART, OFFSET = 20.0, 1e-3, 100.0, 20.0


class Read(NamedTuple):
    """What a layer reads of the inputs: its features ``(features, cases)``, where they are, which input it is."""

    layer: Layer
    received: Tensor
    features: Tensor
    dim: int
    name: str
    fix_code: str


def input_scale(seen: Seen) -> list[Finding]:
    """Finds inputs of a scale above 20 or below 0.001, features 100 times the others or their 100th.

    The scale is √E[x²]; of features, dimension 1 of images and the last of others, the median is what is compared
    with. A mean that is 20 times the deviation counts as a scale too. What is looked at is what comes to the first
    layers, so that a model that rescales or normalizes its inputs itself is not found.

    >>> from torch import nn
    >>> from thalweg.diagnosis.observe import observe
    >>> x = torch.randn(64, 5) * torch.tensor([1.0, 1, 1, 1e6, 1])
    >>> found = input_scale(observe(nn.Linear(5, 1), (x, torch.randn(64, 1)), nn.functional.mse_loss))
    >>> found[0].layer, found[0].threshold, found[0].meaning[:48]
    ('inputs', 100.0, 'feature 3 in the input of layer (the model) has ')

    Source: Deep Learning, §8.4, §12.2.1 (inputs of one standardized range).
    """
    found = []
    for read in _reads(seen):
        nonzero = (read.features != 0).sum(1).clamp_min(1)
        scales = (read.features.square().sum(1) / nonzero).sqrt()  # of what is not 0: features may be sparse
        middle = float(scales[scales > 0].median()) if bool((scales > 0).any()) else 1.0
        ratio = torch.maximum(scales / middle, middle / scales).nan_to_num(1.0, posinf=1.0)
        odd = (ratio > APART).nonzero().flatten().tolist() if len(scales) > 2 else []
        name = read.layer.name or "(the model)"
        if odd:
            meaning = (
                f"{which(odd)} in the input of layer {name} {'has' if len(odd) == 1 else 'have'} a scale far from "
                f"that of the others, {middle:.2g}"
            )
            worst = float(ratio.max())
            found.append(Finding("input scale", "warning", read.name, worst, meaning, read.fix_code, threshold=APART))
            continue
        whole = float(read.features.square().mean().sqrt())
        spread = float(read.features.var(1, correction=0).mean().sqrt())
        if whole > SCALE:
            low, high = float(read.features.min()), float(read.features.max())
            meaning = (
                f"the input of layer {name} ranges from {low:.3g} to {high:.3g} with scale {whole:.3g}, not about 1"
            )
            found.append(Finding("input scale", "warning", read.name, whole, meaning, read.fix_code, threshold=SCALE))
        elif 0 < middle < SMALL:
            meaning = f"the input of layer {name} has scale {middle:.3g}, not about 1, so that only biases matter"
            found.append(Finding("input scale", "warning", read.name, middle, meaning, read.fix_code, threshold=SMALL))
        elif spread > 0 and whole / spread > OFFSET and len(scales) > 1:
            meaning = (
                f"the input of layer {name} has a mean of {whole / spread:.3g} times its deviation between examples"
            )
            figure = whole / spread
            found.append(Finding("input scale", "warning", read.name, figure, meaning, read.fix_code, threshold=OFFSET))
    return found


def constant_features(seen: Seen) -> list[Finding]:
    """Finds features that are the same for every example, with a value that the others hardly ever have.

    A pixel at the edge or a rare word that happens to be 0 in a batch is one zero among many, and is not found.

    >>> from torch import nn
    >>> from thalweg.diagnosis.observe import observe
    >>> x = torch.randn(64, 5)
    >>> x[:, 2] = 7
    >>> found = constant_features(observe(nn.Linear(5, 1), (x, torch.randn(64, 1)), nn.functional.mse_loss))
    >>> [(f.layer, f.figure) for f in found]
    [('inputs', 1.0)]
    """
    found = []
    for read in _reads(seen):
        x = read.features
        same = (x == x[:, :1]).all(1)
        if not bool(same.any()) or bool(same.all()) or x.shape[1] < FEWEST:
            continue
        others = x[~same]
        rare = [i for i in same.nonzero().flatten().tolist() if float((others == x[i, 0]).double().mean()) < 0.01]
        if rare:
            meaning = (
                f"{which(rare)} in the input of layer {read.layer.name or '(the model)'} "
                f"{'is' if len(rare) == 1 else 'are'} the same for every example, so that nothing can be learned "
                "from it"
            )
            fix = _without(seen, read, rare)
            found.append(
                Finding("constant features", "warning", read.name, float(len(rare)), meaning, fix, threshold=0.0)
            )
    return found


def which(features: list[int]) -> str:
    """Returns the first few features in words.

    >>> which([3]), which([0, 2])
    ('feature 3', 'features 0, 2')
    """
    some = ", ".join(map(str, features[:5])) + (f" and {len(features) - 5} more" if len(features) > 5 else "")
    return f"feature{'s' if len(features) > 1 else ''} {some}"


def _reads(seen: Seen) -> Iterator[Read]:
    """Yields what the layers that come first read, once for those that read the same."""
    if seen.examples < FEWEST:
        return
    met: set[int] = set()
    for layer in seen.layers.values():
        x = layer.received
        if layer.fed or x is None or layer.reads in met or x.dim() < 2:
            continue
        met.add(layer.reads)
        dim = 1 if isinstance(layer.module, (*CONVOLUTIONS, *TRANSPOSED)) else x.dim() - 1
        at = next((i for i, given in enumerate(seen.inputs) if _same(given, x)), None)
        if at is None:
            dims = f"tuple(i for i in range(args[0].dim()) if i != {dim})"
            hook = f"lambda m, args: ((args[0] - args[0].mean({dims}, keepdim=True)) / {{std}}, *args[1:])"
            hook = hook.replace("{std}", f"args[0].std({dims}, keepdim=True).clamp_min(1e-12)")
            place = f"model.get_submodule({layer.name!r})"
            yield Read(layer, x, _by_feature(x, dim), dim, layer.name, f"{place}.register_forward_pre_hook({hook})")
            continue
        several = len(seen.inputs) > 1
        name = f"inputs[{at}]" if several else "inputs"
        yield Read(layer, x, _by_feature(x, dim), dim, name, _standardized(seen, at, dim))


def _by_feature(x: Tensor, dim: int) -> Tensor:
    return x.double().movedim(dim, 0).flatten(1)


def _same(given: Any, x: Tensor) -> bool:
    return isinstance(given, Tensor) and given.numel() == x.numel() and bool((given.reshape(-1) == x.reshape(-1)).all())


def _standardized(seen: Seen, at: int, dim: int) -> str:
    """Returns the line that takes mean and deviation of each feature from an input."""
    given: Tensor = seen.inputs[at]
    dims = tuple(i for i in range(given.dim()) if i != dim)
    one = "inputs" if len(seen.inputs) == 1 else f"inputs[{at}]"
    value = f"(x - x.mean({dims}, keepdim=True)) / x.std({dims}, keepdim=True).clamp_min(1e-12)"
    return _in_place_of(seen, at, f"(lambda x: {value})({one}.double()).to({given.dtype})")


def _without(seen: Seen, read: Read, features: list[int]) -> str:
    """Returns the line that takes features away from the inputs, and what the layer has for them."""
    at = next((i for i, given in enumerate(seen.inputs) if _same(given, read.received)), None)
    weight = "weight_ih_l0" if isinstance(read.layer.module, nn.RNNBase) else "weight"
    if at is None or not isinstance(read.layer.module, (nn.Linear, nn.RNNBase, *CONVOLUTIONS)):
        return ""
    one = "inputs" if len(seen.inputs) == 1 else f"inputs[{at}]"
    x = one if seen.inputs[at].shape == read.received.shape else f"{one}.reshape({tuple(read.received.shape)})"
    size = read.received.shape[read.dim]
    keep = f"keep = [i for i in range({size}) if i not in {features!r}]"
    layer = f"layer = model.get_submodule({read.layer.name!r})"
    less = f"layer.{weight} = torch.nn.Parameter(layer.{weight}[:, keep])"
    if isinstance(read.layer.module, nn.RNNBase):
        less += "; layer.input_size = len(keep)"
    index = f"{x}.index_select({read.dim}, torch.tensor(keep))"
    return f"{keep}; {_in_place_of(seen, at, index)}; {layer}; {less}"


def _in_place_of(seen: Seen, at: int, value: str) -> str:
    if len(seen.inputs) == 1:
        return f"inputs = {value}"
    return f"inputs = (*inputs[:{at}], {value}, *inputs[{at + 1}:])"
