"""The optimizer of a strategy."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from thalweg.compare.execution.cannot_run import CannotRun, by_optimizer
from thalweg.compare.execution.divided import divide
from thalweg.compare.execution.made import NotAnOptimizer, made_optimizer
from thalweg.compare.execution.partners import matrices_of, partnered
from thalweg.compare.strategy import Strategy
from thalweg.compare.strategy.factories import PARTNERS_LR, names_parameters
from thalweg.compare.task.grouping import Grouping
from thalweg.compare.user_errors import brief
from thalweg.optim import no_decay_groups
from thalweg.optim.decay import Decay
from thalweg.optim.of_rule import OfRule
from thalweg.optim.roles import Role
from thalweg.rules import AdamW


def make_optimizers(
    strategy: Strategy,
    model: nn.Module,
    hyper: Mapping[str, float],
    decay: Decay = "all",
    grouping: Grouping | None = None,
    roles: Callable[[], Mapping[str, Role]] | None = None,
    *,
    steps: int | None = None,
) -> list[torch.optim.Optimizer]:
    """Returns the strategy's optimizer for the model's trainable parameters, which applies weight decay as asked.

    One of matrices, as Muon is, gets the hidden ones, by ``roles`` or as they are guessed, and AdamW steps the rest; so
    does a factory that refuses the rest, where AdamW has its default settings. ``steps`` are those of a run, for an
    optimizer that asks for them.

    Raises:
        CannotRun: the factory refuses the parameters.
        ValueError: what it makes is no optimizer.
    """
    made = _made(strategy, model, hyper, decay, roles, steps)
    if grouping:
        own = grouping.settings(model)
        for optimizer in made:
            divide(strategy, optimizer, own)
    return made


def _made(
    strategy: Strategy,
    model: nn.Module,
    hyper: Mapping[str, float],
    decay: Decay,
    roles: Callable[[], Mapping[str, Role]] | None,
    steps: int | None,
) -> list[torch.optim.Optimizer]:
    params = [p for p in model.parameters() if p.requires_grad]
    try:
        if strategy.has_partner:
            own = matrices_of(strategy, model, None if roles is None else roles())
            return partnered(strategy, params, hyper, decay, own, steps)
        return [optimizer_for(strategy, params, hyper, decay, model, steps=steps)]
    except Exception as error:
        if strategy.factory is not None and not strategy.has_partner and not names_parameters(strategy.factory):
            alone = replace(strategy, defaults={**strategy.defaults, PARTNERS_LR: AdamW.defaults["lr"]})
            try:
                own = matrices_of(alone, model, None if roles is None else roles())
                return partnered(alone, params, {**alone.defaults, **hyper}, decay, own, steps)
            except (Exception, CannotRun):
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
    roles: Mapping[str, Role] | None = None,
    *,
    steps: int | None = None,
) -> torch.optim.Optimizer:
    """Returns the strategy's optimizer for parameters, or groups of them, which are a ``model``'s where one is given.

    For ``decay="weights"`` the groups of any optimizer that has torch's ``weight_decay`` are divided. One of matrices
    and its partner are one, which steps both; the matrices are those of the model's ``roles``.

    Raises:
        NotAnOptimizer: the factory makes something else.
    """
    if strategy.has_partner:
        matrices = None if model is None else matrices_of(strategy, model, roles)
        return one_of(partnered(strategy, params, hyper, decay, matrices))
    if strategy.rule is not None:
        return OfRule(params, strategy.rule, strategy.stepping(hyper), decay=decay)
    optimizer = made_optimizer(strategy, params, strategy.stepping(hyper), model, steps)
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
        if strategy.has_partner:
            return partnered(strategy, params, hyper, decay, None, steps)
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
