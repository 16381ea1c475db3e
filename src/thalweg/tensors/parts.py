"""Parts of a model by name: what is in one, whether there is one, and what its modules give while it runs."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn

from thalweg.tensors.text import some


def within(name: str, part: str) -> bool:
    """Returns whether the parameter or module of that name is the part, or in it; all is in the part ``""``.

    >>> within("0.weight", "0"), within("01.weight", "0")
    (True, False)
    """
    return not part or name == part or name.startswith(part + ".")


def check_part(names: Iterable[str], part: str, what: str = "parameter") -> None:
    """Raises ValueError unless one of the parameters is in the part."""
    if not any(within(name, part) for name in names):
        tops = list(dict.fromkeys(name.rpartition(".")[0] or name for name in names))
        raise ValueError(f"the model has no {what} in {part!r}: choose among {some(tops)}")


def check_layer(model: nn.Module, name: str, whose: str = "the model") -> None:
    """Raises ValueError unless the model has a layer of that name."""
    layers = {layer for layer, _ in model.named_modules(remove_duplicate=False)} - {""}
    if name not in layers:
        raise ValueError(f"{whose} has no layer {name!r}: choose among {some(sorted(layers))}")


@contextmanager
def watched(modules: Mapping[str, nn.Module], hook: Callable[[str, Any], Any]) -> Iterator[None]:
    """Runs its body, in which ``hook(name, output)`` is called each time that a module has run.

    What the hook returns takes the output's place, unless it is None.

    >>> import torch
    >>> with watched({"": (model := nn.Identity())}, lambda name, output: 2 * output):
    ...     model(torch.ones(1))
    tensor([2.])
    """
    handles = [
        module.register_forward_hook(lambda _, __, output, name=name: hook(name, output))
        for name, module in modules.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
