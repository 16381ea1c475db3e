"""Batch normalization folded into the layer before it, once training is over: it then costs nothing.

    γ (XW + b − μ)/√(δ + σ²) + β = X W' + b',    W' = W s,  b' = (b − μ) s + β,  s = γ/√(δ + σ²)

Source: Deep Learning, §8.7.1; Ioffe & Szegedy 2015, algorithm 2.
"""

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, fx, nn

from thalweg.normalization.convert import TORCHS
from thalweg.normalization.module import BatchNorm
from thalweg.normalization.neighbours import neighbours
from thalweg.tensors.graph import NotTraceable, all_traces, trace
from thalweg.tensors.known import listed, obstacle, put_in_place
from thalweg.tensors.layers import WEIGHTED, unit_blocks, unit_count
from thalweg.tensors.private import BatchNormBase, assert_in_graph, own_buffers, own_modules, own_parameters

SIDE_BY_SIDE = "put the layer and the normalization next to each other in an nn.Sequential, as add_batch_norm does"
NO_LAYER = "it does not directly follow a dense or convolution layer"
RANKS = {nn.BatchNorm1d: (2, 3), nn.BatchNorm2d: (4,), nn.BatchNorm3d: (5,)}  # of the inputs that torch's take


def fold_batch_norm(model: nn.Module) -> nn.Module:
    """Returns a copy of the model for inference, each batch normalization merged into the layer that it follows.

    Merged are those, of torch and of thalweg, with running statistics, whose input is the output of a dense or
    convolution layer, also transposed or grouped, which goes nowhere else. ``nn.Identity`` stands in their place; what
    :func:`add_batch_norm` made becomes the plain layer again. The copy is in evaluation mode and equals the model in
    evaluation but for rounding.

    What is not known to stay equal is left as it is, and named with the reason: a layer or normalization with hooks, a
    parametrized weight or a forward of its own, as a subclass with a fused activation has; one that runs twice; one
    whose tensors something else reads. The graph is read by torch.fx along every way that values or options decide;
    where it cannot be, neighbours in an ``nn.Sequential`` are merged that the source shows to be called as a whole.
    Dense layers before a normalization of dimension 1 are taken to give ``(N, C)``; what stands in its place raises an
    error where they give ``(N, L, C)``, of which the normalization has L as its features.

    Arguments:
        model: any module; it is not changed.

    Raises:
        ValueError: nothing can be merged; the message says why.

    Warns:
        UserWarning: normalizations are left, each of them named with the reason.

    >>> net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.ReLU())
    >>> fold_batch_norm(net)
    Sequential(
      (0): Linear(in_features=2, out_features=3, bias=True)
      (1): Identity()
      (2): ReLU()
    )
    """
    copy = _copied(model).eval()
    modules = dict(copy.named_modules())
    left = {n: NO_LAYER for n, m in modules.items() if isinstance(m, BatchNormBase)}
    reason = "no batch normalization with running statistics directly follows a layer"
    try:
        trace(copy, SIDE_BY_SIDE)
    except NotTraceable as error:
        reason = str(error)
    try:
        graphs = all_traces(copy)
        before = {norm: _before(norm, graphs, copy, left) for norm in left}
    except NotTraceable:
        graphs, before = [], dict(neighbours(copy))
        left = dict.fromkeys(
            left, "the graph cannot be read, so it is unknown whether it is called only after the layer"
        )
    pairs = {}
    for norm in list(left):
        layer = before.get(norm)
        why = _unfit(layer, modules[layer], modules[norm]) if layer else _unfit_alone(modules[norm])
        if why is not None:
            left[norm] = why
        elif layer is not None:
            pairs[norm] = layer
    if graphs and not _alike(graphs, _folded(copy, pairs)):
        for norm, layer in list(pairs.items()):
            if not _alike(graphs, _folded(copy, {norm: layer})):
                left[norm] = "the model inspects it or its layer"
                del pairs[norm]
    left = {norm: why for norm, why in left.items() if norm not in pairs}
    if not pairs:
        raise ValueError(f"nothing can be folded: {reason}{listed(left)}")
    if left:
        warnings.warn(f"some batch normalizations are not folded{listed(left)}", stacklevel=2)
    folded = _plain(_folded(copy, pairs), pairs)
    places = dict(folded.named_modules())
    for norm, layer in pairs.items():
        if norm in places and isinstance(modules[layer], nn.Linear) and getattr(modules[norm], "dim", 1) == 1:
            places[norm].__class__ = _OfRows
    return folded


class _OfRows(nn.Identity):
    """Stands for a normalization of ``(N, C)`` that was folded."""

    def forward(self, input: Tensor) -> Tensor:
        assert_in_graph(input.dim() == 2, "a batch norm folded into a dense layer takes (N, C): do not fold this one")
        return input

    def _get_name(self) -> str:
        return "Identity"


def _copied(model: nn.Module) -> nn.Module:
    """Returns a copy; tensors that were computed, such as the weight under weight_norm, are no obstacle."""
    held = (value for module in model.modules() for value in vars(module).values())
    return deepcopy(model, {id(t): t.detach().clone() for t in held if isinstance(t, Tensor) and not t.is_leaf})


def _before(norm: str, graphs: Sequence[fx.Graph], model: nn.Module, left: dict[str, str]) -> str | None:
    """Returns the layer whose output the normalization alone takes, whichever way is gone; else notes the reason."""
    found: str | None = None
    for graph in graphs:
        calls = [node for node in graph.nodes if node.op == "call_module"]
        times = Counter(str(node.target) for node in calls)
        node = next((node for node in calls if node.target == norm), None)
        if node is None:
            continue
        first = node.all_input_nodes[0] if node.all_input_nodes else node
        if first.op != "call_module" or not isinstance(model.get_submodule(str(first.target)), WEIGHTED):
            return None
        layer = str(first.target)
        if times[norm] > 1 or times[layer] > 1:
            left[norm] = f"{norm if times[norm] > 1 else layer!r} runs twice"
            return None
        if len(first.users) > 1:
            left[norm] = f"the output of {layer!r} is also used elsewhere"
            return None
        if found not in (None, layer):
            left[norm] = f"it follows different layers, {found!r} and {layer!r}"
            return None
        found = layer
    if found is None:
        left[norm] = "it does not run"
        return None
    for graph in graphs:
        targets = [node.target for node in graph.nodes if node.op == "call_module"]
        if (found in targets) != (norm in targets):
            left[norm] = f"{found!r} sometimes runs without it"
            return None
        for node in graph.nodes:
            if node.op == "get_attr" and _holds(model, str(node.target), norm, found):
                left[norm] = f"{node.target!r} is also read elsewhere"
                return None
    return found


def _holds(model: nn.Module, path: str, *names: str) -> bool:
    """Says whether one of the modules has the tensor at the path, be it under another name."""
    owner, _, name = path.rpartition(".")
    read = getattr(model.get_submodule(owner), name)
    modules = [model.get_submodule(name) for name in names]
    return any(t is read for m in modules for t in (*own_parameters(m).values(), *own_buffers(m).values()))


def _unfit_alone(norm: nn.Module) -> str | None:
    """Returns why the normalization cannot be merged into whatever layer; None where it can."""
    if why := obstacle(norm, (*TORCHS, BatchNorm)):
        return why
    if norm.running_mean is None or norm.running_var is None:
        return "it has no running statistics"
    return "it stays in training mode" if norm.training else None


def _unfit(name: str, layer: nn.Module, norm: nn.Module) -> str | None:
    """Returns why the normalization cannot be merged into the layer; None where it can."""
    if why := _unfit_alone(norm):
        return why
    if why := obstacle(layer, WEIGHTED):
        return f"layer {name!r} before it: {why}"
    weight: Tensor = layer.weight  # type: ignore[assignment]
    if not weight.is_floating_point():
        return f"layer {name!r} before it: its weight is {weight.dtype}"
    dim, ranks = getattr(norm, "dim", 1), next((r for kind, r in RANKS.items() if isinstance(norm, kind)), None)
    over_units = dim == 1 - weight.dim() or (dim == 1 and (ranks is None or weight.dim() in ranks))
    if norm.num_features != unit_count(layer) or not over_units:
        return f"it does not normalize the units of layer {name!r} before it"
    return None


def _folded(model: nn.Module, pairs: Mapping[str, str]) -> nn.Module:
    """Returns a copy with the normalizations merged into their layers, and ``nn.Identity`` wherever they stand."""
    copy = deepcopy(model)
    modules = dict(copy.named_modules())
    for norm, layer in pairs.items():
        _merge(modules[layer], modules[norm])
    put_in_place(copy, {modules[norm]: nn.Identity().eval() for norm in pairs})
    return copy


def _alike(graphs: Sequence[fx.Graph], folded: nn.Module) -> bool:
    """Says whether the forward pass does with the folded model what it did with the model, whichever way is gone."""
    try:
        return list(map(_written, graphs)) == list(map(_written, all_traces(folded)))
    except NotTraceable:
        return False


def _written(graph: fx.Graph) -> list[tuple[Any, ...]]:
    return [(node.op, node.target, repr(node.args), repr(node.kwargs)) for node in graph.nodes]


def _plain(model: nn.Module, pairs: Mapping[str, str]) -> nn.Module:
    """Returns the model with the layer alone where :func:`add_batch_norm` had put a pair."""
    modules = dict(model.named_modules())
    alone = {
        modules[layer.rpartition(".")[0]]: modules[layer]
        for layer in pairs.values()
        if list(own_modules(modules[layer.rpartition(".")[0]])) == ["layer", "norm"]
    }
    alone = {p: m for p, m in alone.items() if type(p) is nn.Sequential and not obstacle(p, (nn.Sequential,))}
    put_in_place(model, alone)
    return alone.get(model, model)


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
