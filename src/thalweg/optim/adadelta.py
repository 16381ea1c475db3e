"""Adadelta as a torch.optim.Optimizer."""

from typing import Unpack

from torch import Tensor

from thalweg.optim.entries import Group
from thalweg.optim.implementations import Engine
from thalweg.optim.optimizer import Params, RuleOptimizer
from thalweg.optim.settings import Options, settings_of
from thalweg.rules.adadelta import Adadelta as AdadeltaRule
from thalweg.rules.rule import Rule

DEFAULTS = AdadeltaRule.defaults


class Adadelta(RuleOptimizer):
    """Adadelta: the gradient times the ratio of the running magnitudes of past steps and past gradients.

    Equations: :mod:`thalweg.rules.adadelta`.

    Arguments:
        lr: factor on the step; in the published method it is 1.
        rho: ρ, decay of both averages.
        eps: added inside both roots; it determines the size of the first steps.
        weight_decay: λ of the added gradient λθ.
        params, maximize, engine, options: as :class:`RuleOptimizer`.

    Raises:
        ValueError: a hyperparameter is out of its range.
        RuntimeError: a step has sparse gradients.

    >>> import torch
    >>> w = torch.nn.Parameter(torch.tensor([1.0]))
    >>> optimizer = Adadelta([w])
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> round(w.item(), 5)
    0.99684

    Source: Zeiler 2012; a curve of the comparison in Deep Learning, §8.5.4.
    """

    def __init__(
        self,
        params: Params,
        lr: float | Tensor = DEFAULTS["lr"],
        rho: float = DEFAULTS["rho"],
        eps: float = DEFAULTS["eps"],
        weight_decay: float = DEFAULTS["weight_decay"],
        *,
        maximize: bool = False,
        engine: Engine = "auto",
        **options: Unpack[Options],
    ) -> None:
        super().__init__(params, settings_of(locals()), engine, maximize, options)

    def rule_of(self, group: Group) -> Rule:
        return AdadeltaRule()
