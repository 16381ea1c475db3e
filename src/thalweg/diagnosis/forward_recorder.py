"""A watch on a forward pass: what each layer gets and gives, the functions after it, the layers that it comes to."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from thalweg.diagnosis.attention import Spread, entropy_of_call, entropy_of_module
from thalweg.initialization.following import LOOKED_THROUGH, function_name, nonlinearity_of
from thalweg.normalization import BatchNorm
from thalweg.tensors.layers import NORMS, WEIGHTED
from thalweg.tensors.private import BatchNormBase, ConvolutionBase, InstanceNormBase

LAYERS = (*WEIGHTED, nn.RNNBase, nn.MultiheadAttention)
TABLES = (nn.Embedding, nn.EmbeddingBag, nn.RNNCellBase, *NORMS)
RESHAPED = frozenset(
    [
        "flatten",
        "unflatten",
        "view",
        "reshape",
        "permute",
        "transpose",
        "movedim",
        "squeeze",
        "unsqueeze",
        "contiguous",
        "to",
        "float",
        "double",
        "clone",
        "T",
        "__get__",
        "getitem",
        "chunk",
        "split",
    ]
)
ENDS = {"softmax", "sigmoid", "tanh", "relu", "relu6", "hardtanh", "hardsigmoid", "softplus", "log_softmax"}
STEPS = {"round", "sign", "sgn", "floor", "ceil", "trunc", "fix", "heaviside"}
PRODUCTS = {"matmul", "rmatmul", "bmm", "mul", "rmul", "einsum", "baddbmm"}
CENTRING = (BatchNormBase, InstanceNormBase)


@dataclass
class Layer:
    """What one layer showed on the batch, the first time that it ran.

    Attributes:
        name, module: of the model.
        output: of the layer itself, before what follows; of a tuple the first.
        inputs: what it was called with.
        received: the first tensor of these of floating-point numbers; None where there is none.
        reads: what tells the tensors that layers receive apart: layers of one number read the same.
        gradient: of the loss by it; None where none comes.
        handed_on: gradient of the loss by what it received, where no layer is before it; None where none comes.
        activations: outputs of the nonlinearities that follow it directly, by their names.
        feeds, fed: names of the layers that its output comes to, and that its inputs come from, with no other between.
        norm: the batch or instance normalization that its output goes to and nowhere else.
        normalized: whether its output goes to a normalization, with no other layer between.
        entropy: of an attention whose scores come from it, the mean over its rows as a share of the largest.
        scores: of that attention, their deviation within rows.
        cuts: functions after it, with no other layer between, that let no gradient through to it.
        dropout: the largest share that a function, not a module, drops of its output.
    """

    name: str
    module: Any
    output: Tensor
    inputs: tuple[Any, ...] = ()
    received: Tensor | None = None
    reads: int = 0
    gradient: Tensor | None = None
    handed_on: Tensor | None = None
    activations: dict[str, Tensor] = field(default_factory=dict)
    feeds: set[str] = field(default_factory=set)
    fed: set[str] = field(default_factory=set)
    norm: str = ""
    normalized: bool = False
    entropy: float | None = None
    scores: float = 0.0
    cuts: set[str] = field(default_factory=set)
    dropout: float = 0.0

    @property
    def unit_dim(self) -> int:
        """The dimension of the units in :attr:`output`."""
        if isinstance(self.module, BatchNorm):
            return self.module.dim
        by_channel = isinstance(self.module, (ConvolutionBase, *CENTRING, nn.GroupNorm))
        return 1 if by_channel and self.output.dim() > 1 else -1


def is_layer(module: nn.Module) -> bool:
    """Returns whether it is one of torch's layers, or a module of someone's own with a matrix and no parts."""
    if isinstance(module, LAYERS):
        return True
    if isinstance(module, TABLES) or next(module.children(), None) is not None:
        return False
    return any(p.dim() > 1 and p.is_floating_point() for p in module.parameters(recurse=False))


def first_of(output: Any) -> Tensor | None:
    """Returns the tensor that a layer gives, the first of several; None where there is none."""
    first = output[0] if isinstance(output, tuple) and output else output
    return first if isinstance(first, Tensor) and first.is_floating_point() else None


def in_place_of(output: Any, tensor: Tensor) -> Any:
    """Returns a layer's output with its first tensor replaced."""
    return (tensor, *output[1:]) if isinstance(output, tuple) else tensor


class ForwardRecorder(TorchFunctionMode):
    """Notes each layer's output, and follows it through every function that is called."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        kinds = (*NORMS, nn.RNNCellBase)
        self.modules = {n: m for n, m in model.named_modules() if isinstance(m, kinds) or is_layer(m)}
        self.layers: dict[str, Layer] = {}
        self.norms: dict[str, Layer] = {}
        self.graph: dict[str, Tensor] = {}
        self.read: dict[str, Tensor] = {}  # what a first layer receives, with its graph
        self.through: dict[str, list[Tensor]] = {}  # what a recurrent layer reads, or what its cell gives step by step
        self.kept: list[Any] = []  # so that no id is used twice
        self.source: dict[int, set[str]] = {}  # a tensor's id: layers that it comes from with no other between
        self.scale: dict[int, set[str]] = {}  # likewise with no nonlinearity between
        self.output: dict[int, str] = {}  # a tensor's id: the layer whose output it is
        self.ends: dict[int, str] = {}  # a tensor's id: the function that it is the value of, but for its shape
        self.shares: dict[int, tuple[set[str], Spread]] = {}  # a softmax's id: where its scores come from, their spread
        self.uses: dict[int, int] = {}
        self.types: set[torch.dtype] = set()  # of what functions gave
        self.noting = False  # whether what is called is this class's own
        self.handles: list[Any] = []

    def __enter__(self) -> "ForwardRecorder":
        for name, module in self.modules.items():
            before = partial(self._before, name)
            self.handles.append(module.register_forward_pre_hook(before, with_kwargs=True))
            self.handles.append(module.register_forward_hook(partial(self._after, name), with_kwargs=True))
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        for handle in self.handles:
            handle.remove()
        for key, name in self.output.items():
            if self.uses.get(key, 0) != 1:
                self.layers[name].norm = ""

    def _before(self, name: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        tensors = [a for a in (*args, *kwargs.values()) if isinstance(a, Tensor)]
        for tensor in tensors:
            for source in self.source.get(id(tensor), ()):
                if is_layer(module):
                    self.layers[source].feeds.add(name)
                elif not isinstance(module, nn.RNNCellBase):
                    self.layers[source].normalized = True
            if isinstance(module, CENTRING) and id(tensor) in self.output and module.training:
                self.layers[self.output[id(tensor)]].norm = name
        if isinstance(module, nn.RNNBase) and name not in self.through and args and isinstance(args[0], Tensor):
            read = args[0] if args[0].requires_grad else args[0].clone().requires_grad_()
            self.kept.append(read)
            self.through[name] = [read]
            return (read, *args[1:]), kwargs
        return None

    def _after(self, name: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        tensor = first_of(output)
        if tensor is None or tensor.dim() < 1:
            return None
        if isinstance(module, nn.RNNCellBase):
            self.through.setdefault(name, []).append(tensor)
            return None
        passed = tensor.clone()  # what changes it in place later leaves this one
        self.kept += [tensor, passed]
        self.uses[id(passed)] = 0
        noted = self.layers if is_layer(module) else self.norms
        first = name not in noted
        if first:
            self.noting = True
            noted[name] = self._noted(name, module, args, kwargs, tensor)
            self.noting = False
            if not tensor.requires_grad and any(p.requires_grad for p in module.parameters()):
                noted[name].cuts.add("torch.no_grad")
            self.graph[name] = tensor
        if noted is self.layers:
            self.source[id(passed)] = self.scale[id(passed)] = {name}
            if first:
                self.output[id(passed)] = name
            if first and isinstance(module, nn.RNN):
                noted[name].activations[module.nonlinearity] = tensor.detach()
        else:
            self.source[id(passed)] = self.source.get(id(tensor), set())
            self.scale[id(passed)] = self.scale.get(id(tensor), set())
        return in_place_of(output, passed)

    def _noted(self, name: str, module: nn.Module, args: Any, kwargs: dict[str, Any], output: Tensor) -> Layer:
        given = [a for a in (*args, *kwargs.values()) if isinstance(a, Tensor)]
        received = next((a for a in given if a.is_floating_point()), None)
        self.kept += given
        layer = Layer(name, module, output.detach(), args if isinstance(module, nn.RNNBase) else ())
        if received is not None and is_layer(module):  # a normalization's own reading would count as a use
            layer.received, layer.reads = received.detach().clone(), id(received)
        layer.fed = set().union(*(self.source.get(id(a), set()) for a in given))
        if layer.received is not None and not layer.fed and received is not None:
            self.read[name] = received
        if isinstance(module, nn.MultiheadAttention):
            self.layers[name] = layer
            self._score({name}, entropy_of_module(module, args, kwargs))
        return layer

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        results = [t for t in (result if isinstance(result, (tuple, list)) else (result,)) if isinstance(t, Tensor)]
        if not results:
            return result
        self.types.update(t.dtype for t in results)
        given = [a for arg in (*args, *kwargs.values()) for a in (arg if isinstance(arg, (tuple, list)) else (arg,))]
        keys = [id(a) for a in given if isinstance(a, Tensor)]
        for key in keys:
            self.uses[key] = self.uses.get(key, 0) + 1
        source: set[str] = set().union(*(self.source.get(key, set()) for key in keys))
        scale: set[str] = set().union(*(self.scale.get(key, set()) for key in keys))
        called, name = nonlinearity_of(func, args, kwargs), function_name(func)
        if called:
            for layer in scale:
                self.layers[layer].activations.setdefault(called.partition(":")[0], results[0].detach().clone())
            scale = set()
        elif name not in LOOKED_THROUGH:
            scale = set()
        self._attended(name, args, kwargs, keys, results)
        if not self.noting:
            self._cut(func, args, kwargs, given, results)
        end = (called or name).partition(":")[0]
        end = end if end in ENDS else next((self.ends[k] for k in keys if k in self.ends and name in RESHAPED), "")
        for tensor in results if source or end else []:
            self.kept.append(tensor)
            if source:
                self.source[id(tensor)] = source
                self.scale[id(tensor)] = scale
            if end:
                self.ends[id(tensor)] = end
        return result

    def _cut(self, func: Any, args: Any, kwargs: dict[str, Any], given: list[Any], results: list[Tensor]) -> None:
        """Notes at the layers before it a function that lets no gradient through, and one that drops their values."""
        held = [a for a in given if isinstance(a, Tensor) and a.requires_grad]
        before = [self.layers[layer] for a in held for layer in self.source.get(id(a), ())]
        name = function_name(func)
        if name in STEPS or not any(t.requires_grad for t in results):
            called = {"get": "data"}.get(name, name) if torch.is_grad_enabled() else "torch.no_grad"
            for layer in before:
                layer.cuts.add(called)
        elif func is functional.dropout:
            asked = {"p": 0.5, "training": True} | dict(zip(("input", "p", "training"), args, strict=False)) | kwargs
            share = float(asked["p"]) if asked["training"] else 0.0
            for layer in before:
                layer.dropout = max(layer.dropout, share)

    def _attended(self, name: str, args: Any, kwargs: Any, keys: Iterable[int], results: list[Tensor]) -> None:
        """Notes the entropy of attention at the layers that its scores come from."""
        if name in ("softmax", "scaled_dot_product_attention"):
            share = entropy_of_call(name, args, kwargs)
            asked = [a for a in (*args, *kwargs.values()) if isinstance(a, Tensor)]
            asked = asked[: 2 if name != "softmax" else 1]
            sources = set().union(*(self.source.get(id(a), set()) for a in asked))
            if share is not None and name == "softmax":
                self.kept.append(results[0])
                self.shares[id(results[0])] = sources, share
            elif share is not None:
                self._score(sources, share)
            return
        held = [self.shares[key] for key in keys if key in self.shares]
        if held and name in PRODUCTS:
            self._score(*held[0])
        elif held and name in LOOKED_THROUGH:
            self.kept += results
            self.shares |= {id(tensor): held[0] for tensor in results}

    def _score(self, sources: set[str], spread: Spread | None) -> None:
        for layer in (self.layers[source] for source in sources if spread is not None):
            if spread is not None and (layer.entropy is None or spread.entropy < layer.entropy):
                layer.entropy, layer.scores = spread
