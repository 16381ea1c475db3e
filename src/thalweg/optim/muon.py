"""Muon as a torch.optim.Optimizer."""

from typing import Unpack

from torch import Tensor

from thalweg.optim.entries import Group
from thalweg.optim.implementations import Engine
from thalweg.optim.matrix_optimizer import MatrixOptimizer
from thalweg.optim.optimizer import Params
from thalweg.optim.settings import Options, settings_of
from thalweg.rules.adam import AdamW
from thalweg.rules.matrix_rule import MatrixRule
from thalweg.rules.muon import COEFFICIENTS, Iteration, Scaling
from thalweg.rules.muon import Muon as MuonRule

DEFAULTS, PARTNER = MuonRule.defaults, AdamW.defaults


class Muon(MatrixOptimizer):
    """Muon: momentum whose singular values are all brought near 1, for hidden matrices; AdamW steps everything else.

    Equations: :mod:`thalweg.rules.muon`.

    A step equals that of ``torch.optim.Muon``, which iterates in bfloat16 everywhere. Which parameters are matrices,
    and which settings AdamW has, is said at :class:`MatrixOptimizer`.

    Arguments:
        lr: learning rate η of matrices; published are 0.02 for the original scale, and AdamW's for the other one.
        weight_decay: λ, by which matrices shrink: θ ← (1 − lr · λ) θ.
        momentum: μ, the share of the average that is kept.
        nesterov: look ahead.
        ns_coefficients: (a, b, c) of the polynomial.
        eps: the least norm by which a matrix is divided.
        ns_steps: iterations of Newton and Schulz, at least 1.
        adjust_lr_fn: ``"original"`` (or None), or ``"match_rms_adamw"``: the scale of the step by the matrix's shape.
        ns_dtype: ``"bfloat16"`` or ``"float32"``, in which is iterated; in float64 for matrices of that type. By
            ``"auto"``, in bfloat16 on an accelerator, and in float32 on a CPU, where it is faster.
        adamw_lr, adamw_betas, adamw_eps, adamw_weight_decay: of AdamW.
        params, maximize, engine, options: as :class:`MatrixOptimizer`.

    Raises:
        ValueError: a setting is out of its range, or a vector is in a group of matrices.
        RuntimeError: a matrix is complex or distributed, or its gradient sparse.

    >>> import torch
    >>> from thalweg.optim import matrix_groups
    >>> model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))
    >>> optimizer = Muon(matrix_groups(model), lr=0.02, adamw_lr=3e-3)
    >>> [(len(group["params"]), group["lr"]) for group in optimizer.param_groups]
    [(1, 0.02), (3, 0.003)]

    Source: Jordan et al. 2024; Liu et al. 2025.
    """

    def __init__(
        self,
        params: Params,
        lr: float | Tensor = DEFAULTS["lr"],
        weight_decay: float = DEFAULTS["weight_decay"],
        momentum: float = DEFAULTS["momentum"],
        nesterov: bool = True,
        ns_coefficients: tuple[float, float, float] = COEFFICIENTS,
        eps: float = MuonRule.eps,
        ns_steps: int = 5,
        adjust_lr_fn: Scaling | None = None,
        *,
        ns_dtype: Iteration = "auto",
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
        return MuonRule(
            group["nesterov"],
            group["adjust_lr_fn"] or "original",
            group["ns_steps"],
            tuple(group["ns_coefficients"]),
            group["ns_dtype"],
            group["eps"],
        )
