"""Batch normalization put into a model that has none: after each layer, on XW, with the redundant bias left out."""

import warnings
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from torch import Tensor, fx, nn

from thalweg.normalization.module import BatchNorm
from thalweg.tensors.graph import NotTraceable, trace
from thalweg.tensors.known import listed, overridden
from thalweg.tensors.layers import NORMS, WEIGHTED, unit_count
from thalweg.tensors.private import forward_hooks, own_parameters

M = TypeVar("M", bound=nn.Module)
CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
READ = "its weight or bias is read elsewhere"
Which = Iterable[str] | Callable[[str, nn.Module], bool]


def add_batch_norm(model: M, layers: Which | None = None, **options: Any) -> M:
    """Puts a :class:`BatchNorm` after dense and convolution layers, in place; returns the model.

        φ(XW + b)  →  φ(BN(XW))

    Each layer becomes ``nn.Sequential(layer=…, norm=…)`` under its name, without its bias: the mean that
    normalization takes away would take b with it, and β stands in its place. Devices, types and modes stay.
    Make optimizers afterwards: parameters come and go.

    Arguments:
        model: any module that contains the layers.
        layers: names of the layers, or ``which(name, module)`` that says for each dense and convolution layer whether
            it is meant. By default all but the output layers, those whose output reaches the model's through nothing
            that has a weight matrix, and those that a normalization follows already.
        options: of :class:`BatchNorm`, such as ``momentum`` or ``ghost``.

    Raises:
        ValueError: by default, the graph cannot be read; no layer is left to normalize; a layer meant is not there,
            is used twice, so that its statistics would mix, is part of a module that uses its weights itself, has a
            forward or forward hooks of its own, or is read elsewhere. The model is then as it was.

    Warns:
        UserWarning: by default, layers with a forward or forward hooks of their own, or whose weight or bias is read
            elsewhere, are left, and named.

    >>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    >>> add_batch_norm(net)
    Sequential(
      (0): Sequential(
        (layer): Linear(in_features=2, out_features=3, bias=False)
        (norm): BatchNorm(3, eps=1e-05, momentum=0.1, affine=True, ...dim=-1)
      )
      (1): ReLU()
      (2): Linear(in_features=3, out_features=1, bias=True)
    )

    Source: Deep Learning, §8.7.1 (p. 320: normalize XW, and leave out the bias).
    """
    every = [(n, m) for n, m in model.named_modules(remove_duplicate=False) if isinstance(m, WEIGHTED)]
    named = dict(every)
    graph = _graph(model, needed=layers is None)
    read = {str(node.target).rpartition(".")[0] for node in graph.nodes if node.op == "get_attr"}
    if layers is None:
        meant = _inner(graph, model)
        left = {name: why for name in meant if (why := _unlike(named[name]) or (READ if name in read else None))}
        meant = [name for name in meant if name not in left]
        if left and meant:
            warnings.warn(f"some layers are not normalized{listed(left)}", stacklevel=2)
        elif left:
            raise ValueError(f"no layer is left to normalize: pass layers=, names or a predicate{listed(left)}")
    elif callable(layers):
        meant = [name for name, module in every if layers(name, module)]
    else:
        meant = [layers] if isinstance(layers, str) else list(layers)
    if not meant:
        raise ValueError("no layer is left to normalize: pass layers=, names or a predicate")
    uses = Counter(id(m) for _, m in every)
    calls = Counter(node.target for node in graph.nodes if node.op == "call_module")
    for name in meant:
        if name not in named or not name:
            raise ValueError(f"the model has no dense or convolution layer {name!r}: choose among {', '.join(named)}")
        if why := _unlike(named[name]) or (READ if name in read else None):
            raise ValueError(f"layer {name!r} cannot be normalized: {why}; omit it from layers=")
        if uses[id(named[name])] > 1 or calls[name] > 1:
            raise ValueError(f"layer {name!r} is used twice, and its statistics would mix: omit it from layers=")
        parent = type(model.get_submodule(name.rpartition(".")[0]))
        if parent.__module__.startswith("torch.nn") and not issubclass(parent, CONTAINERS):
            raise ValueError(
                f"layer {name!r} is part of a {parent.__name__}, which uses its weights itself: omit it from layers="
            )
    pairs = {name: _pair(named[name], options) for name in meant}
    for name, pair in pairs.items():
        named[name].register_parameter("bias", None)
        model.set_submodule(name, pair)
    return model


def _unlike(layer: nn.Module) -> str | None:
    """Returns why a normalization after the layer would not stand on XW, or its bias could not be taken away."""
    if why := overridden(layer, WEIGHTED):
        return why
    if forward_hooks(layer):
        return "it has a forward hook"
    return None if "bias" in own_parameters(layer) else "its bias is not its own parameter"


def _graph(model: nn.Module, needed: bool) -> fx.Graph:
    """Returns the model's graph; an empty one where it cannot be read and is not needed."""
    try:
        return trace(model, "pass layers=, the names of the layers to normalize", (*NORMS, *WEIGHTED))
    except NotTraceable:
        if needed:
            raise
        return fx.Graph()


def _inner(graph: fx.Graph, model: nn.Module) -> list[str]:
    """Returns the layers that are neither output layers nor followed by a normalization."""
    modules = {node: model.get_submodule(str(node.target)) for node in graph.nodes if node.op == "call_module"}
    last: set[fx.Node] = set()
    waiting = [node for node in graph.nodes if node.op == "output"]
    while waiting:
        for node in waiting.pop().all_input_nodes:
            if node not in last:
                last.add(node)
                if node not in modules or all(p.dim() < 2 for p in modules[node].parameters()):
                    waiting.append(node)
    return [
        str(node.target)
        for node, module in modules.items()
        if isinstance(module, WEIGHTED)
        and node not in last
        and not any(isinstance(modules.get(user), NORMS) for user in node.users)
    ]


def _pair(layer: nn.Module, options: dict[str, Any]) -> nn.Sequential:
    weight: Tensor = layer.weight  # type: ignore[assignment]
    channels = 1 - weight.dim()  # counted from the end, so that a dense layer may have a sequence before it
    norm = BatchNorm(unit_count(layer), device=weight.device, dtype=weight.dtype, **{"dim": channels, **options})
    return nn.Sequential(OrderedDict(layer=layer, norm=norm)).train(layer.training)
