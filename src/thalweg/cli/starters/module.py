"""What a module defines that can be trained, and trained on: read from its text, none of which is run."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

Role = Literal["model", "lightning", "data", "datamodule"]
ROLES: dict[str, Role] = {"LightningModule": "lightning", "LightningDataModule": "datamodule"}
DATA = ("torch.utils.data.", "torchvision.datasets.")
STREAMS = ("torch.utils.data.IterableDataset", "torch.utils.data.IterDataPipe")
CONFIGS = ("args", "cfg", "conf", "config", "hparams", "opt", "settings")  # as arguments with settings are called
REQUIRED = ast.Constant(...)  # in the place of the default that an argument lacks


@dataclass(frozen=True)
class Module:
    """The text of a module."""

    tree: ast.Module

    @cached_property
    def classes(self) -> dict[str, ast.ClassDef]:
        """The classes at its top level, also those in branches such as ``try``."""
        return {node.name: node for node in _top(self.tree.body) if isinstance(node, ast.ClassDef)}

    @cached_property
    def imported(self) -> dict[str, str]:
        """What each imported name stands for, dotted."""
        found: dict[str, str] = {}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                found |= {
                    a.asname or a.name.split(".")[0]: a.name if a.asname else a.name.split(".")[0] for a in node.names
                }
            elif isinstance(node, ast.ImportFrom):
                found |= {a.asname or a.name: f"{'.' * node.level}{node.module or ''}.{a.name}" for a in node.names}
        return found

    def meaning(self, node: ast.expr) -> str:
        """Returns the dotted name of an expression, as imported; empty where it is none."""
        parts: list[str] = []
        if isinstance(node, ast.Subscript):  # Dataset[int]
            node = node.value
        while isinstance(node, ast.Attribute):
            parts.insert(0, node.attr)
            node = node.value
        return ".".join([self.imported.get(node.id, node.id), *parts]) if isinstance(node, ast.Name) else ""

    def ancestors(self, name: str) -> list[ast.ClassDef]:
        """Returns a class and those of the module that it derives from, the nearest first."""
        found: list[ast.ClassDef] = []
        ahead = [name]
        while ahead:
            node = self.classes.get(ahead.pop(0))
            if node is not None and node not in found:
                found.append(node)
                ahead += [base.id for base in node.bases if isinstance(base, ast.Name)]
        return found

    def method(self, name: str, method: str) -> ast.FunctionDef | None:
        """Returns a method of a class, its own or that of an ancestor in the module."""
        for node in self.ancestors(name):
            for inner in node.body:
                if isinstance(inner, ast.FunctionDef) and inner.name == method:
                    return inner
        return None

    def role(self, name: str) -> Role | None:
        """Returns what a class is to a training; None where it is nothing that is known."""
        bases = [self.meaning(base) for node in self.ancestors(name) for base in node.bases]
        for base in bases:
            if (role := ROLES.get(base.rpartition(".")[2])) is not None:
                return role
        if any(base in STREAMS for base in bases):
            return None
        if any(base.startswith("torch.nn.") or base.endswith("PreTrainedModel") for base in bases):
            return "model"
        if any(base.startswith(DATA) for base in bases) or all(
            self.method(name, m) for m in ("__getitem__", "__len__")
        ):
            return "data"
        # Of a class of another module, which is not read, what it does tells.
        return "model" if bases and self.method(name, "forward") else None

    def all_of(self, *roles: Role) -> list[str]:
        """Returns the classes of these roles, in the order of the module."""
        return [name for name in self.classes if self.role(name) in roles]

    def models(self) -> list[str]:
        """Returns the models, of which the first is the one to train: those that are no part of another come first.

        >>> text = "from torch.nn import Module\\nclass A(Module): ...\\nclass B(Module):\\n part = A()"
        >>> Module(ast.parse(text)).models()
        ['B', 'A']
        """
        names = self.all_of("lightning") + self.all_of("model")
        used = {name: _names_in(self.classes[name]) - {name} for name in names}
        parts = {part for name in names for part in used[name]}

        def rank(name: str) -> tuple[bool, bool, bool]:
            return name in parts, name.lower().endswith(("loss", "criterion")), name.startswith("_")

        return sorted(names, key=rank)

    def arguments(self, name: str) -> dict[str, tuple[ast.expr, ast.expr | None]]:
        """Returns the default and the annotation of each argument of a class, as it is called."""
        method = self.method(name, "__init__")
        if method is None:
            fields = self.classes[name].body if _is_dataclass(self.classes[name]) else []
            return {
                node.target.id: (node.value or REQUIRED, node.annotation)
                for node in fields
                if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
            }
        given = method.args
        places = [*given.posonlyargs, *given.args]
        defaults = [*[REQUIRED] * (len(places) - len(given.defaults)), *given.defaults]
        found = {arg.arg: (default, arg.annotation) for arg, default in zip(places, defaults, strict=True)}
        for arg, default in zip(given.kwonlyargs, given.kw_defaults, strict=True):
            found[arg.arg] = default or REQUIRED, arg.annotation
        return dict(list(found.items())[1:])  # without self

    def is_of_transformers(self, name: str) -> bool:
        """Returns whether a class derives from a model of transformers."""
        bases = [self.meaning(base) for node in self.ancestors(name) for base in node.bases]
        return any(base.endswith("PreTrainedModel") for base in bases)

    def required(self, name: str) -> dict[str, ast.expr | None]:
        """Returns the annotations of the arguments without which a class cannot be called."""
        return {arg: kind for arg, (default, kind) in self.arguments(name).items() if default is REQUIRED}

    def settings(self, argument: str, kind: ast.expr | None) -> str | None:
        """Returns the class of the module that an argument is an object of, if it can be called without arguments."""
        named = _names_in(kind) if kind is not None else set()
        for name in self.classes:
            fits = name in named or (
                not named and argument in CONFIGS and name.endswith(("Config", "Args", "Settings"))
            )
            if fits and not self.required(name):
                return name
        return None

    def called_with(self, name: str) -> dict[str, ast.expr]:
        """Returns the arguments of a call of the class in the module, if there is one with numbers and texts alone."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name:
                found = dict(zip(self.arguments(name), node.args, strict=False))
                found |= {word.arg: word.value for word in node.keywords if word.arg}
                whole = len(found) == len(node.args) + len(node.keywords) and set(self.required(name)) <= set(found)
                if found and whole and all(_is_literal(value) for value in found.values()):
                    return found
        return {}


def read(text: str, name: str) -> Module:
    """Returns the module of a text.

    Raises:
        ValueError: it is no Python.
    """
    try:
        return Module(ast.parse(text))
    except SyntaxError as error:
        raise ValueError(f"{name} cannot be read ({error.msg}, line {error.lineno}): correct it") from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f"{name} is not a Python file ({error}): name another one") from error


def _top(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    for node in body:
        yield node
        for branch in ("body", "orelse", "finalbody"):
            if isinstance(node, ast.If | ast.Try | ast.With):
                yield from _top(getattr(node, branch, []))
        for handler in getattr(node, "handlers", []):
            yield from _top(handler.body)


def _names_in(node: ast.AST) -> set[str]:
    return {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)}


def _is_dataclass(node: ast.ClassDef) -> bool:
    return any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list)


def _is_literal(node: ast.expr) -> bool:
    try:
        ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError):
        return False
    return True
