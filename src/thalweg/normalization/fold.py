"""Batch normalization folded into the layer before it, once training is over: it then costs nothing.

    γ (XW + b − μ)/√(δ + σ²) + β = X W' + b',    W' = W s,  b' = (b − μ) s + β,  s = γ/√(δ + σ²)

Source: Deep Learning, §8.7.1; Ioffe & Szegedy 2015, algorithm 2.
"""

from collections import Counter
from copy import deepcopy
from itertools import pairwise
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize

from thalweg.tensors.graph import NotTraceable, trace
from thalweg.tensors.layers import WEIGHTED, unit_blocks, unit_count

SIDE_BY_SIDE = "put layer and normalization side by side into an nn.Sequential, as add_batch_norm does"


def fold_batch_norm(model: nn.Module) -> nn.Module:
    """Returns a copy of the model for inference, each batch normalization merged into the layer that it follows.

    Merged are those, of torch and of thalweg, with running statistics, whose input is the output of a dense or
    convolution layer, also transposed or grouped but not parametrized, which goes nowhere else. ``nn.Identity``
    stands in their place; what :func:`add_batch_norm` made becomes the plain layer again. The copy is in evaluation
    mode and equals the model in evaluation but for rounding. The graph is read by torch.fx; where it cannot be,
    neighbours in an ``nn.Sequential`` are merged. Dense layers before a normalization of dimension 1 are taken to
    give ``(N, C)``.

    Arguments:
        model: any module; it is not changed.

    Raises:
        ValueError: nothing can be merged; the message says why.

    >>> net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.ReLU())
    >>> fold_batch_norm(net)
    Sequential(
      (0): Linear(in_features=2, out_features=3, bias=True)
      (1): Identity()
      (2): ReLU()
    )
    """
    folded = deepcopy(model).eval()
    try:
        pairs = _in_graph(folded)
        reason = "no batch normalization with running statistics directly follows a layer"
    except NotTraceable as error:
        pairs, reason = _side_by_side(folded), str(error)
    modules = dict(folded.named_modules())
    pairs = [(layer, norm) for layer, norm in pairs if _fit(modules[layer], modules[norm])]
    if not pairs:
        raise ValueError(f"nothing can be folded: {reason}")
    for layer, norm in pairs:
        _merge(modules[layer], modules[norm])
        parent = layer.rpartition(".")[0]
        if type(modules[parent]) is nn.Sequential and list(modules[parent]._modules) == ["layer", "norm"]:
            if not parent:
                return modules[layer]
            folded.set_submodule(parent, modules[layer])
        else:
            folded.set_submodule(norm, nn.Identity())
    return folded


def _in_graph(model: nn.Module) -> list[tuple[str, str]]:
    """Returns the names of layers and of the modules that alone take their outputs; those that run once."""
    graph = trace(model, SIDE_BY_SIDE)
    calls = {node: str(node.target) for node in graph.nodes if node.op == "call_module"}
    read = [str(node.target).rpartition(".")[0] for node in graph.nodes if node.op == "get_attr"]
    times = Counter([*calls.values(), *read])
    after = {name: [calls.get(user, "") for user in node.users] for node, name in calls.items()}
    alone = {name: users[0] for name, users in after.items() if len(users) == 1}
    return [(name, user) for name, user in alone.items() if times[name] == times[user] == 1]


def _side_by_side(model: nn.Module) -> list[tuple[str, str]]:
    """Returns the names of neighbours in an nn.Sequential that stand nowhere else."""
    places = Counter(id(m) for _, m in model.named_modules(remove_duplicate=False))
    found = []
    for name, block in model.named_modules():
        if isinstance(block, nn.Sequential) and type(block).forward is nn.Sequential.forward:
            for (first, layer), (second, norm) in pairwise(block._modules.items()):
                if places[id(layer)] == places[id(norm)] == 1:
                    found.append((f"{name}.{first}".lstrip("."), f"{name}.{second}".lstrip(".")))
    return found


def _fit(layer: nn.Module, norm: nn.Module) -> bool:
    """Says whether the normalization is over the layer's units, by running statistics."""
    if not (isinstance(layer, WEIGHTED) and isinstance(norm, nn.modules.batchnorm._BatchNorm)):
        return False
    if parametrize.is_parametrized(layer):  # its weight is no parameter that could be set
        return False
    return (
        norm.running_mean is not None
        and norm.num_features == unit_count(layer)
        and getattr(norm, "dim", 1) in (1, 1 - layer.weight.dim())
    )


@torch.no_grad()
def _merge(layer: Any, norm: Any) -> None:
    """Merges the normalization into the layer, in float64."""
    mean, scale = norm.running_mean.double(), (norm.running_var.double() + norm.eps).rsqrt()
    scale = scale if norm.weight is None else scale * norm.weight
    bias = (-mean if layer.bias is None else layer.bias - mean) * scale
    bias = bias if norm.bias is None else bias + norm.bias
    weight = layer.weight.to(torch.float64, copy=True)  # others may share it
    blocks = unit_blocks(layer, weight)
    for block, part in zip(blocks, scale.chunk(len(blocks)), strict=True):
        block.mul_(part.view(-1, *[1] * (block.dim() - 1)))
    layer.weight = nn.Parameter(weight.to(layer.weight), layer.weight.requires_grad)
    layer.bias = nn.Parameter(bias.to(layer.weight), layer.weight.requires_grad)
