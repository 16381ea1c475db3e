"""Shampoo: the gradient divided on both sides by roots of what its rows, and its columns, have in common.

    L ← β₂ L + (1 − β₂) G Gᵀ;   R ← β₂ R + (1 − β₂) Gᵀ G
    M ← β₁ M + (1 − β₁) G;      M̂ = M / (1 − β₁ᵗ)
    S = (L̂ + eps·I)^(−1/4) M̂ (R̂ + eps·I)^(−1/4),   L̂ = L / (1 − β₂ᵗ), R̂ likewise
    θ ← (1 − lr·λ) θ − lr · ‖D‖/‖S‖ · S

D is the step whose size is grafted on: M̂ (``"sgd"``), or Adam's M̂ / (√V̂ + graft_eps) (``"adam"``);
without grafting (``"none"``) the factor is 1, and D is M̂. With β₁ = 0, β₂ = 1, where L and R are sums, no
grafting and roots at each step it is the method as it was first published. The roots are worked out every
``precondition_frequency`` steps, by eigendecomposition; up to the first of them the step is D. A side longer than
``max_precond_dim`` has none; the other one's exponent is then −1/2.

========== ========================== ======================================
paper      argument                   meaning
========== ========================== ======================================
η          ``lr``                     learning rate
β₁ β₂      ``beta1`` ``beta2``        decays of M, and of L, R and V
ε          ``eps``                    added to all eigenvalues of L̂ and R̂
========== ========================== ======================================

Source: Gupta, Koren & Singer 2018 (arXiv 1802.09568), algorithm 1; Anil et al. 2020 (arXiv 2002.09018) and Shi et al.
2023 (arXiv 2309.06497): grafting.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from thalweg.rules.matrix_rule import REFRESH, MatrixRule, eigh
from thalweg.rules.rule import Array, Scalar, State
from thalweg.rules.soap import MAX_DIM

Graft = Literal["adam", "sgd", "none"]
GRAFTS: tuple[Graft, ...] = ("adam", "sgd", "none")


@dataclass(frozen=True)
class Shampoo(MatrixRule):
    """Shampoo; ``exp_avg`` is M, ``exp_avg_sq`` is V."""

    graft: Graft = "adam"
    graft_eps: float = 1e-8
    max_precond_dim: int = MAX_DIM

    name: ClassVar[str] = "shampoo"
    defaults: ClassVar[Mapping[str, float]] = {
        "lr": 1e-3,
        "beta1": 0.9,
        "beta2": 0.999,
        "eps": 1e-12,
        "weight_decay": 0.0,
        "precondition_frequency": 10,
    }
    factor_names: ClassVar[tuple[str, ...]] = ("left", "right", "left_root", "right_root")

    @property
    def buffers(self) -> Mapping[str, float | None]:
        return {"exp_avg": 0.0} | ({"exp_avg_sq": 0.0} if self.graft == "adam" else {})

    def factors(self, rows: int, columns: int) -> Mapping[str, tuple[int, int]]:
        sides = [(side, size) for side, size in (("left", rows), ("right", columns)) if size <= self.max_precond_dim]
        return {name: (size, size) for side, size in sides for name in (side, f"{side}_root")}

    def coefficients(
        self, hyper: Mapping[str, Scalar], t: Scalar, scalars: Mapping[str, Scalar]
    ) -> tuple[dict[str, Scalar], dict[str, Scalar]]:
        beta1, beta2 = hyper["beta1"], hyper["beta2"]
        sums = (beta2 == 1) * 1.0
        return {
            "beta1": beta1,
            "one_minus_beta1": 1 - beta1,
            "correction1": 1 / (1 - beta1**t),
            "beta2": beta2,
            "share2": 1 - beta2 + sums,
            "correction2": 1 / (1 - beta2**t + sums),
            "eps": hyper["eps"],
            "minus_lr": -hyper["lr"],
            "before": (t < hyper["precondition_frequency"]) * 1.0,
            REFRESH: (t % hyper["precondition_frequency"] == 0) * 1.0,
        }, {}

    def gather(self, grad: Tensor, state: State, c: Mapping[str, Scalar]) -> State:
        new = dict(state)
        if "left" in state:
            new["left"] = state["left"] * c["beta2"] + grad @ grad.mT * c["share2"]
        if "right" in state:
            new["right"] = state["right"] * c["beta2"] + grad.mT @ grad * c["share2"]
        return new

    def refresh(self, which: int, state: State, c: Mapping[str, Scalar]) -> State:
        sides = [side for side in ("left", "right") if side in state]
        exponent = -0.5 / len(sides) if sides else 0.0
        roots = {f"{side}_root": power(state[side] * c["correction2"], exponent, c["eps"]) for side in sides}
        return {**state, **roots}

    def update(self, grad: Array, state: State, c: Mapping[str, Scalar]) -> tuple[Array, State]:
        new = {**state, "exp_avg": state["exp_avg"] * c["beta1"] + grad * c["one_minus_beta1"]}
        mean = step = grafted = new["exp_avg"] * c["correction1"]
        if self.graft == "adam":
            new["exp_avg_sq"] = state["exp_avg_sq"] * c["beta2"] + grad * grad * c["share2"]
            grafted = mean / ((new["exp_avg_sq"] * c["correction2"]).sqrt() + self.graft_eps)
        if "left_root" not in state and "right_root" not in state:
            return grafted * c["minus_lr"], new
        if "left_root" in state:
            step = state["left_root"] @ step
        if "right_root" in state:
            step = step @ state["right_root"]
        step = step + grafted * c["before"]  # where the roots are 0
        if self.graft != "none":
            step = step * (_norm(grafted) / (_norm(step) + torch.finfo(step.dtype).tiny))
        return step * c["minus_lr"], new


def power(matrices: Tensor, exponent: float, eps: Any) -> Tensor:
    """Returns powers of symmetric matrices ``(..., n, n)`` with ``eps`` added to their eigenvalues, none below it.

    >>> power(torch.diag(torch.tensor([16.0, 81.0])), -0.25, 0.0)
    tensor([[0.5000, 0.0000],
            [0.0000, 0.3333]])
    """
    values, vectors = eigh(matrices)
    values = values - values[..., :1].clamp_max(0.0)  # which rounding has made less than 0
    values = (values[..., None, :] + eps) ** exponent
    return (vectors * values) @ vectors.mT


def _norm(matrices: Tensor) -> Tensor:
    return torch.linalg.matrix_norm(matrices, keepdim=True)
