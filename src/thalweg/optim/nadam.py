"""NAdam as a torch.optim.Optimizer."""

from typing import Unpack

from torch import Tensor

from thalweg.optim.entries import Group
from thalweg.optim.implementations import Engine
from thalweg.optim.optimizer import Params, RuleOptimizer
from thalweg.optim.settings import Options, settings_of
from thalweg.rules.nadam import NAdam as NAdamRule
from thalweg.rules.nadam import NAdamW as NAdamWRule
from thalweg.rules.rule import Rule

DEFAULTS = NAdamRule.defaults
BETAS = (DEFAULTS["beta1"], DEFAULTS["beta2"])


class NAdam(RuleOptimizer):
    """NAdam: Adam with Nesterov's look-ahead in the first moment, and with a momentum that warms up.

    Equations: :mod:`thalweg.rules.nadam`.

    Arguments:
        lr: learning rate; a number or a tensor of one element.
        betas: decays (β₁, β₂) of the moments.
        eps: added outside the root.
        weight_decay: λ of the added gradient λθ.
        momentum_decay: ψ, the decay of the momentum schedule.
        decoupled_weight_decay: shrink the parameters instead of changing the gradient.
        params, maximize, engine, options: as :class:`RuleOptimizer`.

    Raises:
        ValueError: a hyperparameter is out of its range.
        RuntimeError: a step has sparse gradients.

    >>> import torch
    >>> w = torch.nn.Parameter(torch.tensor([1.0]))
    >>> optimizer = NAdam([w], lr=0.1)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> w.item() < 1
    True

    Source: Dozat 2016.
    """

    def __init__(
        self,
        params: Params,
        lr: float | Tensor = DEFAULTS["lr"],
        betas: tuple[float, float] = BETAS,
        eps: float = DEFAULTS["eps"],
        weight_decay: float = DEFAULTS["weight_decay"],
        momentum_decay: float = DEFAULTS["momentum_decay"],
        decoupled_weight_decay: bool = False,
        *,
        maximize: bool = False,
        engine: Engine = "auto",
        **options: Unpack[Options],
    ) -> None:
        super().__init__(params, settings_of(locals()), engine, maximize, options)

    def rule_of(self, group: Group) -> Rule:
        return NAdamWRule() if group["decoupled_weight_decay"] else NAdamRule()
