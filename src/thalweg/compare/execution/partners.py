"""Optimizers of matrices as strategies: hidden matrices for them, and AdamW, whose learning rate is tuned too, for all
else."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from thalweg.compare.execution.cannot_run import CannotRun
from thalweg.compare.execution.context import TaskContext
from thalweg.compare.execution.made import made_optimizer
from thalweg.compare.strategy import Strategy
from thalweg.compare.strategy.factories import PARTNERS_LR
from thalweg.optim import AdamW
from thalweg.optim.decay import Decay
from thalweg.optim.of_rule import OfPartnered
from thalweg.optim.roles import Role, parameter_roles
from thalweg.rules import Partnered


def matrices_of(strategy: Strategy, model: nn.Module, roles: Mapping[str, Role] | None = None) -> set[int]:
    """Returns the ids of the model's parameters that the strategy steps as matrices; without roles they are guessed."""
    known = parameter_roles(model) if roles is None else roles
    named = model.named_parameters()
    return {id(p) for name, p in named if p.requires_grad and known.get(name) in strategy.matrix_roles}


def has_matrices(context: TaskContext, strategy: Strategy) -> bool:
    """Says whether the model has what the strategy's rule steps."""
    return not isinstance(strategy.rule, Partnered) or bool(context.places(strategy.rule).stacks)


def no_matrices() -> CannotRun:
    """Returns what is raised where an optimizer of matrices has nothing to step."""
    return CannotRun("steps hidden matrices, and this model has none: name some by Task(roles={'NAME': 'hidden'})")


def partnered(
    strategy: Strategy,
    params: Iterable[Any],
    hyper: Mapping[str, float],
    decay: Decay,
    matrices: Collection[int] | None,
    steps: int | None = None,
) -> list[torch.optim.Optimizer]:
    """Returns the strategy's optimizer of matrices, and AdamW for all other parameters, as one or as two optimizers.

    Arguments:
        params: parameters, pairs of a name and a parameter, or groups, of which those with ``partner`` say who is to
            step them.
        matrices: ids of those that are hidden matrices; None takes all of two dimensions or more for such.
        steps: of a run, for an optimizer that asks for them.

    Raises:
        CannotRun: there is none among the parameters.
    """
    groups = [part for group in _groups(params) for part in _divided(group, matrices)]
    own = [group for group in groups if not group["partner"]]
    if not own:
        raise no_matrices()
    if isinstance(strategy.rule, Partnered):
        return [OfPartnered(groups, strategy.rule, strategy.stepping(hyper), decay=decay)]
    settings = {name: value for name, value in strategy.stepping(hyper).items() if name != PARTNERS_LR}
    rest = [{k: v for k, v in group.items() if k != "partner"} for group in groups if group["partner"]]
    optimizer = made_optimizer(strategy, _plain(own), settings, None, steps)
    return [optimizer, *([AdamW(rest, lr=hyper[PARTNERS_LR], decay=decay)] if rest else [])]


def _plain(groups: list[dict[str, Any]]) -> list[Any]:
    """Returns groups as an optimizer takes them; as parameters where they say nothing else."""
    if len(groups) == 1 and groups[0].keys() == {"params", "partner"}:
        return list(groups[0]["params"])
    return [{k: v for k, v in group.items() if k != "partner"} for group in groups]


def _groups(params: Iterable[Any]) -> list[dict[str, Any]]:
    given = list(params)
    return given if given and all(isinstance(one, dict) for one in given) else [{"params": given}]


def _divided(group: Mapping[str, Any], matrices: Collection[int] | None) -> list[dict[str, Any]]:
    if "partner" in group:
        return [{**group, "params": list(group["params"])}]

    def is_matrix(p: Tensor) -> bool:
        return p.dim() > 1 if matrices is None else id(p) in matrices

    parts = [
        {**_where(group, is_matrix), "partner": False},
        {**_where(group, lambda p: not is_matrix(p)), "partner": True},
    ]
    return [part for part in parts if part["params"]]


def _where(group: Mapping[str, Any], keeps: Any) -> dict[str, Any]:
    """Returns the group with those of its parameters that a function keeps."""
    given = [group["params"]] if isinstance(group["params"], Tensor) else list(group["params"])
    tensors = [one[1] if isinstance(one, tuple) else one for one in given]
    at = [i for i, p in enumerate(tensors) if keeps(p)]
    names = {"param_names": [group["param_names"][i] for i in at]} if "param_names" in group else {}
    return {**group, **names, "params": [given[i] for i in at]}
