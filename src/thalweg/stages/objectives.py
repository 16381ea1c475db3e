"""The plainest objective, the loss of the model's output on the inputs against the targets; and one around another."""

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


class Around:
    """An objective made around another, whose state is the other's, if it has one.

    >>> twice = Around(lambda model, batch, step: 1.0, lambda model, batch, step: 2.0)
    >>> twice(None, None, 0), hasattr(twice, "state_dict")
    (2.0, False)
    """

    def __init__(self, inner: Objective, function: Objective) -> None:
        self._inner, self._function = inner, function

    def __call__(self, model: Any, batch: Any, step: int) -> Any:
        return self._function(model, batch, step)

    def __getattr__(self, name: str) -> Any:
        if name in ("state_dict", "load_state_dict"):
            return getattr(self._inner, name)
        raise AttributeError(name)
