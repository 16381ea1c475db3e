"""AdaGrad as a torch.optim.Optimizer."""

from typing import Unpack

from torch import Tensor

from thalweg.optim.entries import Group
from thalweg.optim.implementations import Engine
from thalweg.optim.optimizer import Params, RuleOptimizer
from thalweg.optim.settings import Options, settings_of
from thalweg.rules.adagrad import AdaGrad as AdaGradRule
from thalweg.rules.rule import Rule

DEFAULTS = AdaGradRule.defaults


class AdaGrad(RuleOptimizer):
    """AdaGrad: each parameter's learning rate decreases with the root of the sum of its squared gradients.

    Equations: :mod:`thalweg.rules.adagrad`.

    Arguments:
        lr: global learning rate ε; a number or a tensor of one element.
        lr_decay: inverse-time decay of the learning rate.
        weight_decay: λ of the added gradient λθ.
        initial_accumulator_value: the initial value of r.
        eps: δ, added outside the root.
        params, maximize, engine, options: as :class:`RuleOptimizer`.

    Raises:
        ValueError: a hyperparameter is out of its range.
        RuntimeError: a step has sparse gradients and weight decay.

    >>> import torch
    >>> w = torch.nn.Parameter(torch.tensor([1.0, 100.0]))
    >>> optimizer = AdaGrad([w], lr=0.1)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> [round(x, 3) for x in w.tolist()]
    [0.9, 99.9]

    Source: Deep Learning, §8.5.1, algorithm 8.4; Duchi, Hazan & Singer 2011.
    """

    def __init__(
        self,
        params: Params,
        lr: float | Tensor = DEFAULTS["lr"],
        lr_decay: float = DEFAULTS["lr_decay"],
        weight_decay: float = DEFAULTS["weight_decay"],
        initial_accumulator_value: float = 0.0,
        eps: float = DEFAULTS["eps"],
        *,
        maximize: bool = False,
        engine: Engine = "auto",
        **options: Unpack[Options],
    ) -> None:
        super().__init__(params, settings_of(locals()), engine, maximize, options)

    def rule_of(self, group: Group) -> Rule:
        return AdaGradRule(initial_accumulator_value=group["initial_accumulator_value"])
