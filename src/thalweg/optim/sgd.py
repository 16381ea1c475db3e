"""SGD as a torch.optim.Optimizer."""

from typing import Unpack

from torch import Tensor

from thalweg.optim.entries import Group
from thalweg.optim.implementations import Engine
from thalweg.optim.optimizer import Params, RuleOptimizer
from thalweg.optim.settings import Options, settings_of
from thalweg.rules.rule import Rule
from thalweg.rules.sgd import SGD as SGDRule

DEFAULTS = SGDRule.defaults


class SGD(RuleOptimizer):
    """Stochastic gradient descent, optionally with Polyak's or Nesterov's momentum.

    Equations: :mod:`thalweg.rules.sgd`.

    Arguments:
        lr: learning rate ε; a number or a tensor of one element.
        momentum: α, the share of the velocity that is kept; 0 disables momentum.
        dampening: the share of the gradient that is not added to the velocity.
        weight_decay: λ of the added gradient λθ.
        nesterov: look ahead; needs momentum and no dampening.
        params, maximize, engine, options: as :class:`RuleOptimizer`.

    Raises:
        ValueError: a hyperparameter is out of its range.
        RuntimeError: a step has sparse gradients and weight decay.

    >>> import torch
    >>> w = torch.nn.Parameter(torch.tensor([1.0]))
    >>> optimizer = SGD([w], lr=0.1)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> round(w.item(), 3)
    0.8

    Source: Deep Learning, §8.3, algorithms 8.1 to 8.3; Polyak 1964; Sutskever et al. 2013.
    """

    def __init__(
        self,
        params: Params,
        lr: float | Tensor = DEFAULTS["lr"],
        momentum: float = 0.0,
        dampening: float = DEFAULTS["dampening"],
        weight_decay: float = DEFAULTS["weight_decay"],
        nesterov: bool = False,
        *,
        maximize: bool = False,
        engine: Engine = "auto",
        **options: Unpack[Options],
    ) -> None:
        super().__init__(params, settings_of(locals()), engine, maximize, options)

    def rule_of(self, group: Group) -> Rule:
        return SGDRule(momentum=group["momentum"] != 0, nesterov=group["nesterov"])
