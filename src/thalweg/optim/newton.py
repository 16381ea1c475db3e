"""Newton's method as a torch.optim.Optimizer."""

from torch import Tensor

from thalweg.averaging import Average
from thalweg.optim.closure_optimizer import ClosureOptimizer, Group, Params
from thalweg.optim.decay import Decay
from thalweg.optim.parameter_objective import Curvature
from thalweg.optim.settings import settings_of
from thalweg.second_order import Model
from thalweg.second_order.newton import Damping, newton_model


class Newton(ClosureOptimizer):
    """Newton's method with the whole Hessian, for models of up to some thousand parameters.

        θ ← θ − lr (H + αI)⁻¹ g

    Memory O(n²), work an iteration O(n³) and n Hessian products. The closure returns the loss and leaves ``backward``.

    Arguments:
        params, max_iter, max_eval, tolerance_grad, tolerance_change, weight_decay, decay, maximize,
            average: as :class:`thalweg.optim.LBFGS`; one iteration a step by default.
        lr: factor on the step.
        damping: ``"adaptive"`` (α outweighs the most negative eigenvalue, then Levenberg and Marquardt's rule),
            ``"saddle-free"`` (|H| for H, then the same), ``"fixed"`` (α as given, every step taken).
        alpha: α; absolute for fixed damping, else a share of ‖H‖ to begin with.

    Raises:
        ValueError: a setting out of its range; at a step, where n² numbers are more than 2 GiB, and what is no
            objective (see :meth:`step`).

    >>> import torch
    >>> w = torch.nn.Parameter(torch.tensor([3.0, -2.0]))
    >>> optimizer = Newton([w])
    >>> loss = optimizer.step(lambda: 50 * w[0] ** 2 + w[1] ** 2)
    >>> w.tolist(), optimizer.report.products
    ([0.0, 0.0], 2)

    Source: Deep Learning, §8.6.1, algorithm 8.8; Dauphin et al. 2014.
    """

    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 1.0,
        max_iter: int = 1,
        max_eval: int | None = None,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 0.0,
        *,
        damping: Damping = "adaptive",
        alpha: float = 0.0,
        weight_decay: float = 0.0,
        decay: Decay = "all",
        maximize: bool = False,
        average: Average | None = None,
    ) -> None:
        super().__init__(params, settings_of(locals()), average)

    def _curvature(self, group: Group) -> Curvature:
        return "hessian"

    def _method(self, group: Group) -> Model:
        return newton_model(group["damping"], group["alpha"])
