"""What a class of the user's is called with, where it has no defaults: guessed from the names of its arguments."""

import ast
from collections.abc import Callable, Collection, Mapping

from thalweg.cli.starters.module import Module

# Parts of an argument's name, the first that fits; constants of the starter stand for numbers where it has them.
NAMES: tuple[tuple[tuple[str, ...], str], ...] = (
    (("transform", "tokenizer", "collate", "device"), "None"),
    (("drop", "rate", "prob"), "0.1"),
    (("vocab", "num_embeddings", "ntoken", "n_token"), "VOCABULARY|50"),
    (("block_size", "max_len", "seq", "context", "length"), "LENGTH|16"),
    (("class", "label", "out", "target"), "CLASSES|3"),
    (("hidden", "embed", "d_model", "width", "latent", "channels_"), "32"),
    (("channel",), "CHANNELS|3"),
    (("image_size", "img_size", "resolution"), "SIZE|32"),
    (("in_", "input", "feature"), "FEATURES|20"),
    (("head", "layer", "depth", "block"), "2"),
    (("lr", "learning_rate"), "0.001"),
    (("kernel",), "3"),
    (("csv",), '"data.csv"'),
    (("root", "path", "dir", "folder", "file"), '"data"'),
    (("split", "mode", "phase"), '"train"'),
    (("batch_size", "size", "count", "samples"), "50"),
    (("dim", "units"), "32"),
)
SMALL = (  # names that the settings of all models of transformers know
    "vocab_size=VOCABULARY, hidden_size=16, num_hidden_layers=1, num_attention_heads=2"
)
TYPES = {"int": "16", "float": "0.1", "bool": "False", "str": '"data"', "Path": '"data"'}


def arguments(
    module: Module,
    name: str,
    constants: Collection[str],
    roles: Mapping[str, str],
    used: Callable[[str], str],
    without: Collection[str] = (),
) -> str:
    """Returns the arguments of a class as they are written in a call.

    Arguments:
        module: that defines the class.
        name: of the class.
        constants: that can be written.
        roles: the constants that arguments stand for, where layers tell.
        used: is told the names of the module that the text uses, and returns what they are called there.
        without: arguments that are given otherwise.
    """
    called = module.called_with(name)
    if called:
        words = {arg: ast.unparse(value) for arg, value in called.items()}
        words |= {arg: constant for arg, constant in roles.items() if arg in words}
    else:
        words = {}
        for arg, kind in module.required(name).items():
            settings = module.settings(arg, kind)
            if module.is_of_transformers(name) and arg == "config":
                words[arg] = f"{used(name)}.config_class({SMALL})"
            elif settings is not None:
                words[arg] = f"{used(settings)}()"
            else:
                words[arg] = roles.get(arg) or _guessed(arg, kind, constants)
    return ", ".join(f"{arg}={text}" for arg, text in words.items() if arg not in without)


def _guessed(argument: str, kind: ast.expr | None, constants: Collection[str]) -> str:
    for parts, text in NAMES:
        if any(part in argument.lower() for part in parts):
            constant, _, number = text.partition("|")
            return text if not number else constant if constant in constants else number
    return TYPES.get(ast.unparse(kind) if kind is not None else "", "16")
