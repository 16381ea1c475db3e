"""Truncated Newton, or Hessian-free, as a torch.optim.Optimizer."""

from typing import Any, Literal

from torch import Tensor

from thalweg.averaging import Average
from thalweg.optim.closure_optimizer import ClosureOptimizer, Group, Params
from thalweg.optim.decay import Decay
from thalweg.optim.parameter_objective import Curvature
from thalweg.optim.settings import settings_of
from thalweg.second_order import HessianFree, Model, TrustRegion
from thalweg.tensors.renamed import former_keywords, renamed

Globalization = Literal["levenberg_marquardt", "trust_region"]
FORMERLY = {"leash": "globalization"}


class TruncatedNewton(ClosureOptimizer):
    """Truncated Newton: Newton's step by linear conjugate gradients, from curvature products only.

        (B + λI) d = −g,   θ ← θ + lr d         λ by Levenberg and Marquardt's rule (Hessian-free), or
        min gᵀd + ½ dᵀBd,  ‖d‖ ≤ Δ              Δ by how well the model predicted (Steihaug)

    The memory is about ten vectors and one graph of the loss. The closure returns the loss and does not call
    ``backward``. For the Gauss–Newton matrix it returns ``(loss, outputs)`` with the same tensor from which the loss is
    computed; the loss must not be linear in it: return logits, not their log_softmax.

    Arguments:
        params, max_iter, max_eval, tolerance_grad, tolerance_change, weight_decay, decay, maximize,
            average: as :class:`thalweg.optim.LBFGS`; with one iteration per step by default.
        lr: factor on the step.
        curvature: B, ``"hessian"`` or ``"gauss_newton"``.
        globalization: the method that limits the step, ``"levenberg_marquardt"`` or ``"trust_region"``.
        damping: the initial λ, as a share of the curvature along the gradient.
        warm_start: the share of the previous step's solution from which linear CG starts, with Levenberg–Marquardt.
        max_products: maximum number of products per iteration.

    Raises:
        ValueError: a setting is out of its range, or the closure is not an objective (see :meth:`step`).
        NotImplementedError: an operation of the model has no second derivative.

    >>> import torch
    >>> w = torch.nn.Parameter(torch.tensor([-1.2, 1.0], dtype=torch.float64))
    >>> optimizer = TruncatedNewton([w], max_iter=100, max_eval=200, tolerance_grad=1e-9)
    >>> loss = optimizer.step(lambda: 100 * (w[1] - w[0] ** 2) ** 2 + (1 - w[0]) ** 2)
    >>> [round(v, 6) for v in w.tolist()]
    [1.0, 1.0]

    Source: Deep Learning, §8.6.2; Steihaug 1983; Martens 2010.
    """

    @former_keywords(FORMERLY)
    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 1.0,
        max_iter: int = 1,
        max_eval: int | None = None,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 0.0,
        *,
        curvature: Curvature = "hessian",
        globalization: Globalization = "levenberg_marquardt",
        damping: float = 1.0,
        warm_start: float = 0.95,
        max_products: int = 250,
        weight_decay: float = 0.0,
        decay: Decay = "all",
        maximize: bool = False,
        average: Average | None = None,
    ) -> None:
        super().__init__(params, settings_of(locals()), average)

    def add_param_group(self, param_group: Group) -> None:
        """Adds a group of parameters. Raises ValueError for a setting out of its range."""
        super().add_param_group(renamed(param_group, FORMERLY))

    def __setstate__(self, state: dict[str, Any]) -> None:
        for group in state["param_groups"]:  # of a checkpoint of a former release
            group.update({name: group.pop(former) for former, name in FORMERLY.items() if former in group})
        super().__setstate__(state)

    def _method(self, group: Group) -> Model:
        if group["curvature"] not in ("hessian", "gauss_newton"):
            raise ValueError(f"unknown curvature {group['curvature']!r}: choose hessian or gauss_newton")
        if group["globalization"] == "trust_region":
            return TrustRegion(max_products=group["max_products"])
        if group["globalization"] != "levenberg_marquardt":
            raise ValueError(
                f"unknown globalization {group['globalization']!r}: choose levenberg_marquardt or trust_region"
            )
        return HessianFree(group["damping"], group["warm_start"], group["max_products"])

    def _curvature(self, group: Group) -> Curvature:
        kind: Curvature = group["curvature"]
        return kind
