"""What a model's layers give, in eval mode and without gradients."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn

from thalweg.tensors.parts import watched


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Runs its body with the model in eval mode and without gradients, and puts the modes back."""
    modes = [(m, m.training) for m in model.modules() if m.training]
    try:
        for module, _ in modes:
            module.training = False
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training


class _Seen(Exception):
    """All layers that were asked for have run."""


def outputs_at(model: nn.Module, names: Sequence[str], inputs: Any, whole: bool = False) -> tuple[list[Tensor], Any]:
    """Returns what the layers give on the inputs, and the model's own output where it is run as a whole.

    Arguments:
        names: of modules, each of which runs.
        whole: False stops the model once all layers have run; the output is then None.

    Raises:
        ValueError: a layer that does not run, or gives no tensor.

    >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    >>> (hidden,), output = outputs_at(model, ["1"], torch.ones(5, 2))
    >>> tuple(hidden.shape), output
    ((5, 3), None)
    """
    found: dict[str, Any] = {}

    def keep(name: str, output: Any) -> None:
        found[name] = output
        if not whole and len(found) == len(set(names)):
            raise _Seen

    output = None
    with suppress(_Seen), watched({name: model.get_submodule(name) for name in names}, keep):
        output = model(inputs)
    for name in names:
        if not isinstance(found.get(name), Tensor):
            what = f"gives a {type(found[name]).__name__}" if name in found else "did not run"
            raise ValueError(f"layer {name!r} {what}: name a layer that runs and returns one tensor")
    return [found[name] for name in names], output
