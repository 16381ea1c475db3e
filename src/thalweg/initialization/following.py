"""Which nonlinearity follows each layer: read from the graph of the model, or watched while a batch runs through.

From a layer's output on, everything that leaves values' scale alone (dropout, normalization, pooling, reshaping, the
sum of a residual connection) is looked through, up to the first nonlinearity; where another layer or the end of the
model comes first, the layer is linear. Where a number multiplies on the way to a nonlinearity, and no normalization
takes that back, it is unknown. A layer's output is the product with its weight: in a subclass with a fused
activation that comes before what the module gives, and a weight may be used without the module. Where something else
than the model's own code may change the output, as a hook, it is unknown.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode

from thalweg.initialization.effective_tensors import effective_tensors
from thalweg.initialization.gains import FUNCTIONS, NUMBERS, UNKNOWN, name_of, named
from thalweg.tensors.graph import NotTraceable, trace
from thalweg.tensors.known import overridden
from thalweg.tensors.layers import NORMS, WEIGHTED
from thalweg.tensors.parts import watched
from thalweg.tensors.private import POOLINGS, DropoutBase, forward_hooks

_NAMES = (
    "dropout alpha_dropout feature_alpha_dropout dropout1d dropout2d dropout3d batch_norm layer_norm group_norm "
    "instance_norm rms_norm flatten unflatten view reshape permute transpose movedim contiguous unsqueeze squeeze "
    "expand to float half bfloat16 type clone add iadd radd sub cat stack chunk split getitem mean sum max_pool1d "
    "max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d "
    "adaptive_avg_pool3d adaptive_max_pool2d interpolate pad mul imul rmul div truediv itruediv isub rsub neg"
)
LOOKED_THROUGH = frozenset(_NAMES.split())
_NAMES = "linear conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d matmul mm addmm bmm einsum"
PRODUCTS = frozenset(_NAMES.split())  # with a layer's weight, what the layer is
_NAMES = (
    "glu prelu threshold maximum minimum fmax fmin where abs absolute exp expm1 log log1p sqrt rsqrt square pow "
    "cos tan atan arctan erf hardshrink softshrink tanhshrink logsigmoid logaddexp heaviside sign round floor ceil"
)
NONLINEAR = frozenset(_NAMES.split())  # without a gain here
CLAMPS = {"clamp": ("min", "max"), "clip": ("min", "max"), "clamp_min": ("min",)}
CLAMPED: dict[tuple[Any, Any], str] = {(0, None): "relu", (0, 6): "relu6"}
LOOKED_THROUGH_MODULES = (
    DropoutBase,
    *NORMS,
    nn.Flatten,
    nn.Unflatten,
    nn.Identity,
    *POOLINGS,
    nn.Upsample,
)


def following(model: nn.Module, layers: dict[str, nn.Module], batch: Any = None) -> dict[str, str]:
    """Returns the name of the nonlinearity that follows each layer, "unknown" where that is not found.

    Arguments:
        model: any module; it is not changed, nor is the state of random draws.
        layers: names of modules within the model, to the modules.
        batch: an input, or a tuple of the inputs, of the model; without it the graph is traced by torch.fx.

    Raises:
        NotTraceable: without a batch, the graph depends on values; or the batch does not fit the model.

    >>> net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2))
    >>> following(net, {"0": net[0], "3": net[3]})
    {'0': 'relu', '3': 'linear'}
    """
    return _run(model, layers, batch) if batch is not None else _traced(model, layers)


def _traced(model: nn.Module, layers: dict[str, nn.Module]) -> dict[str, str]:
    graph = trace(model, "pass batch=, an input of the model, or nonlinearity=")
    modules = dict(model.named_modules())
    names, weights = {id(module): name for name, module in layers.items()}, _weights(layers)
    found: dict[str, str] = {}
    for node in graph.nodes:
        if node.op == "call_module" and (name := names.get(id(modules[str(node.target)]))):
            found[name] = UNKNOWN if _may_differ(layers[name], WEIGHTED) else _after(node, modules) or "linear"
        elif node.op == "get_attr" and (name := weights.get(id(_at(model, str(node.target))))):
            product = _product(node)
            found[name] = UNKNOWN if product is None else _after(product, modules) or "linear"
    for block in modules.values():  # one piece to the tracer
        if isinstance(block, (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)) and id(block.linear1) in names:
            activation = block.activation
            inner = name_of(activation) if isinstance(activation, nn.Module) else function_name(activation)
            found[names[id(block.linear1)]] = inner if inner in FUNCTIONS else "linear"
    return {name: found.get(name, _unseen(name, model)) for name in layers}


def _weights(layers: Mapping[str, nn.Module]) -> dict[int, str]:
    """Returns the layers by the ids of the parameters of their weights."""
    return {
        id(p): name
        for name, layer in layers.items()
        if (weight := effective_tensors(layer).get("weight"))
        for p in weight.params
    }


def _at(model: nn.Module, path: str) -> Any:
    """Returns what stands at a path of the model's graph, None for a constant that tracing made."""
    owner, _, name = path.rpartition(".")
    return getattr(model.get_submodule(owner), name, None)


def _product(node: fx.Node) -> fx.Node | None:
    """Returns the product that a weight, or what is made from it, enters; None where it is none that is known."""
    waiting, seen = list(node.users), set[fx.Node]()
    while waiting:
        user = waiting.pop(0)
        if user not in seen and user.op in ("call_function", "call_method"):
            if function_name(user.target) in PRODUCTS:
                return user
            seen.add(user)
            waiting += user.users
    return None


def _may_differ(module: nn.Module, kinds: tuple[type[nn.Module], ...]) -> bool:
    """Says whether a module may give something else than its kind does; this package's own hooks change nothing."""
    hooks = [hook for hook in forward_hooks(module).values() if not type(hook).__module__.startswith("thalweg.")]
    return bool(hooks) or overridden(module, kinds) is not None


def _unseen(name: str, model: nn.Module) -> str:
    """Returns what follows a layer that was not seen: part of a module of torch's it is linear, but for the known."""
    parent = model.get_submodule(name.rpartition(".")[0]) if name else model
    return "linear" if type(parent).__module__.startswith("torch.nn.modules.") and name else UNKNOWN


def _after(node: fx.Node, modules: dict[str, nn.Module]) -> str | None:
    """Returns the first nonlinearity on the ways on from a node."""
    waiting, seen = [(user, node, False) for user in node.users], set()
    while waiting:
        user, given, scaled = waiting.pop(0)
        if user in seen:
            continue
        seen.add(user)
        if user.op == "call_module":
            module = modules[str(user.target)]
            name, passes = name_of(module), isinstance(module, LOOKED_THROUGH_MODULES)
            if (passes or name) and _may_differ(module, (nn.Module,)):
                return UNKNOWN
            if name and name != "linear":
                gated = name == "sigmoid" and any(_is_product(other, user, given) for other in user.users)
                return "silu" if gated and not scaled else UNKNOWN if scaled else name
            scaled &= not isinstance(module, NORMS)
        elif user.op in ("call_function", "call_method"):
            called = nonlinearity_of(user.target, user.args, user.kwargs)
            if called:
                gated = called == "sigmoid" and any(_is_product(other, user, given) for other in user.users)
                return UNKNOWN if scaled else "silu" if gated else called
            name, passes = function_name(user.target), function_name(user.target) in LOOKED_THROUGH
            scaled = (scaled or scales(name, user.args)) and not name.endswith("_norm")
        else:
            passes = False
        if passes:
            waiting += [(other, user, scaled) for other in user.users]
    return None


def _is_product(node: fx.Node, *factors: fx.Node) -> bool:
    return function_name(node.target) in ("mul", "imul") and set(node.all_input_nodes) == set(factors)


def scales(name: str, args: Sequence[Any]) -> bool:
    """Says whether a function multiplies or divides by a number other than ±1, which no gain of its own counts."""
    multiplies = name in ("mul", "imul", "rmul", "div", "truediv", "itruediv")
    return multiplies and any(isinstance(a, (int, float)) and abs(a) != 1 for a in args)


def function_name(function: Any) -> str:
    """Returns a function's or method's name without underscores at its ends.

    >>> function_name(torch.relu_), function_name("__add__")
    ('relu', 'add')
    """
    name = function if isinstance(function, str) else getattr(function, "__name__", "")
    return name.strip("_")


def nonlinearity_of(function: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str | None:
    """Returns the name of the nonlinearity that a call is, "unknown" of one without a gain, None of any other call.

    A clamp at 0 is a rectifier, one between two numbers a ``hardtanh``.

    >>> nonlinearity_of(torch.clamp, (torch.ones(1), 0), {}), nonlinearity_of("clamp", (torch.ones(1), -3, 3), {})
    ('relu', 'hardtanh:-3,3')
    """
    name = function_name(function)
    if name in CLAMPS:
        bounds = dict(zip(CLAMPS[name], args[1:], strict=False)) | dict(kwargs)
        low, high = bounds.get("min"), bounds.get("max")
        if isinstance(low, (int, float)) and isinstance(high, (int, float)):
            return CLAMPED.get((low, high)) or named("hardtanh", low, high)
        return CLAMPED.get((low, high), UNKNOWN)
    if name == "threshold" and not any([*args[1:3], *kwargs.values()]):
        return "relu"
    if name == "prelu" and isinstance(args[-1], Tensor):
        return named("leaky_relu", float(args[-1].detach().mean()))
    if name == "rrelu":
        bounds = {"lower": 1 / 8, "upper": 1 / 3, **dict(zip(("lower", "upper"), args[1:], strict=False)), **kwargs}
        return named("leaky_relu", (bounds["lower"] + bounds["upper"]) / 2)
    if name in NUMBERS:
        given = {**dict(zip(NUMBERS[name], args[1:], strict=False)), **kwargs}
        numbers = [given.get(key, default) for key, default in NUMBERS[name].items()]
        return named(name, *numbers) if all(isinstance(n, (int, float)) for n in numbers) else UNKNOWN
    return UNKNOWN if name in NONLINEAR else name if name in FUNCTIONS else None


class _ForwardRecorder(TorchFunctionMode):
    """Follows the layers' outputs through every function that is called."""

    def __init__(self, weights: Mapping[int, str], model: nn.Module) -> None:
        super().__init__()
        self.of: dict[int, set[str]] = {}  # a tensor's id: the layers whose scale it carries
        self.own = {id(t) for t in [*model.parameters(), *model.buffers()]}
        self.weights = {key: {name} for key, name in weights.items()}  # a weight's, or that of what is made from it
        self.scaled: set[int] = set()  # tensors' ids: multiplied by a number since
        self.gates: dict[int, int] = {}  # from the ids of sigmoids to those of what they were taken of
        self.kept: list[Tensor] = []  # so that no id is used twice
        self.found: dict[str, str] = {}
        self.seen: set[str] = set()

    def mark(self, value: Any, names: set[str], weight: bool = False) -> None:
        marks = self.weights if weight else self.of
        for tensor in value if isinstance(value, (tuple, list)) else (value,):
            if isinstance(tensor, Tensor) and names:
                marks[id(tensor)] = marks.get(id(tensor), set()) | names
                self.kept.append(tensor)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        called = nonlinearity_of(func, args, kwargs)
        given = [a for arg in (*args, *kwargs.values()) for a in (arg if isinstance(arg, (tuple, list)) else (arg,))]
        tensors = [a for a in given if isinstance(a, Tensor)]
        names = set().union(*(self.of.get(id(a), set()) for a in tensors))
        name = function_name(func)
        scaled = (scales(name, args) or any(id(a) in self.scaled for a in tensors)) and not name.endswith("_norm")
        if name in ("mul", "imul") and any(self.gates.get(id(a)) == id(b) for a in tensors for b in tensors):
            self.found |= {layer: "silu" for layer in names if self.found.get(layer) == "sigmoid"}
        made = set().union(*(self.weights.get(id(a), set()) for a in tensors))
        entered = any(id(a) not in self.weights and id(a) not in self.own for a in tensors)
        if made and entered and name in PRODUCTS:
            self.seen |= made
            self.mark(result, made)
        elif made and not names and name != "multi_head_attention_forward":
            self.mark(result, made, weight=True)
        elif called and names:
            for layer in names:
                self.found.setdefault(layer, UNKNOWN if scaled else called)
            if called == "sigmoid":
                self.gates[id(result)] = id(tensors[0])
                self.kept.append(result)
        elif name in LOOKED_THROUGH:
            self.mark(result, names)
            if scaled and names and isinstance(result, Tensor):
                self.scaled.add(id(result))
        return result


def _run(model: nn.Module, layers: dict[str, nn.Module], batch: Any) -> dict[str, str]:
    recorder = _ForwardRecorder(_weights(layers), model)

    def note(name: str, output: Any) -> None:
        recorder.seen.add(name)
        recorder.mark(output, {name})

    plain = {name: module for name, module in layers.items() if overridden(module, WEIGHTED) is None}
    modes, buffers = [(m, m.training) for m in model.modules()], [b.detach().clone() for b in model.buffers()]
    try:
        with watched(plain, note), torch.random.fork_rng(), torch.no_grad(), recorder:
            model.eval()
            model(*batch) if isinstance(batch, tuple) else model(batch)
    except Exception as error:
        line = (str(error).splitlines() or [type(error).__name__])[0]
        raise NotTraceable(
            f"the batch does not fit the model ({type(error).__name__}: {line}): pass a batch that fits"
        ) from error
    finally:
        for module, training in modes:
            module.training = training
        for buffer, value in zip(model.buffers(), buffers, strict=True):
            buffer.copy_(value)
    return {n: recorder.found.get(n, "linear") if n in recorder.seen else _unseen(n, model) for n in layers}
