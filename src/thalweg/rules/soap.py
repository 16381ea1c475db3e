"""SOAP: Adam in the eigenbasis of Shampoo's matrices, in which the coordinates of a matrix vary by themselves.

    L ← β L + (1 − β) G Gᵀ;   R ← β R + (1 − β) Gᵀ G
    Q_L, Q_R: eigenvectors of L and R
    G' = Q_Lᵀ G Q_R
    M' ← β₁ M' + (1 − β₁) G';   V ← β₂ V + (1 − β₂) G' ⊙ G'
    N' = √(1 − β₂ᵏ) / (1 − β₁ᵏ) · M' / (√V + eps)
    θ ← (1 − lr·λ) θ − lr · Q_L N' Q_Rᵀ

The first gradient makes L and R, and moves nothing: k counts the steps after it. The eigenvectors are those of
L and R before the step. At first they are all worked out; every ``precondition_frequency`` steps one power
iteration follows, Q ← qr(L Q), with the columns of Q, and with them V, in the order of qᵀ L q. M' turns with
the basis. A side longer than ``max_precond_dim`` has Q = I.

========== ========================== =======================================
paper      argument                   meaning
========== ========================== =======================================
η          ``lr``                     learning rate
β₁ β₂      ``beta1`` ``beta2``        decays of Adam's moments
β          ``shampoo_beta``           decay of L and R; β₂ in the paper
f          ``precondition_frequency`` steps from one power iteration to another
========== ========================== =======================================

Where the first gradient has not the rank of its longer side, eigenvectors of the eigenvalue 0 are free: unit vectors
complete the basis, so that rounding does not choose it.

Source: Vyas et al. 2024 (arXiv 2409.11321), algorithm 3.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from thalweg.rules.matrix_rule import REFRESH, MatrixRule, eigh
from thalweg.rules.rule import Array, Scalar, State, is_zero

FIRST, AGAIN = 1, 2  # refreshes: all eigenvectors, and a power iteration
MAX_DIM = 10_000


@dataclass(frozen=True)
class SOAP(MatrixRule):
    """SOAP; ``exp_avg`` is M' and ``exp_avg_sq`` is V, both in the eigenbasis."""

    max_precond_dim: int = MAX_DIM

    name: ClassVar[str] = "soap"
    defaults: ClassVar[Mapping[str, float]] = {
        "lr": 3e-3,
        "beta1": 0.95,
        "beta2": 0.95,
        "shampoo_beta": 0.95,
        "eps": 1e-8,
        "weight_decay": 1e-2,
        "precondition_frequency": 10,
    }
    factor_names: ClassVar[tuple[str, ...]] = ("left", "right", "left_basis", "right_basis")

    @property
    def buffers(self) -> Mapping[str, float | None]:
        return {"exp_avg": 0.0, "exp_avg_sq": 0.0}

    def factors(self, rows: int, columns: int) -> Mapping[str, tuple[int, int]]:
        sides = [(side, size) for side, size in (("left", rows), ("right", columns)) if size <= self.max_precond_dim]
        return {name: (size, size) for side, size in sides for name in (side, f"{side}_basis")}

    def coefficients(
        self, hyper: Mapping[str, Scalar], t: Scalar, scalars: Mapping[str, Scalar]
    ) -> tuple[dict[str, Scalar], dict[str, Scalar]]:
        beta1, beta2, begun = hyper["beta1"], hyper["beta2"], (t > 1) * 1.0
        k = t - begun  # at least 1
        corrected = (1 - beta2**k) ** 0.5 / (1 - beta1**k)
        c = {
            "beta1": beta1,
            "share1": (1 - beta1) * begun,
            "beta2": beta2,
            "share2": (1 - beta2) * begun,
            "shampoo_share": 1 - hyper["shampoo_beta"],
            "eps": hyper["eps"],
            "minus_lr": -hyper["lr"] * corrected * begun,
            REFRESH: (t == 2) * FIRST + ((t > 2) & ((t - 2) % hyper["precondition_frequency"] == 0)) * AGAIN,
        }
        if not is_zero(hyper["weight_decay"]):
            c["decay"] = 1 - hyper["lr"] * hyper["weight_decay"] * begun
        return c, {}

    def refresh(self, which: int, state: State, c: Mapping[str, Scalar]) -> State:
        new = dict(state)
        if which == FIRST:
            for side in ("left", "right"):
                if side in state:
                    new[f"{side}_basis"] = eigenbasis(state[side])
            return new
        mean = turned(state["exp_avg"], state, back=True)
        for side, dim in (("left", -2), ("right", -1)):
            if side in state:
                image = state[side] @ state[f"{side}_basis"]
                order = (state[f"{side}_basis"] * image).sum(-2).argsort(-1, descending=True)
                new[f"{side}_basis"] = torch.linalg.qr(_columns(image, order)).Q
                squares = new["exp_avg_sq"]
                new["exp_avg_sq"] = _columns(squares, order) if dim == -1 else _columns(squares.mT, order).mT
        new["exp_avg"] = turned(mean, new)
        return new

    def update(self, grad: Array, state: State, c: Mapping[str, Scalar]) -> tuple[Array, State]:
        direction = turned(grad, state)
        m = state["exp_avg"] * c["beta1"] + direction * c["share1"]
        v = state["exp_avg_sq"] * c["beta2"] + direction * direction * c["share2"]
        step = turned(m / (v.sqrt() + c["eps"]), state, back=True)
        new = {**state, "exp_avg": m, "exp_avg_sq": v}
        if "left" in state:
            new["left"] = state["left"].lerp(grad @ grad.mT, c["shampoo_share"])
        if "right" in state:
            new["right"] = state["right"].lerp(grad.mT @ grad, c["shampoo_share"])
        return step * c["minus_lr"], new


def turned(matrices: Tensor, state: State, back: bool = False) -> Tensor:
    """Returns matrices in the basis of the state, or ``back`` from there."""
    if "left_basis" in state:
        basis = state["left_basis"]
        matrices = (basis if back else basis.mT) @ matrices
    if "right_basis" in state:
        basis = state["right_basis"]
        matrices = matrices @ (basis.mT if back else basis)
    return matrices


def eigenbasis(matrices: Tensor) -> Tensor:
    """Returns orthogonal matrices ``(..., n, n)`` of eigenvectors of symmetric ones, largest eigenvalue first.

    Those of eigenvalues that are 0 to rounding are the unit vectors that are left over from orthogonalization.

    >>> eigenbasis(torch.diag(torch.tensor([1.0, 0.0, 2.0]))).abs()
    tensor([[0., 1., 0.],
            [0., 0., 1.],
            [1., 0., 0.]])
    """
    values, vectors = eigh(matrices)
    values, vectors = values.flip(-1), vectors.flip(-1)
    n = values.shape[-1]
    is_sure = values > 10 * n * torch.finfo(values.dtype).eps * values[..., :1].abs()
    rank = is_sure.sum(-1, keepdim=True)
    others = (torch.arange(n, device=values.device) - rank).clamp_min(0)
    units = torch.nn.functional.one_hot(others, n).to(vectors).mT
    return torch.linalg.qr(torch.where(is_sure[..., None, :], vectors, units)).Q


def _columns(matrices: Tensor, order: Tensor) -> Tensor:
    """Returns the matrices ``(..., m, n)`` with their columns in an order ``(..., n)``."""
    return matrices.gather(-1, order[..., None, :].expand_as(matrices))
