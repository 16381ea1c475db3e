"""What a strategy's factory makes, which must be an optimizer."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from thalweg.compare.execution.optimizer_state import is_optimizer
from thalweg.compare.strategy import Strategy
from thalweg.compare.strategy.factories import made_by


class NotAnOptimizer(TypeError):
    """What a factory gives is no optimizer."""


def made_optimizer(
    strategy: Strategy, params: Any, hyper: Mapping[str, float], model: nn.Module | None, steps: int | None
) -> torch.optim.Optimizer:
    """Returns what the strategy's factory makes, see :func:`~thalweg.compare.strategy.factories.made_by`.

    Raises:
        NotAnOptimizer: it makes something else.
    """
    factory = strategy.factory
    assert factory is not None
    if isinstance(factory, type) and not hasattr(factory, "step"):
        raise NotAnOptimizer(f"it gives a {factory.__name__}, not a torch.optim.Optimizer")
    optimizer = made_by(factory, params, hyper, model, steps)
    if not is_optimizer(optimizer):
        raise NotAnOptimizer(f"it gives a {type(optimizer).__name__}, not a torch.optim.Optimizer")
    return optimizer
