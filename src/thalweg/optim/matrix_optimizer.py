"""The torch.optim face of the rules for matrices: which parameters these step, and which their partner AdamW."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.nn.parameter import is_lazy

from thalweg.optim.entries import Group
from thalweg.optim.implementations import Engine
from thalweg.optim.optimizer import Params, RuleOptimizer
from thalweg.optim.settings import SWITCHED_BY, Options
from thalweg.rules.adam import AdamW
from thalweg.rules.matrix_rule import OF_PARTNER, MatrixRule, as_matrix_shape
from thalweg.rules.rule import Rule
from thalweg.tensors.form import form

OF_PARTNERS = ("lr", "betas", "eps", "weight_decay")


class MatrixOptimizer(RuleOptimizer):
    """Base class of the optimizers with a rule for matrices and AdamW as its partner.

    A group with ``partner=False`` is stepped by the rule, and one with ``partner=True`` by AdamW; each has its own
    ``lr``, which schedulers change. :func:`thalweg.optim.matrix_groups` makes such groups of a model: hidden weights
    for the rule, and embeddings, the output layer and vectors for AdamW. Of parameters that are given otherwise, as a
    list or in a group that does not say, those of two dimensions or more, embeddings and output layer among them, are
    stepped by the rule, and the others are put into a group of their own for AdamW. Its settings are ``adamw_lr``,
    ``adamw_betas``, ``adamw_eps`` and ``adamw_weight_decay``; if such a group gives ``weight_decay``, AdamW has it too.

    Parameters of more than two dimensions, as of convolutions, are taken as matrices of their outputs by everything
    else. Complex, sparse and distributed matrices are refused, as are ``differentiable=True`` and the options that
    switch something on around a rule, such as ``cautious``. The engines concern AdamW alone. The arguments ``params``,
    ``maximize``, ``engine`` and ``options`` are those of :class:`RuleOptimizer`.
    """

    def __init__(self, params: Params, defaults: Group, engine: Engine, maximize: bool, options: Options) -> None:
        # a loaded group that does not say who steps it, such as one of torch's Muon, is one of matrices
        super().__init__(params, {**defaults, "partner": False}, engine, maximize, options)

    @abstractmethod
    def matrix_rule_of(self, group: Group) -> MatrixRule:
        """Returns the form of the rule that the group's settings ask for."""

    def rule_of(self, group: Group) -> Rule:
        return AdamW() if group["partner"] else self.matrix_rule_of(group)

    def add_param_group(self, param_group: Group) -> None:
        """Adds a group, or two, of matrices and of others, if it does not say who is to step it.

        Raises:
            ValueError: a setting is out of its range, or a group for the rule has a parameter that is no matrix.
        """
        for group in _divided(param_group):
            if group["partner"]:
                for name in OF_PARTNERS:
                    group.setdefault(name, group.get(OF_PARTNER + name, self.defaults[OF_PARTNER + name]))
            super().add_param_group(group)
            try:
                self._check(self.param_groups[-1])
            except ValueError:
                self.param_groups.pop()
                raise

    def _check(self, group: Group) -> None:
        """Raises ValueError where a group of matrices has something else in it, or asks for what it cannot."""
        owner = type(self).__name__
        if group["partner"] not in (True, False):
            raise ValueError(f"Invalid partner: {group['partner']!r}: give True or False")
        if group["partner"]:
            return
        waits = bool(self.matrix_rule_of(group).factor_names)
        for option in ("differentiable", *SWITCHED_BY, *(["capturable"] if waits else [])):
            if group.get(option):
                raise ValueError(
                    f"{option}={group[option]} is not supported by {owner}: omit it, or put the matrices in a "
                    "partner=True group"
                )
        for i, p in enumerate(group["params"]):
            if not is_matrix(p):
                name = f" {group['param_names'][i]!r}" if "param_names" in group else f" {i}"
                raise ValueError(
                    f"{owner} steps matrices, and parameter{name} of a group with partner=False is {form(p)}: put it "
                    "in a group with partner=True, which AdamW steps"
                )


def _divided(group: Mapping[str, Any]) -> list[Group]:
    """Returns a group that says who steps it as it is, and another as those of matrices and of all else."""
    if "partner" in group or isinstance(group["params"], set):
        return [{"partner": False, **group}]
    given = [group["params"]] if isinstance(group["params"], Tensor) else list(group["params"])
    tensors = [one[1] if isinstance(one, tuple) else one for one in given]
    names, parts = group.get("param_names"), []
    settings = {name: value for name, value in group.items() if name not in ("params", "param_names")}
    own = {name: value for name, value in settings.items() if name not in ("lr", "betas", "eps")}
    if OF_PARTNER + "weight_decay" in settings:
        own.pop("weight_decay", None)
    for partner in (False, True):
        at = [i for i, p in enumerate(tensors) if (isinstance(p, Tensor) and not is_matrix(p)) == partner]
        if at or (not tensors and not partner):
            named = {} if names is None else {"param_names": [names[i] for i in at]}
            parts.append({**(own if partner else settings), **named, "params": [given[i] for i in at]})
            parts[-1]["partner"] = partner
    return parts


def is_matrix(p: Tensor) -> bool:
    """Says whether a parameter has the form of a matrix."""
    return not is_lazy(p) and as_matrix_shape(p.shape) is not None
