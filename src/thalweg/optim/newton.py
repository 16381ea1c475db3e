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
    """Newton's method with the full Hessian, for models of up to about a thousand parameters.

        θ ← θ − lr (H + αI)⁻¹ g

    The memory is O(n²), and the work per iteration is O(n³) and n Hessian products. The closure returns the loss and
    does not call ``backward``.

    Arguments:
        params, max_iter, max_eval, tolerance_grad, tolerance_change, weight_decay, decay, maximize,
            average: as :class:`thalweg.optim.LBFGS`; with one iteration per step by default.
        lr: factor on the step.
        damping: ``"adaptive"`` (α exceeds the most negative eigenvalue, then the Levenberg–Marquardt rule),
            ``"saddle-free"`` (|H| replaces H, then the same rule), ``"fixed"`` (α as given, every step accepted).
        alpha: α; absolute for fixed damping, otherwise the initial value as a share of ‖H‖.

    Raises:
        ValueError: a setting is out of its range, n² numbers take more than 2 GiB at a step, or the closure is not an
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
