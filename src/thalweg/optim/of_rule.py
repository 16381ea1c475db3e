"""Any update rule as a torch.optim.Optimizer, with hyperparameters under the rule's own names."""

from collections.abc import Mapping
from typing import Any

from thalweg.optim.decay import Decay
from thalweg.optim.entries import Group
from thalweg.optim.implementations import Engine
from thalweg.optim.matrix_optimizer import MatrixOptimizer
from thalweg.optim.optimizer import Params, RuleOptimizer
from thalweg.rules.matrix_rule import OF_PARTNER, MatrixRule, Partnered
from thalweg.rules.rule import Rule


class OfRule(RuleOptimizer):
    """The optimizer that steps by a rule, with one gradient a call of ``step()``: for SAM that is half a step.

    Arguments:
        params: parameters, groups or ``(name, parameter)`` pairs.
        rule: such as one of :data:`thalweg.rules.RULES`, but no :class:`thalweg.rules.Partnered`; the same in all
            groups.
        hyper: its hyperparameters, as in ``rule.defaults``, which hold for what is left out.
        engine: ``"foreach"``, ``"compiled"``, ``"triton"`` or ``"auto"``, see :class:`RuleOptimizer`.
        decay: to what weight decay is applied, ``"all"`` or ``"weights"``, likewise.

    Raises:
        TypeError: a hyperparameter that the rule does not have.
        ValueError: one out of its range.

    >>> import torch
    >>> from thalweg.rules import RULES
    >>> w = torch.nn.Parameter(torch.tensor([1.0]))
    >>> optimizer = OfRule([w], RULES["nesterov"], {"lr": 0.1})
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> round(w.item(), 3)
    0.62
    """

    whole = False

    def __init__(
        self, params: Params, rule: Rule, hyper: Mapping[str, Any], engine: Engine = "auto", decay: Decay = "all"
    ) -> None:
        check_known(rule, hyper)
        self.rule = rule
        super().__init__(params, {**rule.defaults, **hyper}, engine, False, {"decay": decay})

    def rule_of(self, group: Group) -> Rule:
        return self.rule


class OfPartnered(MatrixOptimizer):
    """The optimizer that steps matrices by a rule for them, and all else by its partner.

    Arguments:
        params: as :class:`MatrixOptimizer` takes them.
        rule: such as ``RULES["muon"]``.
        hyper, engine, decay: as :class:`OfRule`.

    >>> import torch
    >>> from thalweg.rules import RULES
    >>> layer = torch.nn.Linear(2, 2)
    >>> optimizer = OfPartnered(layer.parameters(), RULES["muon"], {"lr": 0.1, "adamw_lr": 0.01})
    >>> [(group["lr"], group["partner"]) for group in optimizer.param_groups]
    [(0.1, False), (0.01, True)]
    """

    def __init__(
        self, params: Params, rule: Partnered, hyper: Mapping[str, Any], engine: Engine = "auto", decay: Decay = "all"
    ) -> None:
        check_known(rule, hyper)
        self.rule = rule
        settings = {**rule.defaults, **hyper}
        betas = tuple(settings.pop(f"{OF_PARTNER}{beta}") for beta in ("beta1", "beta2"))
        super().__init__(params, {**settings, f"{OF_PARTNER}betas": betas}, engine, False, {"decay": decay})

    def matrix_rule_of(self, group: Group) -> MatrixRule:
        return self.rule.matrix


def check_known(rule: Rule, hyper: Mapping[str, Any]) -> None:
    """Raises TypeError for a hyperparameter that the rule does not have."""
    unknown = set(hyper) - set(rule.defaults)
    if unknown:
        raise TypeError(f"{rule.name} has no {min(unknown)!r}: choose among {', '.join(rule.defaults)}")
