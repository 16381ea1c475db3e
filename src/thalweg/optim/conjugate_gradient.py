"""Nonlinear conjugate gradients as a torch.optim.Optimizer."""

from torch import Tensor
from torch.distributed import ProcessGroup

from thalweg.averaging import Average
from thalweg.optim.closure_optimizer import ClosureOptimizer, Group, Params
from thalweg.optim.decay import Decay
from thalweg.optim.lbfgs import LineSearchName
from thalweg.optim.settings import settings_of
from thalweg.second_order.conjugate_gradient import Beta
from thalweg.second_order.conjugate_gradient import ConjugateGradient as ConjugateGradientDirection


class ConjugateGradient(ClosureOptimizer):
    """Nonlinear conjugate gradients: each direction keeps the progress of the previous one; memory of a few vectors.

        d = −g + β d₋;   θ ← θ + α d,   α by the line search

    The method restarts with −g if d is not a descent direction, if successive gradients are far from orthogonal, and
    after ``restart_every`` steps.

    Arguments:
        params, lr, max_iter, max_eval, tolerance_grad, tolerance_change, line_search_fn, weight_decay, decay, maximize,
            average, process_group: as in :class:`thalweg.optim.LBFGS`, except that ``max_eval`` is 3 ``max_iter`` by
                default.
        beta: ``"dai_yuan"``, ``"fletcher_reeves"``, ``"polak_ribiere"``, ``"polak_ribiere_plus"``,
            ``"hestenes_stiefel"`` or ``"hager_zhang"``.
        restart_orthogonality: restart if |gᵀg₋| ≥ this · ‖g‖²; Powell's constant is 0.2, and infinity disables it.
        restart_every: restart after this many steps, classically n; None (the default) disables it.

    Raises:
        ValueError: a setting is out of its range, or the closure is not an objective (see :meth:`step`).

    >>> import torch
    >>> w = torch.nn.Parameter(torch.tensor([-1.2, 1.0], dtype=torch.float64))
    >>> optimizer = ConjugateGradient([w], max_iter=200, tolerance_grad=1e-9)
    >>> loss = optimizer.step(lambda: 100 * (w[1] - w[0] ** 2) ** 2 + (1 - w[0]) ** 2)
    >>> [round(v, 6) for v in w.tolist()]
    [1.0, 1.0]

    Source: Deep Learning, §8.6.2; Nocedal & Wright, Numerical Optimization, §5.2.
    """

    loose = False
    distributed = True

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
        beta: Beta = "dai_yuan",
        restart_orthogonality: float = 1.0,
        restart_every: int | None = None,
        weight_decay: float = 0.0,
        decay: Decay = "all",
        maximize: bool = False,
        average: Average | None = None,
        process_group: ProcessGroup | None = None,
    ) -> None:
        super().__init__(params, settings_of(locals()), average, process_group)

    def _method(self, group: Group) -> ConjugateGradientDirection:
        return ConjugateGradientDirection(group["beta"], group["restart_orthogonality"], group["restart_every"])
