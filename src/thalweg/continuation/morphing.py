"""Nonlinearities that begin as the identity: a deep linear network becomes the network that is meant."""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)

_RECTIFIERS = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish)
_SIGMOIDS = (nn.Tanh, nn.Hardtanh, nn.Sigmoid, nn.Hardsigmoid, nn.LogSigmoid, nn.Softsign)
ELEMENTWISE = (*_RECTIFIERS, *_SIGMOIDS, nn.Softplus, nn.Hardswish)


class Morph(nn.Module):
    """y = (1 − t) x + t φ(x): the identity at t = 0, φ at t = 1, of the shape of x.

    Arguments:
        phi: an elementwise module.

    Attributes: ``t`` in [0, 1], 0 at first.

    >>> morph = Morph(nn.ReLU())
    >>> morph.t = 0.75
    >>> morph(torch.tensor([-1.0, 1.0])).tolist()
    [-0.25, 1.0]
    """

    def __init__(self, phi: nn.Module) -> None:
        super().__init__()
        self.phi, self.t = phi, 0.0

    def forward(self, x: Tensor) -> Tensor:
        phi = self.phi(x.clone() if getattr(self.phi, "inplace", False) else x)
        return torch.lerp(x, phi, self.t)

    def extra_repr(self) -> str:
        return f"t={self.t:g}"


def morph(model: M, kinds: tuple[type[nn.Module], ...] = ELEMENTWISE) -> M:
    """Puts a :class:`Morph` around each nonlinearity of a model, in place; returns the model.

    Parameters stay, but that those of a PReLU get ``.phi`` into their names.

    Arguments:
        model: any module that holds its nonlinearities as modules.
        kinds: their classes, elementwise all; torch's by default.

    Raises:
        ValueError: there are none, as where they are called as functions.

    >>> morph(nn.Sequential(nn.Linear(1, 2), nn.Tanh()))[1]
    Morph(
      t=0
      (phi): Tanh()
    )
    """
    places = [(n, m) for n, m in model.named_modules(remove_duplicate=False) if isinstance(m, kinds) and n]
    if not places:
        names = ", ".join(kind.__name__ for kind in kinds[:3])
        raise ValueError(
            f"the model contains no nonlinearity as a module: use nn.{names} …, or pass kinds= for your own"
        )
    morphs = {id(module): Morph(module).train(module.training) for _, module in places}
    for name, module in places:
        model.set_submodule(name, morphs[id(module)])
    return model


def unmorph(model: M) -> M:
    """Puts the nonlinearities themselves back, in place; returns the model.

    >>> unmorph(morph(nn.Sequential(nn.Linear(1, 2), nn.Tanh())))[1]
    Tanh()
    """
    for name, module in list(model.named_modules(remove_duplicate=False)):
        if isinstance(module, Morph) and name:
            model.set_submodule(name, module.phi)
    return model


class Morphing:
    """The cost of a morphed model as a family: J_t is the cost under y = (1 − t) x + t φ(x).

    Arguments:
        cost: ``(model, batch) -> scalar``.

    Raises, when called:
        ValueError: a model without a :class:`Morph`.

    >>> model = morph(nn.Sequential(nn.ReLU()))
    >>> family = Morphing(lambda model, batch: model(batch).sum())
    >>> [family(model, torch.tensor([-1.0]), t).item() for t in (0.0, 1.0)]
    [-1.0, 0.0]

    Source: Deep Learning, §8.7.6; Gulcehre et al. 2016 (mollifying networks).
    """

    def __init__(self, cost: Callable[[Any, Any], Tensor]) -> None:
        self.cost = cost

    def __call__(self, model: nn.Module, batch: Any, t: float) -> Tensor:
        """Returns the cost of a batch at t, at which the model stays."""
        morphs = [module for module in model.modules() if isinstance(module, Morph)]
        if not morphs:
            raise ValueError("no nonlinearity of the model is morphed: call morph(model) first")
        for module in morphs:
            module.t = float(t)
        return self.cost(model, batch)
