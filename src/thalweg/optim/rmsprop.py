"""RMSProp as a torch.optim.Optimizer."""

from typing import Unpack

from torch import Tensor

from thalweg.optim.entries import Group
from thalweg.optim.implementations import Engine
from thalweg.optim.optimizer import Params, RuleOptimizer
from thalweg.optim.settings import Options, settings_of
from thalweg.rules.rmsprop import RMSProp as RMSPropRule
from thalweg.rules.rule import Rule

DEFAULTS = RMSPropRule.defaults


class RMSProp(RuleOptimizer):
    """RMSProp: AdaGrad with an exponentially decaying memory; optionally with momentum, Nesterov momentum, or centered.

    Equations: :mod:`thalweg.rules.rmsprop`.

    Arguments:
        lr: learning rate ε; a number or a tensor of one element.
        alpha: decay of r (the book's ρ).
        eps: δ, by default 1e-8 outside the root as in torch. The book uses 1e-6 with ``eps_inside_sqrt=True``.
        weight_decay: λ of the added gradient λθ.
        momentum: μ (the book's α), 0 for none.
        centered: subtract the squared mean of the gradient from r.
        nesterov: use Nesterov momentum (book algorithm 8.6); requires momentum.
        eps_inside_sqrt: whether δ is added inside the root.
        params, maximize, engine, options: as :class:`RuleOptimizer`.

    Raises:
        ValueError: a hyperparameter is out of its range.
        RuntimeError: a step has sparse gradients.

    >>> import torch
    >>> w = torch.nn.Parameter(torch.tensor([1.0]))
    >>> optimizer = RMSProp([w], lr=0.01, alpha=0.99)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> round(w.item(), 3)
    0.9

    Source: Deep Learning, §8.5.2, algorithms 8.5 and 8.6; Hinton 2012; Graves 2013.
    """

    def __init__(
        self,
        params: Params,
        lr: float | Tensor = DEFAULTS["lr"],
        alpha: float = DEFAULTS["alpha"],
        eps: float = DEFAULTS["eps"],
        weight_decay: float = DEFAULTS["weight_decay"],
        momentum: float = 0.0,
        centered: bool = False,
        nesterov: bool = False,
        eps_inside_sqrt: bool = False,
        *,
        maximize: bool = False,
        engine: Engine = "auto",
        **options: Unpack[Options],
    ) -> None:
        super().__init__(params, settings_of(locals()), engine, maximize, options)

    def rule_of(self, group: Group) -> Rule:
        return RMSPropRule(group["momentum"] != 0, group["nesterov"], group["centered"], group["eps_inside_sqrt"])
