"""Adadelta as a torch.optim.Optimizer."""

from typing import Any, Unpack

from torch import Tensor

from thalweg.optim.engines import Engine
from thalweg.optim.entries import Group
from thalweg.optim.optimizer import Options, Params, RuleOptimizer
from thalweg.rules.adadelta import Adadelta as AdadeltaRule
from thalweg.rules.rule import Rule


class Adadelta(RuleOptimizer):
    """Adadelta: the gradient times the ratio of the running sizes of past steps and gradients.

        r ← ρ r + (1 − ρ) g ⊙ g;   Δ = √(u + eps) / √(r + eps) ⊙ g
        u ← ρ u + (1 − ρ) Δ ⊙ Δ;   θ ← θ − lr · Δ

    Arguments:
        params: parameters, groups or ``(name, parameter)`` pairs.
        lr: factor on the step; the method's own is 1.
        rho: ρ, decay of both averages.
        eps: inside both roots; sets the size of the first steps.
        weight_decay: λ of the added gradient λθ.
        maximize: ascend.
        engine: ``"foreach"``, ``"compiled"`` or ``"auto"``, see :class:`RuleOptimizer`.
        options: ``clip_norm``, ``skip_nonfinite``, ``average``, ``decay``, see :class:`RuleOptimizer`; torch's
            ``foreach`` and ``fused`` are taken as wishes for an engine.

    Raises:
        ValueError: a hyperparameter out of its range.
        RuntimeError: at a step, on sparse gradients.

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
        lr: float | Tensor = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
        engine: Engine = "auto",
        **options: Unpack[Options],
    ) -> None:
        super().__init__(
            params, {"lr": lr, "rho": rho, "eps": eps, "weight_decay": weight_decay}, engine, maximize, options
        )

    def rule_of(self, group: Group) -> Rule:
        return AdadeltaRule()

    def hyper_of(self, group: Group) -> dict[str, Any]:
        return {name: group[name] for name in ("lr", "rho", "eps", "weight_decay")}
