"""A strategy on a task as a stage of the training loop."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from thalweg.averaging import Average
from thalweg.compare.execution.context import TaskContext
from thalweg.compare.execution.divided import divide
from thalweg.compare.execution.optimizers import optimizer_for, refused
from thalweg.compare.strategy import Strategy
from thalweg.compare.strategy.variants import averaging_of
from thalweg.compare.task.grouping import Setting
from thalweg.stages import Stage


def stage_of(
    context: TaskContext,
    strategy: Strategy,
    hyper: dict[str, float],
    steps: int,
    seed: int,
    of_model: nn.Module | None = None,
    own: Mapping[int, Setting] | None = None,
) -> Stage:
    """Returns the strategy on the task as one stage, with the large batches that compare gives a closure.

    ``of_model`` is the model that it trains, where that is known: a factory may ask for it. ``own`` are the settings
    of its parameters.
    """
    task = context.task
    size = task.batch_size * (int(hyper["batches"]) if strategy.closure else 1)
    averaging = averaging_of(strategy.averaging, steps)

    def objective(model: nn.Module, batch: Any, step: int) -> Any:
        loss, output = task.loss_and_output(model, batch)
        return (loss, output) if strategy.closure else loss

    def optimizer(params: Any) -> torch.optim.Optimizer:
        roles = context.roles if strategy.has_partner and of_model is not None else None
        try:
            made = optimizer_for(strategy, params, hyper, context.decay, of_model, roles)
            divide(strategy, made, own or {})
            return made
        except (TypeError, ValueError) as error:
            raise refused(strategy, hyper, error) from error

    return Stage(
        name=strategy.name,
        objective=objective,
        data=context.pairs.batches(size, seed),
        optimizer=optimizer,
        steps=steps,
        schedule=strategy.schedule_with(hyper),
        average=None if averaging is None else lambda m: Average(m, averaging, buffers="average"),
    )
