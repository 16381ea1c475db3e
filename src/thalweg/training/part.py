"""The part of a model that a stage trains: the rest stands still, parameters, statistics and all."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import nn

from thalweg.tensors.parts import check_part, within


@contextmanager
def only(model: nn.Module, trainable: Sequence[str] | None) -> Iterator[list[nn.Module]]:
    """Runs its body with nothing but the parts named requiring gradients; gives the modules to keep in eval mode.

    Raises:
        ValueError: a name that is no parameter or module, or holds no parameter; nothing that is trained.
    """
    flags = [(p, p.requires_grad) for p in model.parameters()]
    modes = [(m, m.training) for m in model.modules()]
    names = [name for name, _ in model.named_parameters(remove_duplicate=False)]
    for part in trainable or ():
        check_part(names, part)
    try:
        still: list[nn.Module] = []
        if trainable is not None:
            chosen = {
                id(p)
                for name, p in model.named_parameters(remove_duplicate=False)
                if any(within(name, part) for part in trainable)
            }
            for p in model.parameters():
                p.requires_grad_(p.requires_grad and id(p) in chosen)
            for module in model.modules():
                params = list(module.parameters())
                if params and not any(p.requires_grad for p in params):
                    still.append(module)
        if not any(p.requires_grad for p in model.parameters()):
            raise ValueError("no parameter is trained: set requires_grad, or name other parameters in trainable=")
        yield still
    finally:
        for p, flag in flags:
            p.requires_grad_(flag)
        for module, training in modes:
            module.training = training


def groups(model: nn.Module, rates: Mapping[str, float]) -> tuple[list[Any], list[float]]:
    """Returns the trained parameters for an optimizer, in groups where there are rates, and each group's rate.

    The longest name that fits a parameter counts.

    Raises:
        ValueError: a name that is no parameter or module.
    """
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    if not rates:
        return [p for _, p in named], [1.0]
    names = [name for name, _ in model.named_parameters(remove_duplicate=False)]
    for part in rates:
        check_part(names, part)
    found: dict[float, list[nn.Parameter]] = {}
    for name, p in named:
        fitting = [part for part in rates if within(name, part)]
        found.setdefault(rates[max(fitting, key=len)] if fitting else 1.0, []).append(p)
    return [{"params": params} for params in found.values()], list(found)
