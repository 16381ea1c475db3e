"""Shampoo as a torch.optim.Optimizer."""

from typing import Unpack

from torch import Tensor

from thalweg.optim.entries import Group
from thalweg.optim.implementations import Engine
from thalweg.optim.matrix_optimizer import MatrixOptimizer
from thalweg.optim.optimizer import Params
from thalweg.optim.settings import Options, settings_of
from thalweg.rules.adam import AdamW
from thalweg.rules.matrix_rule import MatrixRule
from thalweg.rules.shampoo import Graft
from thalweg.rules.shampoo import Shampoo as ShampooRule
from thalweg.rules.soap import MAX_DIM

DEFAULTS, PARTNER = ShampooRule.defaults, AdamW.defaults


class Shampoo(MatrixOptimizer):
    """Shampoo: gradients divided on both sides by roots of what rows and columns share; AdamW steps everything else.

    Equations: :mod:`thalweg.rules.shampoo`.

    Which parameters are matrices, and which settings AdamW has, is said at :class:`MatrixOptimizer`.

    Arguments:
        lr: learning rate η of matrices; with ``graft="adam"`` that of Adam.
        betas: decays (β₁, β₂) of the gradient's average, and of L, R and V; with β₂ = 1 these are sums.
        eps: ε, added to the eigenvalues of L̂ and R̂.
        weight_decay: λ, by which matrices shrink: θ ← (1 − lr · λ) θ.
        precondition_frequency: steps from one calculation of the roots to another, at least 1.
        graft: the step whose size is grafted on: ``"adam"``, ``"sgd"`` or ``"none"``.
        graft_eps: added to the root in Adam's step.
        max_precond_dim: length of the longest side that has a root, at least 1.
        adamw_lr, adamw_betas, adamw_eps, adamw_weight_decay: of AdamW.
        params, maximize, engine, options: as :class:`MatrixOptimizer`.

    Raises:
        ValueError: a setting is out of its range, or a vector is in a group of matrices.
        RuntimeError: a matrix is complex or distributed, or its gradient sparse.

    >>> import torch
    >>> w = torch.nn.Parameter(torch.eye(2))
    >>> optimizer = Shampoo([w], lr=0.1, betas=(0.0, 1.0), graft="none", precondition_frequency=1)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> w.detach()
    tensor([[0.9000, 0.0000],
            [0.0000, 0.9000]])

    Source: Gupta, Koren & Singer 2018; Anil et al. 2020; Shi et al. 2023.
    """

    def __init__(
        self,
        params: Params,
        lr: float | Tensor = DEFAULTS["lr"],
        betas: tuple[float, float] = (DEFAULTS["beta1"], DEFAULTS["beta2"]),
        eps: float = DEFAULTS["eps"],
        weight_decay: float = DEFAULTS["weight_decay"],
        precondition_frequency: int = int(DEFAULTS["precondition_frequency"]),
        graft: Graft = "adam",
        graft_eps: float = ShampooRule.graft_eps,
        max_precond_dim: int = MAX_DIM,
        *,
        adamw_lr: float | Tensor = PARTNER["lr"],
        adamw_betas: tuple[float, float] = (PARTNER["beta1"], PARTNER["beta2"]),
        adamw_eps: float = PARTNER["eps"],
        adamw_weight_decay: float = PARTNER["weight_decay"],
        maximize: bool = False,
        engine: Engine = "auto",
        **options: Unpack[Options],
    ) -> None:
        super().__init__(params, settings_of(locals()), engine, maximize, options)

    def matrix_rule_of(self, group: Group) -> MatrixRule:
        return ShampooRule(group["graft"], group["graft_eps"], group["max_precond_dim"])
