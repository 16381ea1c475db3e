"""Any update rule as a torch.optim.Optimizer, with hyperparameters under the rule's own names."""

from collections.abc import Mapping
from typing import Any

from thalweg.optim.decay import Decay
from thalweg.optim.entries import Group
from thalweg.optim.implementations import Engine
from thalweg.optim.optimizer import Params, RuleOptimizer
from thalweg.rules.rule import Rule


class OfRule(RuleOptimizer):
    """The optimizer that steps by a rule, with one gradient a call of ``step()``: for SAM that is half a step.

    Arguments:
        params: parameters, groups or ``(name, parameter)`` pairs.
        rule: such as one of :data:`thalweg.rules.RULES`; the same in all groups.
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
        unknown = set(hyper) - set(rule.defaults)
        if unknown:
            raise TypeError(f"{rule.name} has no {min(unknown)!r}: choose among {', '.join(rule.defaults)}")
        self.rule = rule
        super().__init__(params, {**rule.defaults, **hyper}, engine, False, {"decay": decay})

    def rule_of(self, group: Group) -> Rule:
        return self.rule
