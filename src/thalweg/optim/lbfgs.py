"""L-BFGS as a torch.optim.Optimizer."""

from typing import Literal

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from thalweg.averaging import Average
from thalweg.optim.closure_optimizer import ClosureOptimizer, Group, Params
from thalweg.optim.decay import Decay
from thalweg.optim.settings import settings_of
from thalweg.second_order.lbfgs import LBFGS as LBFGSDirection

LineSearchName = Literal["strong_wolfe", "hager_zhang", "backtracking"]


class LBFGS(ClosureOptimizer):
    """L-BFGS: BFGS's estimate of the inverse Hessian from the last pairs of steps and gradient changes.

        d = −M g,   M from the last m pairs (s, y);   θ ← θ + α d,   α by the line search

    The memory is 2 m vectors for the pairs, and about ten more. Arguments have torch's names. Unlike torch's LBFGS,
    this one uses a line search and a history of 15 pairs by default; supports several groups and weight decay; has
    relative tolerances, so that the scale of the loss does not matter; returns the last loss; and says in ``report``
    why a step ended. It does not load torch's states. As in torch, a step whose loss has no gradient changes nothing
    (with a warning), and a negative tolerance is never met.

    If parameters are sharded over ranks, each rank keeps its shards of the pairs. The loss is the mean of the losses of
    all ranks, and the gradient is the mean of their gradients. All ranks take the same steps and send three messages
    per iteration: 5 numbers per rank with each evaluation, 2 m + 5 for the direction, and 5 per rank for its slope and
    length.

    Arguments:
        params: parameters, groups or ``(name, parameter)`` pairs; of any real or complex types and devices.
        lr: factor on the first step that the line search tries, or on every step without one.
        max_iter: maximum number of iterations per step.
        max_eval: maximum number of evaluations of the closure per step, at least 2; by default the larger of 25 and
            1.25 ``max_iter``.
        tolerance_grad: a step ends when the minimum is estimated to be within this share of ‖θ‖∞, from the decrease
            of the gradient along the way; see :mod:`thalweg.second_order.approach`.
        tolerance_change: a step ends when the loss changes by no more than this share of itself.
        history_size: m, the number of pairs.
        line_search_fn: ``"strong_wolfe"`` (Moré and Thuente), ``"hager_zhang"``, ``"backtracking"`` (Armijo), or None
            for steps of lr.
        weight_decay: λ of the added ½λ‖θ‖²; each group can have its own.
        decay: the θ in that term: ``"all"`` parameters of the group, or its ``"weights"``; see :class:`RuleOptimizer`.
        damping: Powell's damping of pairs without curvature, in [0, 1); 0 skips such pairs.
        history_dtype: type of the pairs; by default the widest type of the parameters, at least float32. bfloat16
            halves the memory of the history.
        maximize: ascend instead of descend.
        average: an :class:`thalweg.averaging.Average` of the points at which the steps end.
        process_group: the group of ranks that each hold the whole model and evaluate the closure on their own data, as
            under DistributedDataParallel: ``ddp.process_group``. Sharded parameters (``fully_shard``) need none.

    Raises:
        ValueError: a setting is out of its range, or the closure is not an objective (see :meth:`step`).

    >>> import torch
    >>> w = torch.nn.Parameter(torch.tensor([-1.2, 1.0], dtype=torch.float64))
    >>> optimizer = LBFGS([w], max_iter=100, tolerance_grad=1e-9)
    >>> loss = optimizer.step(lambda: 100 * (w[1] - w[0] ** 2) ** 2 + (1 - w[0]) ** 2)
    >>> optimizer.report.ending, [round(v, 6) for v in w.tolist()]
    ('gradient', [1.0, 1.0])

    Source: Deep Learning, §8.6.3; Byrd, Nocedal & Schnabel 1994.
    """

    rests = True
    share = 1.25
    distributed = True

    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 1.0,
        max_iter: int = 20,
        max_eval: int | None = None,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 1e-9,
        history_size: int = 15,
        line_search_fn: LineSearchName | None = "strong_wolfe",
        *,
        weight_decay: float = 0.0,
        decay: Decay = "all",
        damping: float = 0.0,
        history_dtype: torch.dtype | None = None,
        maximize: bool = False,
        average: Average | None = None,
        process_group: ProcessGroup | None = None,
    ) -> None:
        super().__init__(params, settings_of(locals()), average, process_group)

    def _method(self, group: Group) -> LBFGSDirection:
        return LBFGSDirection(group["history_size"], group["damping"], group["history_dtype"])
