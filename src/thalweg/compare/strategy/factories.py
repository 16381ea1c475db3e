"""How a factory is called: with parameters, names, the model, and the steps of a run, as its arguments are called."""

import inspect
import warnings
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import torch
from torch import nn

from thalweg.rules.matrix_rule import OF_PARTNER

NAMED, MODEL = "named_parameters", "model"
STEPS = ("total_steps", "num_steps", "num_training_steps", "training_steps", "num_iterations", "total_iterations")
PARTNERS_LR = f"{OF_PARTNER}lr"  # of AdamW, beside an optimizer of matrices


def made_by(
    factory: Callable[..., torch.optim.Optimizer],
    params: Any,
    hyper: Mapping[str, float],
    model: nn.Module | None,
    steps: int | None = None,
) -> torch.optim.Optimizer:
    """Returns what a factory makes.

    Arguments:
        factory: its first argument receives the parameters; pairs of a name and a parameter if it is called
            ``named_parameters``, and the model if it is called ``model``. Another argument that is called ``model``
            receives the model too.
        params: parameters, or groups of them.
        hyper: hyperparameters; ``betas.0`` and ``betas.1`` are given as one argument ``betas``.
        model: whose parameters these are; None where that is not known.
        steps: of a run, for an argument without a number of its own that is called as one of :data:`STEPS`.

    Raises:
        ValueError: the model is asked for, and not known.

    >>> model = nn.Linear(2, 1)
    >>> def slow_biases(named_parameters, lr):
    ...     rates = {"weight": lr, "bias": lr / 10}
    ...     return torch.optim.SGD([{"params": [p], "lr": rates[name]} for name, p in named_parameters])
    >>> [group["lr"] for group in made_by(slow_biases, [], {"lr": 0.1}, model).param_groups]
    [0.1, 0.01]
    """
    first, *others = _arguments(factory)
    given = as_arguments(hyper)
    if steps is not None:
        given |= {name: steps for name in asks_for_steps(factory) if name not in given}
    if not names_parameters(factory):
        return factory(params, **given)
    if model is None:
        what = NAMED if first == NAMED else MODEL
        raise ValueError(f"its argument {what} is not known there: omit the guidance, or the loop of your own")
    if MODEL in others:
        given[MODEL] = model
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    return factory({MODEL: model, NAMED: named}.get(first, params), **given)


def names_parameters(factory: Callable[..., object]) -> bool:
    """Says whether a factory asks for names of parameters, or for the model.

    >>> names_parameters(torch.optim.SGD), names_parameters(lambda model, lr: None)
    (False, True)
    """
    first, *others = _arguments(factory)
    return first in (NAMED, MODEL) or MODEL in others


def asks_for_steps(factory: Callable[..., object]) -> list[str]:
    """Returns the arguments by which a factory asks for the number of steps.

    >>> asks_for_steps(lambda params, total_steps, num_steps=5: None)
    ['total_steps']
    """
    try:
        found = inspect.signature(factory).parameters
    except (TypeError, ValueError):
        return []
    return [name for name in STEPS if name in found and found[name].default in (inspect.Parameter.empty, None)]


def takes_matrices_alone(factory: Callable[..., object]) -> bool:
    """Says whether a class of optimizers refuses a vector and takes a matrix, as Muon does: it is tried with both.

    A function of the user's is not tried: it may do anything.

    >>> from functools import partial
    >>> takes_matrices_alone(torch.optim.Muon), takes_matrices_alone(partial(torch.optim.SGD, lr=0.1))
    (True, False)
    """
    is_class = isinstance(getattr(factory, "func", factory), type)
    return is_class and not takes(factory, 1) and takes(factory, 2)


@lru_cache(maxsize=64)
def takes(factory: Callable[..., object], dimensions: int) -> bool:
    """Says whether a factory takes a parameter of so many dimensions."""
    try:
        _, *others = inspect.signature(factory).parameters.values()
        free = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        needed = {p.name: 1e-3 for p in others if p.default is p.empty and p.kind not in free}
        with warnings.catch_warnings(action="ignore"):
            made = factory([nn.Parameter(torch.zeros([2] * dimensions))], **needed)
        return isinstance(made, torch.optim.Optimizer)
    except Exception:  # whatever it raises, it does not take it
        return False


def _arguments(factory: Callable[..., object]) -> list[str]:
    try:
        return list(inspect.signature(factory).parameters) or [""]
    except (TypeError, ValueError):
        return [""]


def as_arguments(hyper: Mapping[str, float]) -> dict[str, Any]:
    """Returns hyperparameters as keyword arguments, of which some are several numbers.

    >>> as_arguments({"lr": 0.1, "betas.1": 0.99, "betas.0": 0.9})
    {'lr': 0.1, 'betas': (0.9, 0.99)}
    """
    parts: dict[str, dict[int, float]] = {}
    for name, value in hyper.items():
        argument, _, place = name.rpartition(".")
        if argument:
            parts.setdefault(argument, {})[int(place)] = value
    whole = {name: tuple(values[i] for i in sorted(values)) for name, values in parts.items()}
    return {name: value for name, value in hyper.items() if "." not in name} | whole
