"""Schedule-free SGD and AdamW as torch.optim.Optimizers."""

from typing import Unpack

from torch import Tensor

from thalweg.optim.entries import Group
from thalweg.optim.implementations import Engine
from thalweg.optim.optimizer import Params, RuleOptimizer
from thalweg.optim.settings import Options, settings_of
from thalweg.rules.rule import Rule
from thalweg.rules.schedule_free import ScheduleFreeAdamW as AdamWRule
from thalweg.rules.schedule_free import ScheduleFreeSGD as SGDRule

SGD, ADAMW = SGDRule.defaults, AdamWRule.defaults


class ScheduleFreeSGD(RuleOptimizer):
    """SGD without a schedule: gradients are taken near a running average of the iterates, which is evaluated.

    Equations: :mod:`thalweg.rules.schedule_free`.

    Call ``optimizer.eval()`` before evaluating or saving the model, and ``optimizer.train()`` before training goes on.
    If the model has batch normalizations, their statistics are those of the training points: make them anew at the
    points to evaluate with :func:`thalweg.normalization.estimate_population_statistics`.

    Arguments:
        lr: learning rate γ, constant after the warm-up; 10 to 50 times that of SGD with momentum.
        momentum: β, the share of the average in the point where gradients are taken.
        weight_decay: λ, which enters where the gradient is taken.
        warmup_steps: steps over which the learning rate grows linearly.
        r, weight_lr_power: powers of the step and the learning rate in the weights of the average.
        params, maximize, engine, options: as :class:`RuleOptimizer`.

    Raises:
        ValueError: a hyperparameter is out of its range.
        RuntimeError: a step has sparse gradients, or is taken after ``eval()``.

    >>> import torch
    >>> w = torch.nn.Parameter(torch.tensor([1.0]))
    >>> optimizer = ScheduleFreeSGD([w], lr=0.1)
    >>> for _ in range(2):
    ...     optimizer.zero_grad()
    ...     (w * w).sum().backward()
    ...     optimizer.step()
    >>> trained = w.item()
    >>> optimizer.eval()
    >>> round(trained, 3), round(w.item(), 3)
    (0.712, 0.72)

    Source: Defazio et al. 2024 (arXiv 2405.15682), algorithm 1.
    """

    def __init__(
        self,
        params: Params,
        lr: float | Tensor = SGD["lr"],
        momentum: float = SGD["momentum"],
        weight_decay: float = SGD["weight_decay"],
        warmup_steps: float = SGD["warmup_steps"],
        r: float = SGD["r"],
        weight_lr_power: float = SGD["weight_lr_power"],
        *,
        maximize: bool = False,
        engine: Engine = "auto",
        **options: Unpack[Options],
    ) -> None:
        super().__init__(params, settings_of(locals()), engine, maximize, options)

    def rule_of(self, group: Group) -> Rule:
        return SGDRule()


class ScheduleFreeAdamW(RuleOptimizer):
    """AdamW without a schedule: as :class:`ScheduleFreeSGD`, with the gradient scaled as Adam scales it.

    Equations: :mod:`thalweg.rules.schedule_free`.

    Arguments:
        lr: learning rate γ, constant after the warm-up; 1 to 10 times that of AdamW.
        betas: (β, β₂), the share of the average in the point where gradients are taken, and the decay of r.
        eps: added outside the root.
        weight_decay, warmup_steps, r, weight_lr_power: as :class:`ScheduleFreeSGD`.
        params, maximize, engine, options: as :class:`RuleOptimizer`.

    Raises:
        ValueError: a hyperparameter is out of its range.
        RuntimeError: a step has sparse gradients, or is taken after ``eval()``.

    >>> import torch
    >>> w = torch.nn.Parameter(torch.tensor([1.0]))
    >>> optimizer = ScheduleFreeAdamW([w], lr=0.1)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> round(w.item(), 3)
    0.9

    Source: Defazio et al. 2024 (arXiv 2405.15682); defaults of the package ``schedulefree``.
    """

    def __init__(
        self,
        params: Params,
        lr: float | Tensor = ADAMW["lr"],
        betas: tuple[float, float] = (ADAMW["beta1"], ADAMW["beta2"]),
        eps: float = ADAMW["eps"],
        weight_decay: float = ADAMW["weight_decay"],
        warmup_steps: float = ADAMW["warmup_steps"],
        r: float = ADAMW["r"],
        weight_lr_power: float = ADAMW["weight_lr_power"],
        *,
        maximize: bool = False,
        engine: Engine = "auto",
        **options: Unpack[Options],
    ) -> None:
        super().__init__(params, settings_of(locals()), engine, maximize, options)

    def rule_of(self, group: Group) -> Rule:
        return AdamWRule()
