"""SOAP as a torch.optim.Optimizer."""

from typing import Unpack

from torch import Tensor

from thalweg.optim.entries import Group
from thalweg.optim.implementations import Engine
from thalweg.optim.matrix_optimizer import MatrixOptimizer
from thalweg.optim.optimizer import Params
from thalweg.optim.settings import Options, settings_of
from thalweg.rules.adam import AdamW
from thalweg.rules.matrix_rule import MatrixRule
from thalweg.rules.soap import MAX_DIM
from thalweg.rules.soap import SOAP as SOAPRule

DEFAULTS, PARTNER = SOAPRule.defaults, AdamW.defaults


class SOAP(MatrixOptimizer):
    """SOAP: Adam in the eigenbasis of Shampoo's matrices, for hidden matrices; AdamW steps everything else.

    Equations: :mod:`thalweg.rules.soap`.

    Its authors give it all matrices, and vectors to Adam with the same learning rate: so does a plain list of
    parameters with ``adamw_lr`` equal to ``lr``. Which parameters are matrices otherwise, and which settings AdamW has,
    is said at :class:`MatrixOptimizer`.

    Arguments:
        lr: learning rate η of matrices.
        betas: decays (β₁, β₂) of Adam's moments.
        shampoo_beta: β, decay of L and R.
        eps: added outside the root.
        weight_decay: λ, by which matrices shrink: θ ← (1 − lr · λ) θ before a step; the authors' code does it after it.
        precondition_frequency: steps from one update of the eigenbasis to another, at least 1.
        max_precond_dim: length of the longest side that has an eigenbasis, at least 1.
        adamw_lr, adamw_betas, adamw_eps, adamw_weight_decay: of AdamW.
        params, maximize, engine, options: as :class:`MatrixOptimizer`.

    Raises:
        ValueError: a setting is out of its range, or a vector is in a group of matrices.
        RuntimeError: a matrix is complex or distributed, or its gradient sparse.

    >>> import torch
    >>> layer = torch.nn.Linear(3, 4)
    >>> optimizer = SOAP(layer.parameters(), lr=3e-3)
    >>> for _ in range(2):
    ...     optimizer.zero_grad()
    ...     layer(torch.eye(3)).square().sum().backward()
    ...     optimizer.step()
    >>> optimizer.state[layer.weight]["left"].shape, optimizer.state[layer.weight]["right_basis"].shape
    (torch.Size([4, 4]), torch.Size([3, 3]))

    Source: Vyas et al. 2024.
    """

    def __init__(
        self,
        params: Params,
        lr: float | Tensor = DEFAULTS["lr"],
        betas: tuple[float, float] = (DEFAULTS["beta1"], DEFAULTS["beta2"]),
        shampoo_beta: float = DEFAULTS["shampoo_beta"],
        eps: float = DEFAULTS["eps"],
        weight_decay: float = DEFAULTS["weight_decay"],
        precondition_frequency: int = int(DEFAULTS["precondition_frequency"]),
        max_precond_dim: int = MAX_DIM,
        *,
        adamw_lr: float | Tensor = DEFAULTS["lr"],
        adamw_betas: tuple[float, float] = (PARTNER["beta1"], PARTNER["beta2"]),
        adamw_eps: float = PARTNER["eps"],
        adamw_weight_decay: float = PARTNER["weight_decay"],
        maximize: bool = False,
        engine: Engine = "auto",
        **options: Unpack[Options],
    ) -> None:
        super().__init__(params, settings_of(locals()), engine, maximize, options)

    def matrix_rule_of(self, group: Group) -> MatrixRule:
        return SOAPRule(group["max_precond_dim"])
