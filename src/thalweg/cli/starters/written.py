"""A starter, with what a module of the user's gives in the place of what it has made up."""

import ast
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from thalweg.cli.starters.data import TARGETS, parts
from thalweg.cli.starters.edits import indented, text_of, with_body, without
from thalweg.cli.starters.guesses import arguments
from thalweg.cli.starters.layers import Layer, image_size, layers
from thalweg.cli.starters.module import Module

Kind = Literal["vision", "text", "tabular", "transformers", "lightning", "loop"]
KINDS: tuple[Kind, ...] = get_args(Kind)
TEMPLATES = Path(__file__).parent / "templates"
STEMS: dict[str, Kind] = {"Conv2d": "vision", "Embedding": "text", "EmbeddingBag": "text", "Linear": "tabular"}
FIRST: dict[Kind, str] = {"vision": "CHANNELS", "text": "VOCABULARY", "transformers": "VOCABULARY"}
CONSTANT = re.compile(r"^([A-Z]+) = \d+", re.M)
# The bodies of steps.
ONE_NUMBER = "inputs, target = batch\nreturn nn.functional.mse_loss(model(inputs).flatten(), target.flatten().float())"
NEXT_TOKEN = (
    "tokens, following = batch\nreturn nn.functional.cross_entropy(model(tokens).flatten(0, 1), following.flatten())"
)


@dataclass(frozen=True)
class Source:
    """A model of the user's: the text that defines it, and the name that its module is imported by."""

    module: Module
    imported_as: str
    model: str
    found: list[Layer] = field(default_factory=list)

    @classmethod
    def of(cls, module: Module, imported_as: str, model: str) -> "Source":
        """Returns the source, with the layers of the model."""
        return cls(module, imported_as, model, [layer for layer in layers(module, model) if layer.takes is not None])

    @property
    def stem(self) -> Layer | None:
        """The first layer that has a size."""
        return next((layer for layer in self.found if layer.name in STEMS), None)

    @property
    def head(self) -> Layer | None:
        """The last layer that maps linearly."""
        return next((layer for layer in reversed(self.found) if layer.name == "Linear"), None)

    def kind(self) -> Kind:
        """Returns the kind of training that the model is made for.

        Raises:
            ValueError: its layers do not tell.
        """
        if self.module.role(self.model) == "lightning":
            return "lightning"
        if self.module.is_of_transformers(self.model):
            return "transformers"
        first = next((layer.name for layer in self.found), "")
        if first in STEMS or not first:
            return STEMS.get(first, "tabular")
        raise ValueError(f"{self.model} begins with {first}, which does not tell what its data are: choose a --kind")


def starter(kind: Kind, file: str, source: Source | None = None) -> str:
    """Returns the text of a starter for a file of that name.

    Raises:
        ValueError: what the model needs cannot be made up.
    """
    name: str = kind
    if source is not None and kind == "text" and _has_labels(source):
        name = "labelled_text"
    text = (TEMPLATES / f"{name}.py").read_text(encoding="utf-8")
    if source is not None:
        text = _imported(text, kind, source)
    return text.replace("my.py", file)


def command_of(text: str, file: Path) -> str:
    """Returns the command that a starter's docstring names, as a shell reads it where ``file`` is the starter."""
    found = re.search(r"^    (thalweg compare .*)$", text, re.M)
    assert found is not None
    return shlex.join(word.replace(file.name, str(file)) for word in found[1].split())


def _imported(text: str, kind: Kind, source: Source) -> str:
    """Returns a starter with the model, and the data if there are any, of a source in place of its own."""
    module, model, data_kind = source.module, source.model, kind
    if kind in ("lightning", "loop"):
        data_kind = STEMS[source.stem.name] if source.stem is not None else "tabular"
        name = "labelled_text" if data_kind == "text" and _has_labels(source) else data_kind
        text = _with_data_of(text, (TEMPLATES / f"{name}.py").read_text(encoding="utf-8"))
    sizes, roles = _sizes(text, data_kind, source)
    for constant, size in sizes.items():
        text = re.sub(rf"^{constant} = \d+", f"{constant} = {size}", text, flags=re.M)
    constants = set(CONSTANT.findall(text))
    taken = {node.name for node in ast.parse(text).body if isinstance(node, ast.FunctionDef | ast.ClassDef)} - {"Model"}
    names: dict[str, str] = {}

    def used(name: str) -> str:
        names[name] = f"Own{name}" if name in taken | constants | set(_bound(text)) else name
        return names[name]

    given = arguments(module, model, constants, roles, used)
    text = with_body(without(text, "Model"), "model", f"return {used(model)}({given})")
    if kind == "lightning":
        if module.method(model, "configure_optimizers") is None:
            text = text[: text.index("\n\nown = ")].replace(",my.py:own", "")
        if any(name.split(".")[0] == "lightning" for name in module.imported.values()):
            text = text.replace("import pytorch_lightning as pl", "import lightning.pytorch as pl")
        for data in module.all_of("datamodule")[:1]:
            text = without(without(text, "made_up"), "Data")
            text = with_body(text, "data", f"return {used(data)}({arguments(module, data, constants, {}, used)})")
    elif kind != "transformers":
        text = _with_parts(text, source, constants, used, sizes.get("CLASSES") == 1)
    text = re.sub(r'name="\w+"', f'name="{model.lower()}"', text)
    lines = text.split("\n")
    last = max(node.end_lineno or 0 for node in ast.parse(text).body if isinstance(node, ast.Import | ast.ImportFrom))
    lines[last:last] = ["", *_import_lines(source.imported_as, names)]
    return _tidied("\n".join(lines))


def _import_lines(module: str, names: dict[str, str]) -> Iterator[str]:
    """Yields the lines that import names, by what they are called, in the order of isort."""
    ordered = sorted(names, key=lambda name: (not name.isupper(), not name[0].isupper(), name))
    if plain := [name for name in ordered if names[name] == name]:
        yield f"from {module} import {', '.join(plain)}"
    yield from (f"from {module} import {name} as {names[name]}" for name in ordered if names[name] != name)


def _with_parts(text: str, source: Source, constants: set[str], used: Callable[[str], str], one_number: bool) -> str:
    """Returns a starter with the data sets of a source, if it has any, and the step that they and the model need."""
    forward = source.module.method(source.model, "forward")
    inputs = [] if forward is None else [argument.arg for argument in forward.args.args[1:]]
    needed = inputs[: len(inputs) - (0 if forward is None else len(forward.args.defaults))]
    data = parts(source.module, constants, used, needed)
    if data is not None:
        text = with_body(without(text, "made_up"), "parts", data.body)
        if "batch[" in data.loss:
            of_dictionary = "{name: part.to(device) for name, part in batch.items()}"
            text = text.replace("[part.to(device) for part in batch]", of_dictionary)
    if forward is not None and len(inputs) > 1 and inputs[1] in TARGETS:
        return _with_step(text, f"return model(*batch){_place_of_loss(forward)}")
    if data is not None and data.loss:
        return _with_step(text, data.loss)
    if data is None and len(needed) > 1:
        raise ValueError(
            f"{source.model}.forward takes {', '.join(needed)}, and init can make up one input alone: define in the "
            "module a data set whose examples are the inputs and the target"
        )
    if one_number:
        text = text.replace("CLASSES = 1", "CLASSES = 2  # 0 or 1, as the number that the model is to give")
        return _with_step(text, ONE_NUMBER)
    return text if {"CLASSES", "FEATURES"} & constants else _with_step(text, NEXT_TOKEN)


def _with_data_of(text: str, other: str) -> str:
    """Returns a text with the constants, and the data that are made up, of another."""
    constants = re.compile(r"(?:^[A-Z]+ = \d+.*\n)+", re.M)
    block = constants.search(other)
    assert block is not None
    text = text.replace(text_of(text, "made_up"), text_of(other, "made_up"))
    return constants.sub(lambda _: block[0], text, count=1)


def _sizes(text: str, kind: Kind, source: Source) -> tuple[dict[str, int], dict[str, str]]:
    """Returns the constants that the layers tell, and those that arguments of the model stand for."""
    sizes: dict[str, int] = {}
    roles: dict[str, str] = {}
    ends = (source.stem, "takes", FIRST.get(kind, "FEATURES")), (source.head, "gives", "CLASSES")
    for layer, what, constant in ends:
        value = None if layer is None else getattr(layer, what)
        if isinstance(value, int):
            sizes[constant] = value
        elif isinstance(value, str) and f"\n{constant} = " in text:
            roles[value] = constant
    if kind == "vision":
        sizes["SIZE"] = image_size(layers(source.module, source.model, along=True))
    if kind == "text":
        tables = [layer.takes for layer in source.found if layer.name == "Embedding"][1:]
        sizes["LENGTH"] = min([16, *(size for size in tables if isinstance(size, int))])
    return sizes, roles


def _has_labels(source: Source) -> bool:
    """Returns whether a model of texts gives a class, and not the next token."""
    stem, head = source.stem, source.head
    return stem is not None and head is not None and head.gives is not None and head.gives != stem.takes


def _place_of_loss(forward: ast.FunctionDef) -> str:
    """Returns where in what ``forward`` returns its loss is."""
    for node in ast.walk(forward):
        value = node.value if isinstance(node, ast.Return) else None
        if isinstance(value, ast.Tuple):
            for place, part in enumerate(value.elts):
                if "loss" in ast.unparse(part).lower():
                    return f"[{place}]"
        if isinstance(value, ast.Dict) and any(isinstance(k, ast.Constant) and k.value == "loss" for k in value.keys):
            return '["loss"]'
    return ""


def _bound(text: str) -> Iterator[str]:
    """Yields the names that a text imports."""
    for node in ast.parse(text).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from (alias.asname or alias.name.split(".")[0] for alias in node.names)


def _with_step(text: str, body: str) -> str:
    """Returns a text whose model is trained by a step with this body."""
    step = 'def step(model: nn.Module, batch: Any) -> Any:\n    """Returns the loss of a batch."""\n'
    step += "\n".join(indented(body))
    before = "@torch.no_grad()" if "\n@torch.no_grad()" in text else "def task()"
    text = without(text, "step").replace(f"\n\n{before}", f"\n\n{step}\n\n\n{before}")
    loss = "nn.functional.cross_entropy,  # or your own: (output, target) -> mean over the batch"
    text = text.replace(loss, "step=step,  # judged by its mean; by another metric with evaluate=")
    return (
        text
        if "\nfrom typing import Any\n" in text
        else text.replace('\n"""\n', '\n"""\n\nfrom typing import Any\n', 1)
    )


def _unused(node: ast.Assign, used: set[str]) -> bool:
    return not {name.id for name in ast.walk(node.targets[0]) if isinstance(name, ast.Name)} & used


def _tidied(text: str) -> str:
    """Returns a text without the imports and the constants that nothing in it uses."""
    tree, lines = ast.parse(text), text.split("\n")
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    for node in reversed(tree.body):
        if isinstance(node, ast.Import | ast.ImportFrom):
            kept = [alias for alias in node.names if (alias.asname or alias.name.split(".")[0]) in used]
            if len(kept) < len(node.names):
                node.names = kept
                lines[node.lineno - 1 : node.end_lineno] = [ast.unparse(node)] if kept else []
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]).isupper() and _unused(node, used):
            del lines[node.lineno - 1]
    return re.sub(r"\n{3,}(?=[^\n ])", "\n\n\n", re.sub(r'"""\n{2,}', '"""\n\n', "\n".join(lines), count=1))
