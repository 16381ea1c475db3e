"""The plainest objective: the loss of the model's output on the inputs against the targets."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from thalweg.stages.stage import Objective


def supervised(loss: Callable[[Any, Any], Tensor]) -> Objective:
    """Returns the objective J = L(y, f(x)) of batches ``(x, y)``.

    Arguments:
        loss: ``(output, target) -> scalar``.

    >>> import torch
    >>> batch = (torch.ones(2, 1), torch.zeros(2, 1))
    >>> supervised(torch.nn.functional.mse_loss)(torch.nn.Identity(), batch, 0).item()
    1.0
    """

    def objective(model: Any, batch: Any, step: int) -> Tensor:
        inputs, target = batch
        return loss(model(inputs), target)

    return objective
