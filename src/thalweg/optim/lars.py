"""LARS as a torch.optim.Optimizer."""

from typing import Unpack

from torch import Tensor

from thalweg.optim.entries import Group
from thalweg.optim.implementations import Engine
from thalweg.optim.optimizer import Params, RuleOptimizer
from thalweg.optim.settings import Options, settings_of
from thalweg.rules.lars import LARS as LARSRule
from thalweg.rules.rule import Rule

DEFAULTS = LARSRule.defaults


class LARS(RuleOptimizer):
    """LARS: momentum whose learning rate in each tensor follows the ratio of the weights' and the gradient's norms.

    Equations: :mod:`thalweg.rules.lars`.

    Arguments:
        lr: global learning rate; large, as the trust coefficient is small.
        momentum: share of the velocity that is kept.
        weight_decay: λ of the added gradient λθ, which counts in the ratio too.
        trust_coefficient: η, how far a tensor trusts its gradient.
        params, maximize, engine, options: as :class:`RuleOptimizer`.

    Raises:
        ValueError: a hyperparameter is out of its range.
        RuntimeError: a step has sparse gradients.

    >>> import torch
    >>> w = torch.nn.Parameter(torch.tensor([1.0]))
    >>> optimizer = LARS([w], lr=10.0)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> round(w.item(), 3)
    0.99

    Source: You, Gitman & Ginsburg 2017 (arXiv 1708.03888), algorithm 1, whose trust coefficient and momentum these are.
    """

    def __init__(
        self,
        params: Params,
        lr: float | Tensor = DEFAULTS["lr"],
        momentum: float = DEFAULTS["momentum"],
        weight_decay: float = DEFAULTS["weight_decay"],
        trust_coefficient: float = DEFAULTS["trust_coefficient"],
        *,
        maximize: bool = False,
        engine: Engine = "auto",
        **options: Unpack[Options],
    ) -> None:
        super().__init__(params, settings_of(locals()), engine, maximize, options)

    def rule_of(self, group: Group) -> Rule:
        return LARSRule()
