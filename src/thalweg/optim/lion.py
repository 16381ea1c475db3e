"""Lion as a torch.optim.Optimizer."""

from typing import Unpack

from torch import Tensor

from thalweg.optim.entries import Group
from thalweg.optim.implementations import Engine
from thalweg.optim.optimizer import Params, RuleOptimizer
from thalweg.optim.settings import Options, settings_of
from thalweg.rules.lion import Lion as LionRule
from thalweg.rules.rule import Rule

DEFAULTS = LionRule.defaults


class Lion(RuleOptimizer):
    """Lion: a step of the size of the learning rate in every coordinate, along the sign of a momentum.

    Equations: :mod:`thalweg.rules.lion`.

    Arguments:
        lr: learning rate, the size of every coordinate's step; 3 to 10 times smaller than AdamW's.
        betas: (β₁, β₂), the share of the momentum in the step, and that of it which is kept.
        weight_decay: λ of the decoupled decay; 3 to 10 times larger than AdamW's.
        params, maximize, engine, options: as :class:`RuleOptimizer`.

    Raises:
        ValueError: a hyperparameter is out of its range.
        RuntimeError: a step has sparse gradients.

    >>> import torch
    >>> w = torch.nn.Parameter(torch.tensor([1.0]))
    >>> optimizer = Lion([w], lr=0.1)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> round(w.item(), 3)
    0.9

    Source: Chen et al. 2023 (arXiv 2302.06675), algorithm 2, whose default betas these are.
    """

    def __init__(
        self,
        params: Params,
        lr: float | Tensor = DEFAULTS["lr"],
        betas: tuple[float, float] = (DEFAULTS["beta1"], DEFAULTS["beta2"]),
        weight_decay: float = DEFAULTS["weight_decay"],
        *,
        maximize: bool = False,
        engine: Engine = "auto",
        **options: Unpack[Options],
    ) -> None:
        super().__init__(params, settings_of(locals()), engine, maximize, options)

    def rule_of(self, group: Group) -> Rule:
        return LionRule()
