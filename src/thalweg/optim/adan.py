"""Adan as a torch.optim.Optimizer."""

from typing import Unpack

from torch import Tensor

from thalweg.optim.entries import Group
from thalweg.optim.implementations import Engine
from thalweg.optim.optimizer import Params, RuleOptimizer
from thalweg.optim.settings import Options, settings_of
from thalweg.rules.adan import Adan as AdanRule
from thalweg.rules.rule import Rule

DEFAULTS = AdanRule.defaults


class Adan(RuleOptimizer):
    """Adan: Nesterov's momentum from means of gradients and of their differences, scaled as Adam scales.

    Equations: :mod:`thalweg.rules.adan`.

    Arguments:
        lr: learning rate; up to 10 times AdamW's.
        betas: (β₁, β₂, β₃), the decay of the gradient's mean, of its difference's, and of the squares; the shares that
            are kept, as in the authors' code, where the paper has 1 − β.
        eps: added outside the root.
        weight_decay: λ of the decay by 1 / (1 + lr λ) after the step.
        params, maximize, engine, options: as :class:`RuleOptimizer`.

    Raises:
        ValueError: a hyperparameter is out of its range.
        RuntimeError: a step has sparse gradients.

    >>> import torch
    >>> w = torch.nn.Parameter(torch.tensor([1.0]))
    >>> optimizer = Adan([w], lr=0.1)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> round(w.item(), 3)
    0.9

    Source: Xie et al. 2022 (arXiv 2208.06677); defaults of the authors' code, sail-sg/Adan.
    """

    betas = 3

    def __init__(
        self,
        params: Params,
        lr: float | Tensor = DEFAULTS["lr"],
        betas: tuple[float, float, float] = (DEFAULTS["beta1"], DEFAULTS["beta2"], DEFAULTS["beta3"]),
        eps: float = DEFAULTS["eps"],
        weight_decay: float = DEFAULTS["weight_decay"],
        *,
        maximize: bool = False,
        engine: Engine = "auto",
        **options: Unpack[Options],
    ) -> None:
        super().__init__(params, settings_of(locals()), engine, maximize, options)

    def rule_of(self, group: Group) -> Rule:
        return AdanRule()
