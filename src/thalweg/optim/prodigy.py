"""Prodigy as a torch.optim.Optimizer."""

from typing import Unpack

from torch import Tensor

from thalweg.optim.entries import Group
from thalweg.optim.implementations import Engine
from thalweg.optim.optimizer import Params, RuleOptimizer
from thalweg.optim.settings import Options, settings_of
from thalweg.rules.prodigy import Prodigy as ProdigyRule
from thalweg.rules.rule import Rule

DEFAULTS = ProdigyRule.defaults


class Prodigy(RuleOptimizer):
    """Prodigy: Adam that estimates its own learning rate, as the distance from the start to the solution.

    Equations: :mod:`thalweg.rules.prodigy`.

    Arguments:
        lr: factor on the estimate, 1 with whatever schedule.
        betas: decays (β₁, β₂) of the moments; the estimate forgets with √β₂.
        eps: added outside the root, times the estimate.
        weight_decay: λ of the decoupled decay.
        d0: the first estimate, far too small; of no influence on the result.
        d_coef: factor on the estimate, 0.5 to 2.
        growth_rate: by what factor the estimate may grow in a step; 1.02 acts as a warm-up.
        safeguard_warmup: keep the learning rate out of the estimate's denominator, for schedules that warm up.
        bias_correction: whether to correct the bias of the moments.
        params, maximize, engine, options: as :class:`RuleOptimizer`.

    Raises:
        ValueError: a hyperparameter is out of its range.
        RuntimeError: a step has sparse gradients.

    >>> import torch
    >>> w = torch.nn.Parameter(torch.tensor([1.0]))
    >>> optimizer = Prodigy([w])
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> round(w.item(), 8)
    0.99999684

    Source: Mishchenko & Defazio 2023 (arXiv 2306.06101); defaults of the authors' package ``prodigyopt``.
    """

    def __init__(
        self,
        params: Params,
        lr: float | Tensor = DEFAULTS["lr"],
        betas: tuple[float, float] = (DEFAULTS["beta1"], DEFAULTS["beta2"]),
        eps: float = DEFAULTS["eps"],
        weight_decay: float = DEFAULTS["weight_decay"],
        d0: float = DEFAULTS["d0"],
        d_coef: float = DEFAULTS["d_coef"],
        growth_rate: float = DEFAULTS["growth_rate"],
        *,
        safeguard_warmup: bool = False,
        bias_correction: bool = False,
        maximize: bool = False,
        engine: Engine = "auto",
        **options: Unpack[Options],
    ) -> None:
        super().__init__(params, settings_of(locals()), engine, maximize, options)

    @property
    def d(self) -> float:
        """The estimate, by which the learning rate is multiplied; reading it waits for the device."""
        group = self.param_groups[0]
        return float(group["d0"]) * float(group.get("d_ratio", 1.0))

    def rule_of(self, group: Group) -> Rule:
        return ProdigyRule(group["safeguard_warmup"], group["bias_correction"])
