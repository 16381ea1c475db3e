"""BFGS as a torch.optim.Optimizer."""

from torch import Tensor

from thalweg.averaging import Average
from thalweg.optim.closure_optimizer import ClosureOptimizer, Group, Params
from thalweg.optim.decay import Decay
from thalweg.optim.lbfgs import LineSearchName
from thalweg.optim.settings import settings_of
from thalweg.second_order.bfgs import BFGS as BFGSDirection


class BFGS(ClosureOptimizer):
    """BFGS: a dense estimate of the inverse Hessian, for models of up to about ten thousand parameters.

        d = −M g;   θ ← θ + α d;   M ← (I − ρ s yᵀ) M (I − ρ y sᵀ) + ρ s sᵀ,   ρ = 1 / sᵀy

    The memory, and the work per iteration, are O(n²).

    Arguments:
        params, lr, max_iter, max_eval, tolerance_grad, tolerance_change, line_search_fn, weight_decay, decay, maximize,
            average: as :class:`thalweg.optim.LBFGS`.

    Raises:
        ValueError: a setting is out of its range, n² numbers take more than 2 GiB at a step, or the closure is not an
            objective (see :meth:`step`).

    >>> import torch
    >>> w = torch.nn.Parameter(torch.tensor([-1.2, 1.0], dtype=torch.float64))
    >>> optimizer = BFGS([w], max_iter=100, tolerance_grad=1e-9)
    >>> loss = optimizer.step(lambda: 100 * (w[1] - w[0] ** 2) ** 2 + (1 - w[0]) ** 2)
    >>> [round(v, 6) for v in w.tolist()]
    [1.0, 1.0]

    Source: Deep Learning, §8.6.3; Nocedal & Wright, Numerical Optimization, §6.1.
    """

    share = 1.25

    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 1.0,
        max_iter: int = 20,
        max_eval: int | None = None,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 1e-9,
        line_search_fn: LineSearchName | None = "strong_wolfe",
        *,
        weight_decay: float = 0.0,
        decay: Decay = "all",
        maximize: bool = False,
        average: Average | None = None,
    ) -> None:
        super().__init__(params, settings_of(locals()), average)

    def _method(self, group: Group) -> BFGSDirection:
        return BFGSDirection()
