"""The plainest objective, the loss of outputs against targets, and one around another; measures over a data set."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
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


class Measures:
    """A ``validate`` for supervised stages: named means over all examples, each batch weighted by its own.

    Arguments:
        data: batches ``(inputs, target)``, iterated at each call.
        prefix: put before the names, ``"valid_"`` by default.
        measures: from a name to ``(output, target) -> scalar``, a mean over the batch.

    Raises:
        ValueError: no measures; at the call, no batch.

    >>> data = [(torch.ones(1, 1), torch.ones(1, 1)), (torch.ones(3, 1), torch.zeros(3, 1))]
    >>> Measures(data, loss=torch.nn.functional.mse_loss)(torch.nn.Identity())
    {'valid_loss': 0.75}
    """

    def __init__(self, data: Iterable[Any], prefix: str = "valid_", **measures: Callable[[Any, Any], Tensor]) -> None:
        if not measures:
            raise ValueError("nothing to measure: pass loss=, or another function of output and target by its name")
        self.data, self.prefix, self.measures = data, prefix, measures

    @torch.no_grad()
    def __call__(self, model: Any) -> dict[str, float]:
        """Returns the means for the model as it is."""
        first = next(iter(model.parameters()), None)
        totals, examples = dict.fromkeys(self.measures, 0.0), 0
        for inputs, target in self.data:
            if first is not None and isinstance(inputs, Tensor):
                inputs, target = inputs.to(first.device), target.to(first.device)
            output, count = model(inputs), len(target)
            examples += count
            for name, measure in self.measures.items():
                totals[name] += float(measure(output, target)) * count
        if not examples:
            raise ValueError("there is nothing to validate on: give at least one batch")
        return {f"{self.prefix}{name}": total / examples for name, total in totals.items()}
