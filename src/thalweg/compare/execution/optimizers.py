"""The optimizer of a strategy."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from thalweg.compare.execution.cannot_run import CannotRun, by_optimizer
from thalweg.compare.execution.divided import divide
from thalweg.compare.execution.optimizer_state import is_optimizer
from thalweg.compare.strategy import Strategy
from thalweg.compare.strategy.factories import made_by, names_parameters
from thalweg.compare.task.grouping import Grouping
from thalweg.compare.user_errors import brief
from thalweg.optim import AdamW, no_decay_groups
from thalweg.optim.decay import Decay
from thalweg.optim.of_rule import OfRule


class NotAnOptimizer(TypeError):
    """What a factory gives is no optimizer."""


def make_optimizers(
    strategy: Strategy,
    model: nn.Module,
    hyper: Mapping[str, float],
    decay: Decay = "all",
    grouping: Grouping | None = None,
    *,
    steps: int | None = None,
) -> list[torch.optim.Optimizer]:
    """Returns the strategy's optimizer for the model's trainable parameters, which applies weight decay as asked.

    One that takes matrices alone, as Muon does, gets those, and AdamW at its defaults steps the rest. ``steps`` are
    those of a run, for an optimizer that asks for them.

    Raises:
        CannotRun: the factory refuses the parameters.
        ValueError: what it makes is no optimizer.
    """
    made = _made(strategy, model, hyper, decay, steps)
    if grouping:
        own = grouping.settings(model)
        for optimizer in made:
            divide(strategy, optimizer, own)
    return made


def _made(
    strategy: Strategy, model: nn.Module, hyper: Mapping[str, float], decay: Decay, steps: int | None
) -> list[torch.optim.Optimizer]:
    params = [p for p in model.parameters() if p.requires_grad]
    try:
        return [optimizer_for(strategy, params, hyper, decay, model, steps)]
    except Exception as error:
        if strategy.factory is not None and names_parameters(strategy.factory):
            raise _impossible(strategy, hyper, error) from error  # it chooses its parameters itself
        matrices, rest = [p for p in params if p.dim() == 2], [p for p in params if p.dim() != 2]
        if matrices and rest:
            try:
                return [optimizer_for(strategy, matrices, hyper, decay, steps=steps), AdamW(rest, decay=decay)]
            except Exception:
                pass  # matrices are not what it asks for: the first error is the one to show
        raise _impossible(strategy, hyper, error) from error


def refused(strategy: Strategy, hyper: Mapping[str, float], error: Exception) -> ValueError:
    """Returns what is to be raised where a strategy refuses the parameters."""
    return _cannot_run(strategy, hyper, error).refusal(strategy.name)


def _impossible(strategy: Strategy, hyper: Mapping[str, float], error: Exception) -> BaseException:
    return refused(strategy, hyper, error) if isinstance(error, NotAnOptimizer) else _cannot_run(strategy, hyper, error)


def _cannot_run(strategy: Strategy, hyper: Mapping[str, float], error: Exception) -> CannotRun:
    settings = ", ".join(f"{k}={v:g}" for k, v in strategy.stepping(hyper).items())
    return CannotRun(
        f"cannot step this model{' with ' * bool(settings)}{settings} ({brief(error)}): write my.py:strategy, a "
        "function of the parameters that makes the optimizer"
    )


def optimizer_for(
    strategy: Strategy,
    params: Any,
    hyper: Mapping[str, float],
    decay: Decay = "all",
    model: nn.Module | None = None,
    steps: int | None = None,
) -> torch.optim.Optimizer:
    """Returns the strategy's optimizer for parameters, or groups of them, which are a ``model``'s where one is given.

    For ``decay="weights"`` the groups of any optimizer that has torch's ``weight_decay`` are divided.

    Raises:
        NotAnOptimizer: the factory makes something else.
    """
    if strategy.rule is not None:
        return OfRule(params, strategy.rule, strategy.stepping(hyper), decay=decay)
    assert strategy.factory is not None
    if isinstance(strategy.factory, type) and not hasattr(strategy.factory, "step"):
        raise NotAnOptimizer(f"it gives a {strategy.factory.__name__}, not a torch.optim.Optimizer")
    optimizer = made_by(strategy.factory, params, strategy.stepping(hyper), model, steps)
    if not is_optimizer(optimizer):
        raise NotAnOptimizer(f"it gives a {type(optimizer).__name__}, not a torch.optim.Optimizer")
    if decay == "weights":
        for group in [group for group in optimizer.param_groups if group.get("weight_decay")]:
            first, *rest = no_decay_groups([group])
            group.update(first)
            for part in rest:
                optimizer.add_param_group(part)
    return optimizer


def groups_for(
    strategy: Strategy, params: Any, hyper: Mapping[str, float], decay: Decay = "all", *, steps: int | None = None
) -> list[torch.optim.Optimizer]:
    """Returns the strategy's optimizer for parameters or groups that the user made.

    Raises:
        CannotRun, ValueError: as :func:`make_optimizers`.
    """
    try:
        return [optimizer_for(strategy, params, hyper, decay, steps=steps)]
    except Exception as error:
        raise _impossible(strategy, hyper, error) from error


class _Together(torch.optim.Optimizer):
    """Several optimizers as one, which steps all of them."""

    def __init__(self, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        super().__init__([p for o in optimizers for group in o.param_groups for p in group["params"]], {})
        self.optimizers = list(optimizers)
        self.param_groups = [group for optimizer in optimizers for group in optimizer.param_groups]

    def step(self, closure: Any = None) -> Any:
        loss = self.optimizers[0].step(closure)
        for optimizer in self.optimizers[1:]:
            optimizer.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        parts = {str(i): optimizer.state_dict() for i, optimizer in enumerate(self.optimizers)}
        return {"state": parts, "param_groups": []}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for i, optimizer in enumerate(self.optimizers):
            optimizer.load_state_dict(state_dict["state"][str(i)])


def one_of(optimizers: Sequence[torch.optim.Optimizer]) -> torch.optim.Optimizer:
    """Returns the optimizer, or one that steps all of them."""
    return optimizers[0] if len(optimizers) == 1 else _Together(optimizers)


def members(optimizer: torch.optim.Optimizer) -> list[torch.optim.Optimizer]:
    """Returns the optimizers that one steps."""
    return optimizer.optimizers if isinstance(optimizer, _Together) else [optimizer]


def set_mode(optimizers: Sequence[torch.optim.Optimizer], mode: str) -> None:
    """Calls ``train()`` or ``eval()`` of optimizers that have them, whose parameters to judge are others.

    Raises:
        CannotRun: one raises an error.
    """
    for optimizer in optimizers:
        if callable(change := getattr(optimizer, mode, None)):
            with by_optimizer():
                try:
                    change()
                except AttributeError as error:
                    if error.name not in ("train", "eval"):  # a wrapper hands it on to one that has no modes
                        raise
