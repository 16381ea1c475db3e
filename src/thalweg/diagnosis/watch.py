"""A watch on a forward pass: each layer's output, the nonlinearities after it, and the layers that it comes to."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from thalweg.initialization.following import LOOKED_THROUGH, function_name, nonlinearity_of
from thalweg.normalization import BatchNorm
from thalweg.tensors.layers import NORMS, WEIGHTED

LAYERS = (*WEIGHTED, nn.RNNBase, nn.MultiheadAttention)
CENTRING = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm)


@dataclass
class Layer:
    """What one layer showed on the batch, the first time that it ran.

    Attributes:
        name, module: of the model.
        output: of the layer itself, before what follows; of a tuple the first.
        inputs: what it was called with.
        gradient: of the loss by it; None where none comes.
        activations: outputs of the nonlinearities that follow it directly, by their names.
        feeds: names of the layers that its output comes to with no other layer between.
        norm: the batch or instance normalization that its output goes to and nowhere else.
    """

    name: str
    module: Any
    output: Tensor
    inputs: tuple[Any, ...] = ()
    gradient: Tensor | None = None
    activations: dict[str, Tensor] = field(default_factory=dict)
    feeds: set[str] = field(default_factory=set)
    norm: str = ""

    @property
    def unit_dim(self) -> int:
        """The dimension of the units in :attr:`output`."""
        if isinstance(self.module, BatchNorm):
            return self.module.dim
        by_channel = isinstance(self.module, (nn.modules.conv._ConvNd, *CENTRING, nn.GroupNorm))
        return 1 if by_channel and self.output.dim() > 1 else -1


def first_of(output: Any) -> Tensor | None:
    """Returns the tensor that a layer gives, the first of several; None where there is none."""
    first = output[0] if isinstance(output, tuple) and output else output
    return first if isinstance(first, Tensor) and first.is_floating_point() else None


def in_place_of(output: Any, tensor: Tensor) -> Any:
    """Returns a layer's output with its first tensor replaced."""
    return (tensor, *output[1:]) if isinstance(output, tuple) else tensor


class Watch(TorchFunctionMode):
    """Notes each layer's output, and follows it through every function that is called."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.modules = {n: m for n, m in model.named_modules() if isinstance(m, (*LAYERS, *NORMS))}
        self.layers: dict[str, Layer] = {}
        self.norms: dict[str, Layer] = {}
        self.graph: dict[str, Tensor] = {}
        self.kept: list[Any] = []  # so that no id is used twice
        self.source: dict[int, set[str]] = {}  # a tensor's id: layers that it comes from with no other between
        self.scale: dict[int, set[str]] = {}  # likewise with no nonlinearity between
        self.output: dict[int, str] = {}  # a tensor's id: the layer whose output it is
        self.uses: dict[int, int] = {}
        self.handles: list[Any] = []

    def __enter__(self) -> "Watch":
        for name, module in self.modules.items():
            before = partial(self._before, name)
            self.handles.append(module.register_forward_pre_hook(before, with_kwargs=True))
            self.handles.append(module.register_forward_hook(partial(self._after, name)))
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        for handle in self.handles:
            handle.remove()
        for key, name in self.output.items():
            if self.uses.get(key, 0) != 1:
                self.layers[name].norm = ""

    def _before(self, name: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        for tensor in (a for a in (*args, *kwargs.values()) if isinstance(a, Tensor)):
            if isinstance(module, LAYERS):
                for source in self.source.get(id(tensor), ()):
                    self.layers[source].feeds.add(name)
            elif isinstance(module, CENTRING) and id(tensor) in self.output and module.training:
                self.layers[self.output[id(tensor)]].norm = name

    def _after(self, name: str, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        tensor = first_of(output)
        if tensor is None or tensor.dim() < 1:
            return None
        passed = tensor.clone()  # what changes it in place later leaves this one
        self.kept += [tensor, passed]
        self.uses[id(passed)] = 0
        noted = self.layers if isinstance(module, LAYERS) else self.norms
        first = name not in noted
        if first:
            noted[name] = Layer(name, module, tensor.detach(), args if isinstance(module, nn.RNNBase) else ())
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

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        results = [t for t in (result if isinstance(result, (tuple, list)) else (result,)) if isinstance(t, Tensor)]
        if not results:
            return result
        given = [a for arg in (*args, *kwargs.values()) for a in (arg if isinstance(arg, (tuple, list)) else (arg,))]
        keys = [id(a) for a in given if isinstance(a, Tensor)]
        for key in keys:
            self.uses[key] = self.uses.get(key, 0) + 1
        source: set[str] = set().union(*(self.source.get(key, set()) for key in keys))
        scale: set[str] = set().union(*(self.scale.get(key, set()) for key in keys))
        called = nonlinearity_of(func, args, kwargs)
        if called:
            for layer in scale:
                self.layers[layer].activations.setdefault(called.partition(":")[0], results[0].detach().clone())
            scale = set()
        elif function_name(func) not in LOOKED_THROUGH:
            scale = set()
        for tensor in results if source else []:
            self.kept.append(tensor)
            self.source[id(tensor)] = source
            self.scale[id(tensor)] = scale
        return result
