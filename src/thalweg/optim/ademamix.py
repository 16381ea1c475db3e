"""AdEMAMix as a torch.optim.Optimizer."""

from typing import Unpack

from torch import Tensor

from thalweg.optim.entries import Group
from thalweg.optim.implementations import Engine
from thalweg.optim.optimizer import Params, RuleOptimizer
from thalweg.optim.settings import Options, settings_of
from thalweg.rules.ademamix import AdEMAMix as AdEMAMixRule
from thalweg.rules.rule import Rule

DEFAULTS = AdEMAMixRule.defaults


class AdEMAMix(RuleOptimizer):
    """AdEMAMix: Adam with a second momentum that forgets slowly, so that old gradients count too.

    Equations: :mod:`thalweg.rules.ademamix`.

    Arguments:
        lr: learning rate.
        betas: (β₁, β₂, β₃), the decay of the fast moment, of the squares, and of the slow moment.
        alpha: α, the share of the slow moment; 4 to 10 in the paper.
        alpha_warmup, beta3_warmup: steps over which α grows from 0 and β₃ from β₁; in the paper all steps of the run, 0
            for none.
        eps: added outside the root.
        weight_decay: λ of the decoupled decay.
        params, maximize, engine, options: as :class:`RuleOptimizer`.

    Raises:
        ValueError: a hyperparameter is out of its range.
        RuntimeError: a step has sparse gradients.

    >>> import torch
    >>> w = torch.nn.Parameter(torch.tensor([1.0]))
    >>> optimizer = AdEMAMix([w], lr=0.1)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> round(w.item(), 3)
    0.9

    Source: Pagliardini, Ablin & Grangier 2024 (arXiv 2409.03137), whose betas and α these are.
    """

    betas = 3

    def __init__(
        self,
        params: Params,
        lr: float | Tensor = DEFAULTS["lr"],
        betas: tuple[float, float, float] = (DEFAULTS["beta1"], DEFAULTS["beta2"], DEFAULTS["beta3"]),
        alpha: float = DEFAULTS["alpha"],
        alpha_warmup: float = DEFAULTS["alpha_warmup"],
        beta3_warmup: float = DEFAULTS["beta3_warmup"],
        eps: float = DEFAULTS["eps"],
        weight_decay: float = DEFAULTS["weight_decay"],
        *,
        maximize: bool = False,
        engine: Engine = "auto",
        **options: Unpack[Options],
    ) -> None:
        super().__init__(params, settings_of(locals()), engine, maximize, options)

    def rule_of(self, group: Group) -> Rule:
        return AdEMAMixRule()
