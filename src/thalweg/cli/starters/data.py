"""The data sets of a module of the user's, as the three parts of a task."""

import ast
from collections.abc import Callable, Collection
from dataclasses import dataclass

from thalweg.cli.starters.guesses import arguments
from thalweg.cli.starters.module import Module

TARGETS = ("target", "targets", "label", "labels", "y", "tgt")
SPLITS = ("split", "mode", "phase", "subset", "partition")
PARTS = (("train",), ("val", "dev"), ("test",))
HALVES = "[0.8, 0.2], torch.Generator().manual_seed(0)"
THIRDS = "[0.7, 0.15, 0.15], torch.Generator().manual_seed(0)"
RANDOM = "torch.utils.data.random_split"


@dataclass(frozen=True)
class Parts:
    """The body of the function that returns the parts, and of the step that their batches need."""

    body: str
    loss: str


def parts(module: Module, constants: Collection[str], used: Callable[[str], str], inputs: list[str]) -> Parts | None:
    """Returns how a task gets the data sets that a module defines; None where it defines none."""
    names = module.all_of("data")
    if not names:
        return None

    def made(name: str, word: str = "", value: str = "") -> str:
        given = arguments(module, name, constants, {}, used, [word])
        return f"{used(name)}({', '.join(part for part in (given, word and f'{word}={value}') if part)})"

    named = [next((name for name in names if any(word in name.lower() for word in words)), "") for words in PARTS]
    first, takes = names[0], module.arguments(names[0])
    split = next((word for word in SPLITS if word in takes), "")
    if all(named):
        body = f"return {', '.join(made(name) for name in named)}"
    elif split:
        body = "return " + ", ".join(made(first, split, f'"{part}"') for part in ("train", "val", "test"))
    elif "train" in takes:
        body = f"learned, valid = {RANDOM}({made(first, 'train', 'True')}, {HALVES})\n"
        body += f"return learned, valid, {made(first, 'train', 'False')}"
    else:
        body = f"learned, valid, test = {RANDOM}({made(first)}, {THIRDS})\nreturn learned, valid, test"
    return Parts(
        f"# Parts that are drawn at random must not hold the same person, day or document twice.\n{body}"
        if RANDOM in body
        else body,
        _loss(module, first, inputs),
    )


def _loss(module: Module, name: str, inputs: list[str]) -> str:
    """Returns the body of a step; empty where examples are pairs, or nothing tells what they are."""
    method = module.method(name, "__getitem__")
    for node in ast.walk(method) if method is not None else ():
        value = node.value if isinstance(node, ast.Return) else None
        if isinstance(value, ast.Dict):
            keys = [key.value for key in value.keys if isinstance(key, ast.Constant) and isinstance(key.value, str)]
            target = next((key for key in keys if key in TARGETS), keys[-1] if keys else "")
            rest = [key for key in keys if key != target]
            if not rest:
                return ""
            if inputs and set(inputs) <= set(rest):
                given = ", ".join(f'{key}=batch["{key}"]' for key in inputs)
            else:
                given = ", ".join(f'batch["{key}"]' for key in rest[: max(1, len(inputs))])
            return f'return nn.functional.cross_entropy(model({given}), batch["{target}"])'
        if isinstance(value, ast.Tuple) and len(value.elts) > 2:
            return "*inputs, target = batch\nreturn nn.functional.cross_entropy(model(*inputs), target)"
    return ""
