"""NAdam as a torch.optim.Optimizer."""

from typing import Any, Unpack

from torch import Tensor

from thalweg.optim.engines import Engine
from thalweg.optim.entries import Group
from thalweg.optim.optimizer import Options, Params, RuleOptimizer
from thalweg.rules.nadam import NAdam as NAdamRule
from thalweg.rules.nadam import NAdamW as NAdamWRule
from thalweg.rules.rule import Rule


class NAdam(RuleOptimizer):
    """NAdam: Adam with Nesterov's look ahead in the first moment and a momentum that warms up.

        μ_t = β₁ (1 − ½ · 0.96^(t·ψ));   s ← β₁ s + (1 − β₁) g;   r ← β₂ r + (1 − β₂) g ⊙ g
        θ ← θ − lr ((1 − μ_t) / (1 − Π_{i≤t} μ_i) · g + μ_{t+1} / (1 − Π_{i≤t+1} μ_i) · s) / (√r̂ + eps)

    Arguments:
        params: parameters, groups or ``(name, parameter)`` pairs.
        lr: learning rate; a number or a tensor of one element.
        betas: decays (β₁, β₂) of the moments.
        eps: outside the root.
        weight_decay: λ of the added gradient λθ.
        momentum_decay: ψ.
        decoupled_weight_decay: shrink the parameters instead.
        maximize: ascend.
        engine: ``"foreach"``, ``"compiled"`` or ``"auto"``, see :class:`RuleOptimizer`.
        options: ``clip_norm``, ``skip_nonfinite``, ``average``, ``decay``, see :class:`RuleOptimizer`; torch's
            ``foreach`` and ``fused`` are taken as wishes for an engine.

    Raises:
        ValueError: a hyperparameter out of its range.
        RuntimeError: at a step, on sparse gradients.

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
        lr: float | Tensor = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum_decay: float = 4e-3,
        decoupled_weight_decay: bool = False,
        *,
        maximize: bool = False,
        engine: Engine = "auto",
        **options: Unpack[Options],
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "momentum_decay": momentum_decay,
            "decoupled_weight_decay": decoupled_weight_decay,
        }
        super().__init__(params, defaults, engine, maximize, options)

    def rule_of(self, group: Group) -> Rule:
        return NAdamWRule() if group["decoupled_weight_decay"] else NAdamRule()

    def hyper_of(self, group: Group) -> dict[str, Any]:
        beta1, beta2 = group["betas"]
        named = {name: group[name] for name in ("lr", "eps", "weight_decay", "momentum_decay")}
        return {**named, "beta1": beta1, "beta2": beta2}
