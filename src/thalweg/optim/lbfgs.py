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

    Memory: 2 m vectors for the pairs, and about ten. Arguments have torch's names. Other than there, the line search is
    on and the history 15 pairs by default; groups may be several, with weight decay; tolerances are relative, so that
    the loss's scale does not matter; the last loss is returned; ``report`` says why a step ended. torch's states do not
    fit. As there, a step whose loss has no gradient changes nothing (with a warning), and no step ends by a negative
    tolerance.

    Of parameters that are sharded over ranks, each rank keeps its shards of the pairs. The loss is the mean of the
    ranks' losses, as the gradient is of their gradients. All take the same steps, from three messages an iteration: of
    5 numbers a rank with each evaluation, of 2 m + 5 for the direction and of 5 a rank for its slope and length.

    Arguments:
        params: parameters, groups or ``(name, parameter)`` pairs; of any real or complex types and devices.
        lr: factor on the first step that the line search tries, or on every step without one.
        max_iter: iterations a step.
        max_eval: evaluations of the closure a step, at least 2; the larger of 25 and 1.25 ``max_iter`` by default.
        tolerance_grad: a step ends when the minimum is within this share of ‖θ‖∞, as told by how the gradient fell on
            the way; see :mod:`thalweg.second_order.approach`.
        tolerance_change: a step ends when the loss changes by no more than this share of itself.
        history_size: m, pairs kept.
        line_search_fn: ``"strong_wolfe"`` (Moré and Thuente), ``"hager_zhang"``, ``"backtracking"`` (Armijo), or None
            for steps of lr.
        weight_decay: λ of the added ½λ‖θ‖², a group's own.
        decay: θ of that term: ``"all"`` parameters, or the group's ``"weights"``, see :class:`RuleOptimizer`.
        damping: Powell's, for pairs without curvature, in [0, 1); 0 skips them.
        history_dtype: type of the pairs; the widest of the parameters, at least float32, by default. bfloat16 halves
            memory and what is read an iteration.
        maximize: ascend.
        average: an :class:`thalweg.averaging.Average` that takes in where each step ends.
        process_group: of ranks that each hold the whole model and evaluate the closure on data of their own, as
            under DistributedDataParallel: ``ddp.process_group``. Sharded parameters (``fully_shard``) need none.

    Raises:
        ValueError: a setting out of its range; what is no objective (see :meth:`step`).

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
