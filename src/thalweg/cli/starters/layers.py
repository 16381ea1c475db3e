"""What a model takes and gives, as far as its text tells: its layers, in order."""

import ast
import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from thalweg.cli.starters.module import REQUIRED, Module

DEEPEST = 6  # of models that are parts of models
STEMS = ("Linear", "Conv1d", "Conv2d", "Conv3d", "Embedding", "EmbeddingBag", "GRU", "LSTM", "RNN")
SIZES = (28, 32, 8, 16, 24, 48, 64, 96, 128, 224, 256)  # of images, the usual ones first
OPERATORS: dict[type, Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: lambda a, b: a // b if b else 0,
}
Value = int | str | None  # a number, the name of an argument that has none, or unknown


@dataclass(frozen=True)
class Layer:
    """A call of a layer; of what is no number and no argument of the model, the value is None."""

    name: str
    values: tuple[Value, ...] = ()
    words: dict[str, Value] = field(default_factory=dict)

    def value(self, place: int, *words: str, default: Value = None) -> Value:
        """Returns an argument by its place or its name."""
        if place < len(self.values):
            return self.values[place]
        return next((self.words[word] for word in words if word in self.words), default)

    @property
    def takes(self) -> Value:
        """The size of its input: features, channels, or the number of tokens."""
        return self.value(0, "in_features", "in_channels", "num_embeddings", "input_size")

    @property
    def gives(self) -> Value:
        """The size of its output."""
        return self.value(1, "out_features", "out_channels", "embedding_dim", "hidden_size")


@dataclass(frozen=True)
class Settings:
    """An argument that is an object of this class of the module."""

    name: str


def layers(module: Module, name: str, along: bool = False) -> list[Layer]:
    """Returns the layers of a model in the order of its ``__init__``, or ``along`` the way of its input.

    >>> text = "class Net(nn.Module):\\n def __init__(self, n=3):\\n  self.b = nn.Linear(n * 2, 5)"
    >>> [(layer.name, layer.takes, layer.gives) for layer in layers(Module(ast.parse(text)), "Net")]
    [('Linear', 6, 5)]
    """
    given: dict[str, Any] = {}
    called = module.called_with(name)
    for arg, (default, kind) in module.arguments(name).items():
        settings = module.settings(arg, kind)
        known = called.get(arg, default)
        given[arg] = _number(known) if known is not REQUIRED else Settings(settings) if settings else arg
    return list(_Reader(module, along).of(name, given, 0))


def image_size(found: list[Layer]) -> int:
    """Returns the height and width of the images that a network of convolutions takes; 32 where nothing tells."""
    last, head = None, None
    for layer in found:
        if layer.name == "Conv2d":
            last = layer
        elif layer.name == "Linear" and last is not None:
            head = layer
            break
    if last is None or head is None or not isinstance(head.takes, int) or not isinstance(last.gives, int):
        return 32
    fits = [s for s in SIZES if (left := _left(found[: found.index(head)], s)) and last.gives * left**2 == head.takes]
    return fits[0] if fits else 32


def _left(found: list[Layer], size: int) -> int:
    """Returns what convolutions and poolings leave of a size."""
    for layer in found:
        if layer.name.startswith("Adaptive"):
            size = value if isinstance(value := layer.value(0, "output_size"), int) else size
        elif layer.name.endswith(("Pool2d", "Conv2d")):
            at = 2 if layer.name == "Conv2d" else 0
            kernel = layer.value(at, "kernel_size")
            stride = layer.value(at + 1, "stride", default=1 if at else kernel)
            padding = layer.value(at + 2, "padding", default=0)
            if not (isinstance(kernel, int) and isinstance(stride, int) and isinstance(padding, int) and stride):
                return 0
            size = (size + 2 * padding - kernel) // stride + 1
    return size


class _Reader:
    """Reads the layers of a module's models, with what their arguments are."""

    def __init__(self, module: Module, along: bool) -> None:
        self.module, self.along = module, along

    def of(self, name: str, given: dict[str, Any], depth: int) -> Iterator[Layer]:
        """Yields the layers of a class, where ``forward`` cannot be followed in the order of ``__init__``."""
        build, forward = self.module.method(name, "__init__"), self.module.method(name, "forward")
        if build is None or depth > DEEPEST:
            return
        known, made = dict(given), dict[str, list[Layer]]()
        rest: list[Layer] = []
        for statement in build.body:
            found = list(self.calls(statement, known, depth))
            target = statement.targets[0] if isinstance(statement, ast.Assign) else getattr(statement, "target", None)
            value = getattr(statement, "value", None)
            if target is not None and value is not None:
                known[ast.unparse(target)] = self.value(value, known)
                made[ast.unparse(target)] = found
            rest += found
        ordered = list(self.through(forward, made, known)) if self.along and forward is not None else []
        yield from ordered if any(layer.name in STEMS for layer in ordered) else rest

    def calls(self, node: ast.AST, known: dict[str, Any], depth: int) -> Iterator[Layer]:
        """Yields the layers that are made in a piece of text, in its order."""
        for inner in _calls(node):
            name = self.module.meaning(inner.func)
            values = tuple(self.value(argument, known) for argument in inner.args)
            words = {word.arg: self.value(word.value, known) for word in inner.keywords if word.arg}
            if name in self.module.classes and self.module.role(name) in ("model", "lightning"):
                arguments = self.module.arguments(name)
                given: dict[str, Any] = {arg: _number(default) for arg, (default, _) in arguments.items()}
                yield from self.of(name, given | dict(zip(arguments, values, strict=False)) | words, depth + 1)
            elif name.startswith(("torch.nn.", "nn.")):
                yield Layer(name.rpartition(".")[2], values, words)

    def through(self, forward: ast.FunctionDef, made: dict[str, list[Layer]], known: dict[str, Any]) -> Iterator[Layer]:
        """Yields the layers that an input goes through."""
        for inner in _calls(forward):
            name = ast.unparse(inner.func)
            if name in made:
                yield from made[name]
            elif name.endswith("pool2d"):
                words = {word.arg: self.value(word.value, known) for word in inner.keywords if word.arg}
                kind = "".join(part.capitalize() for part in name.rpartition(".")[2].split("_"))
                yield Layer(kind, tuple(self.value(argument, known) for argument in inner.args[1:]), words)

    def value(self, node: ast.expr, known: dict[str, Any]) -> Any:
        """Returns a number, the name of an argument, an object of settings, or None."""
        if (text := ast.unparse(node)) in known:
            return known[text]
        if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
            sides = self.value(node.left, known), self.value(node.right, known)
            return OPERATORS[type(node.op)](*sides) if all(isinstance(side, int) for side in sides) else None
        if isinstance(node, ast.Attribute) and isinstance(settings := known.get(ast.unparse(node.value)), Settings):
            arguments = self.module.arguments(settings.name)
            return _number(arguments[node.attr][0]) if node.attr in arguments else None
        return _number(node)


def _calls(node: ast.AST) -> Iterator[ast.Call]:
    """Yields the calls in a piece of text in the order in which they are made, but for what they make of arguments."""
    for inner in ast.iter_child_nodes(node):
        yield from _calls(inner)
    if isinstance(node, ast.Call):
        yield node


def _number(node: ast.expr) -> int | None:
    if isinstance(node, ast.Tuple) and node.elts and len({ast.unparse(part) for part in node.elts}) == 1:
        node = node.elts[0]  # kernel_size=(3, 3)
    return node.value if isinstance(node, ast.Constant) and type(node.value) is int else None
