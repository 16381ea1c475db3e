"""The second-order methods as strategies: what is tuned, and in which ranges."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch

from thalweg import optim


class Method(NamedTuple):
    """How an optimizer of one name is made and searched; ``batches`` is the size of its large batch in minibatches."""

    make: Callable[..., torch.optim.Optimizer]
    defaults: Mapping[str, float]
    space: Mapping[str, tuple[float, float]]
    whole: tuple[str, ...]


BATCHES = (4.0, 64.0)
ITERATIONS = (2.0, 50.0)  # on one large batch; a full batch is the same each time


def _line(make: Callable[..., torch.optim.Optimizer]) -> Method:
    def made(params: Any, max_iter: float) -> torch.optim.Optimizer:
        return make(params, max_iter=int(max_iter))

    space = {"batches": BATCHES, "max_iter": ITERATIONS}
    return Method(made, {"batches": 16.0, "max_iter": 10.0}, space, ("batches", "max_iter"))


def _newton(params: Any) -> torch.optim.Optimizer:
    return optim.Newton(params)


def _truncated_newton(params: Any, damping: float, max_products: float) -> torch.optim.Optimizer:
    return optim.TruncatedNewton(params, damping=damping, max_products=int(max_products))


SECOND_ORDER: dict[str, Method] = {
    "newton": Method(_newton, {"batches": 16.0}, {"batches": BATCHES}, ("batches",)),
    "truncated-newton": Method(
        _truncated_newton,
        {"batches": 16.0, "damping": 1.0, "max_products": 30.0},
        {"batches": BATCHES, "damping": (1e-2, 1e2), "max_products": (3.0, 100.0)},
        ("batches", "max_products"),
    ),
    "conjugate-gradient": _line(optim.ConjugateGradient),
    "bfgs": _line(optim.BFGS),
    "lbfgs": _line(optim.LBFGS),
}
