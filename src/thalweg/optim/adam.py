"""Adam and AdamW as torch.optim.Optimizers."""

from typing import Unpack

from torch import Tensor

from thalweg.optim.entries import Group
from thalweg.optim.implementations import Engine
from thalweg.optim.optimizer import Params, RuleOptimizer
from thalweg.optim.settings import Options, settings_of
from thalweg.rules.adam import Adam as AdamRule
from thalweg.rules.adam import AdamW as AdamWRule
from thalweg.rules.rule import Rule

DEFAULTS = AdamRule.defaults
BETAS = (DEFAULTS["beta1"], DEFAULTS["beta2"])


class Adam(RuleOptimizer):
    """Adam: momentum on the gradient, divided by the root of an average of its square, both with bias correction.

    Equations: :mod:`thalweg.rules.adam`.

    Arguments:
        lr: learning rate ε; a number or a tensor of one element.
        betas: decays (β₁, β₂) of the moments; the book's ρ₁, ρ₂.
        eps: δ, added outside the root.
        weight_decay: λ of the added gradient λθ.
        amsgrad: divide by the root of the largest r so far.
        bias_correction: whether to correct the bias of the moments; False keeps ŝ = s and r̂ = r.
        decoupled_weight_decay: shrink the parameters instead of changing the gradient, as AdamW does.
        params, maximize, engine, options: as :class:`RuleOptimizer`.

    Raises:
        ValueError: a hyperparameter is out of its range.
        RuntimeError: a step has sparse gradients.

    >>> import torch
    >>> w = torch.nn.Parameter(torch.tensor([1.0]))
    >>> optimizer = Adam([w], lr=0.1)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> round(w.item(), 3)
    0.9

    Source: Deep Learning, §8.5.3, algorithm 8.7; Kingma & Ba 2014; Reddi et al. 2018 (AMSGrad).
    """

    def __init__(
        self,
        params: Params,
        lr: float | Tensor = DEFAULTS["lr"],
        betas: tuple[float, float] = BETAS,
        eps: float = DEFAULTS["eps"],
        weight_decay: float = DEFAULTS["weight_decay"],
        amsgrad: bool = False,
        *,
        bias_correction: bool = True,
        decoupled_weight_decay: bool = False,
        maximize: bool = False,
        engine: Engine = "auto",
        **options: Unpack[Options],
    ) -> None:
        super().__init__(params, settings_of(locals()), engine, maximize, options)

    def rule_of(self, group: Group) -> Rule:
        form = AdamWRule if group["decoupled_weight_decay"] else AdamRule
        return form(group["amsgrad"], group["bias_correction"])


class AdamW(Adam):
    """Adam with decoupled weight decay: θ ← (1 − lr · weight_decay) θ before each step.

    The arguments are those of :class:`Adam`; ``weight_decay`` is 0.01 by default.

    >>> import torch
    >>> w = torch.nn.Parameter(torch.tensor([[1.0]]))
    >>> optimizer = AdamW([w], lr=0.1, weight_decay=0.5)
    >>> (0 * w).sum().backward()
    >>> optimizer.step()
    >>> round(w.item(), 3)
    0.95

    Source: Loshchilov & Hutter 2017.
    """

    def __init__(
        self,
        params: Params,
        lr: float | Tensor = DEFAULTS["lr"],
        betas: tuple[float, float] = BETAS,
        eps: float = DEFAULTS["eps"],
        weight_decay: float = AdamWRule.defaults["weight_decay"],
        amsgrad: bool = False,
        *,
        bias_correction: bool = True,
        maximize: bool = False,
        engine: Engine = "auto",
        **options: Unpack[Options],
    ) -> None:
        super().__init__(params, decoupled_weight_decay=True, **settings_of(locals()), **options)
