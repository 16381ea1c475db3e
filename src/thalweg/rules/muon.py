"""Muon: momentum whose singular values are all brought near 1, so that no direction of a matrix is left behind.

    B ← μ B + (1 − μ) G
    M = (1 − μ) G + μ B              with Nesterov's look ahead; B without
    X = M / max(‖M‖_F, eps)
    X ← a X + b (X Xᵀ) X + c (X Xᵀ)² X        ``ns_steps`` times: Newton and Schulz
    θ ← (1 − lr·λ) θ − lr · s · X

X becomes U S' Vᵀ where M = U S Vᵀ, with singular values S' between about 0.7 and 1.2. The scale s of an
m × n matrix is √max(1, m/n) (``"original"``, of Jordan), or 0.2 √max(m, n) (``"match_rms_adamw"``, of
Moonshot), with which steps are about as large as AdamW's, so that its learning rates carry over.

========== ==================== ================================================================
paper      argument             meaning
========== ==================== ================================================================
η          ``lr``               learning rate
μ          ``momentum``         share of B that is kept
a b c      ``ns_coefficients``  of the polynomial: 3.4445, −4.7750, 2.0315
s          ``adjust_lr_fn``     scale of the step by the matrix's shape
========== ==================== ================================================================

It is for hidden weights: embeddings, the output layer and vectors are stepped by AdamW.

Source: Jordan et al. 2024 (https://kellerjordan.github.io/posts/muon); Liu et al. 2025 (arXiv 2502.16982).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from typing import ClassVar, Literal

import torch
from torch import Tensor

from thalweg.rules.matrix_rule import MatrixRule
from thalweg.rules.rule import Array, Scalar, State

Scaling = Literal["original", "match_rms_adamw"]
Iteration = Literal["auto", "bfloat16", "float32"]
SCALINGS: tuple[Scaling, ...] = ("original", "match_rms_adamw")
ITERATIONS: tuple[Iteration, ...] = ("auto", "bfloat16", "float32")
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
IN_CACHE = 65_536  # elements of a portion, of which there are three in the cache at once


@dataclass(frozen=True)
class Muon(MatrixRule):
    """Muon; ``ns_dtype`` is what is iterated in: by ``"auto"`` bfloat16 on an accelerator, and elsewhere, as by
    ``"float32"``, the type of the matrices."""

    nesterov: bool = True
    adjust_lr_fn: Scaling = "original"
    ns_steps: int = 5
    ns_coefficients: tuple[float, float, float] = COEFFICIENTS
    ns_dtype: Iteration = "auto"
    eps: float = 1e-7

    name: ClassVar[str] = "muon"
    defaults: ClassVar[Mapping[str, float]] = {"lr": 1e-3, "momentum": 0.95, "weight_decay": 0.1}

    @property
    def buffers(self) -> Mapping[str, float | None]:
        return {"momentum_buffer": 0.0}

    def coefficients(
        self, hyper: Mapping[str, Scalar], t: Scalar, scalars: Mapping[str, Scalar]
    ) -> tuple[dict[str, Scalar], dict[str, Scalar]]:
        mu = hyper["momentum"]
        return {"momentum": mu, "one_minus_momentum": 1 - mu, "minus_lr": -hyper["lr"]}, {}

    def update(self, grad: Array, state: State, c: Mapping[str, Scalar]) -> tuple[Array, State]:
        mean = state["momentum_buffer"].lerp(grad, c["one_minus_momentum"])
        direction = grad.lerp(mean, c["momentum"]) if self.nesterov else mean
        x = orthogonalized(direction, self.ns_steps, self.ns_coefficients, self.eps, self.dtype_for(direction))
        return x * (c["minus_lr"] * self.scale(*grad.shape[-2:])), {"momentum_buffer": mean}

    def dtype_for(self, matrices: Tensor) -> torch.dtype:
        """Returns the type in which these are iterated."""
        low = self.ns_dtype == "bfloat16" or (self.ns_dtype == "auto" and matrices.device.type != "cpu")
        return torch.bfloat16 if low else matrices.dtype

    def scale(self, rows: int, columns: int) -> float:
        """Returns the scale of the step of a matrix.

        >>> Muon().scale(256, 64), Muon(adjust_lr_fn="match_rms_adamw").scale(256, 64)
        (2.0, 3.2)
        """
        if self.adjust_lr_fn == "original":
            return sqrt(max(1.0, rows / columns)) if columns else 1.0
        return 0.2 * sqrt(max(rows, columns))


def orthogonalized(
    matrices: Tensor, steps: int, coefficients: tuple[float, float, float], eps: float, dtype: torch.dtype
) -> Tensor:
    """Returns Newton and Schulz's iterate of matrices ``(..., m, n)``, in their own type.

    Arguments:
        steps: number of iterations.
        coefficients: (a, b, c) of the polynomial.
        eps: the least norm by which a matrix is divided.
        dtype: in which is iterated.

    >>> x = orthogonalized(torch.diag(torch.tensor([3.0, 1.0])), 5, COEFFICIENTS, 1e-7, torch.float32)
    >>> bool(((x.diag() > 0.6) & (x.diag() < 1.3)).all())
    True
    """
    rows, columns = matrices.shape[-2:]
    x = matrices.to(dtype)
    x = x.mT if rows > columns else x
    norm = torch.linalg.matrix_norm(x, keepdim=True)
    x = x / norm.clamp(min=eps)
    x = _iterated(x.reshape(-1, *x.shape[-2:]), steps, *coefficients).reshape(x.shape)
    return (x.mT if rows > columns else x).to(matrices.dtype)


@torch.library.custom_op("thalweg::newton_schulz", mutates_args=())
def _iterated(x: Tensor, steps: int, a: float, b: float, c: float) -> Tensor:
    """Returns the iterates of a stack ``(B, m, n)``; on a CPU in portions that stay in its cache.

    An operation of its own, for what torch.compile makes of a stack of any height cannot be cut in portions.
    """
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    size = x.shape[1] * x.shape[2]
    count = max(1, IN_CACHE // max(1, size)) if x.device.type == "cpu" else max(1, len(x))
    for part, whole in zip(x.split(count), out.split(count), strict=True):
        iterate = part
        for _ in range(steps):
            gram = torch.bmm(iterate, iterate.mT)
            gram = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
            iterate = torch.baddbmm(iterate, gram, iterate, beta=a)
        whole.copy_(iterate)
    return out


@_iterated.register_fake
def _form(x: Tensor, steps: int, a: float, b: float, c: float) -> Tensor:
    return torch.empty(x.shape, dtype=x.dtype, device=x.device)
