"""The optimizer of a stage: its groups and learning rates, and how often it wants the loss in a step."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from thalweg.optim import ClosureOptimizer, Newton, TruncatedNewton
from thalweg.stages.stage import loss_of
from thalweg.training.checkpoint import CheckpointError
from thalweg.training.part import groups


class Stepper:
    """An optimizer over what a model trains.

    Arguments:
        model: its parameters that require gradients are stepped.
        make: the factory.
        rates: factors on the learning rate, by names of parts.

    Attributes: ``optimizer``; ``several``, whether it may evaluate the loss several times a step and decide by it;
    ``wants_graph``, whether the loss is wanted with its graph; ``wants_curvature``, whether that is for curvature.
    """

    def __init__(self, model: nn.Module, make: Callable[[Any], Optimizer], rates: Mapping[str, float]) -> None:
        params, factors = groups(model, rates)
        self.optimizer = make(params)
        if rates:  # which the factory may have divided further
            rate = {id(p): factor for part, factor in zip(params, factors, strict=True) for p in part["params"]}
            for group in self.optimizer.param_groups:
                group["lr"] = group["lr"] * rate.get(id(group["params"][0]), 1.0)
        for group in self.optimizer.param_groups:
            if isinstance(group.get("lr"), Tensor):
                group["lr"] = group["lr"].clone()  # schedules write into it, and the factory may hold the same one
        self.made = _settings(self.optimizer)
        self._lr = [float(group["lr"]) if "lr" in group else None for group in self.optimizer.param_groups]
        self.wants_graph = isinstance(self.optimizer, ClosureOptimizer)
        self.wants_curvature = isinstance(self.optimizer, (Newton, TruncatedNewton))
        closure = inspect.signature(type(self.optimizer).step).parameters.get("closure")
        self.several = self.wants_graph or (closure is not None and closure.default is closure.empty)

    def step(self, evaluate: Callable[[], Any]) -> Tensor:
        """Takes a step; returns the loss where it began.

        Arguments:
            evaluate: gives the loss and leaves its gradient; with its graph, alone or with the output, where
                that is wanted.
        """
        if not self.several:
            self.optimizer.zero_grad()
            loss: Tensor = evaluate()
            self.optimizer.step()
            return loss
        losses: list[Tensor] = []

        def closure() -> Any:
            self.optimizer.zero_grad()
            value = evaluate()
            losses.append(loss_of(value).detach())
            return value

        self.optimizer.step(closure)
        return losses[0]

    @property
    def rate(self) -> float | None:
        """The learning rate of the first group."""
        return None if self._lr[0] is None else float(self.optimizer.param_groups[0]["lr"])

    def scale_rates(self, factor: float) -> None:
        """Makes every group's learning rate that which it was made with times the factor."""
        for group, lr in zip(self.optimizer.param_groups, self._lr, strict=True):
            if lr is not None and isinstance(group["lr"], Tensor):
                group["lr"].fill_(lr * factor)
            elif lr is not None:
                group["lr"] = lr * factor

    def carry(self, state: Mapping[str, Any]) -> None:
        """Goes on with the optimizer's state at the end of the stage before, at this stage's learning rates."""
        self.optimizer.load_state_dict(dict(state))
        self.scale_rates(1.0)

    def state_dict(self) -> dict[str, Any]:
        """Returns its state."""
        return {"made": self.made, "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from a state.

        Raises:
            CheckpointError: of another optimizer, or one made with other settings.
        """
        if state["made"] != self.made:
            raise CheckpointError(
                f"cannot resume: the optimizer was {state['made']}, not {self.made}: resume with the same"
            )
        self.optimizer.load_state_dict(state["optimizer"])


def _settings(optimizer: Optimizer) -> str:
    """Returns the optimizer's kind and the settings that it was made with."""
    parts = [{k: v for k, v in group.items() if k not in ("params", "param_names")} for group in optimizer.param_groups]
    kinds = list(dict.fromkeys(", ".join(f"{k}={v}" for k, v in part.items()) for part in parts))
    return f"{type(optimizer).__name__}({'; '.join(kinds)})"
