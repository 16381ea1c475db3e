"""LAMB as a torch.optim.Optimizer."""

from typing import Unpack

from torch import Tensor

from thalweg.optim.entries import Group
from thalweg.optim.implementations import Engine
from thalweg.optim.optimizer import Params, RuleOptimizer
from thalweg.optim.settings import Options, settings_of
from thalweg.rules.lamb import LAMB as LAMBRule
from thalweg.rules.rule import Rule

DEFAULTS = LAMBRule.defaults


class LAMB(RuleOptimizer):
    """LAMB: Adam's direction, of which each tensor's step has the size of the tensor itself.

    Equations: :mod:`thalweg.rules.lamb`.

    Arguments:
        lr: learning rate, the relative size of a step.
        betas: decays (β₁, β₂) of the moments.
        eps: added outside the root.
        weight_decay: λ, which enters the direction before its norm is taken.
        bias_correction: whether to correct the bias of the moments.
        params, maximize, engine, options: as :class:`RuleOptimizer`.

    Raises:
        ValueError: a hyperparameter is out of its range.
        RuntimeError: a step has sparse gradients.

    >>> import torch
    >>> w = torch.nn.Parameter(torch.tensor([1.0]))
    >>> optimizer = LAMB([w], lr=0.1)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> round(w.item(), 3)
    0.9

    Source: You et al. 2019 (arXiv 1904.00962), algorithm 2, whose eps and betas these are.
    """

    def __init__(
        self,
        params: Params,
        lr: float | Tensor = DEFAULTS["lr"],
        betas: tuple[float, float] = (DEFAULTS["beta1"], DEFAULTS["beta2"]),
        eps: float = DEFAULTS["eps"],
        weight_decay: float = DEFAULTS["weight_decay"],
        *,
        bias_correction: bool = True,
        maximize: bool = False,
        engine: Engine = "auto",
        **options: Unpack[Options],
    ) -> None:
        super().__init__(params, settings_of(locals()), engine, maximize, options)

    def rule_of(self, group: Group) -> Rule:
        return LAMBRule(group["bias_correction"])
