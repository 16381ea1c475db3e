"""Gains: by how much the weights before a nonlinearity must be larger so that it hands on what it gets.

    gain = 1 / √E[φ(z)²],   z ~ N(0, 1)

With weights of variance gain²/m every layer's output has, at the start, the mean square of its input: √2 for a
rectifier. It is worked out by quadrature for any elementwise function, so that a new one needs no table. The one
exception is the logistic sigmoid, whose output ½ would count as signal: its gain is 4, after its slope ¼ at zero.

For rectifiers the balance holds at any size of z; for bounded and exponential-linear units it is stable, and a size
that is off comes back; for GELU, SiLU and Mish it is not, and over tens of layers without normalization the size drifts
away from 1: scale those by data, see :func:`thalweg.initialization.scale_by_data`.

Source: Deep Learning, §8.4; He et al. 2015; Glorot & Bengio 2010, §4.2 (the sigmoid's 4).
"""

import math
from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

Function = Callable[[Tensor], Tensor]

FUNCTIONS: dict[str, Function] = {
    "linear": lambda z: z,
    "relu": functional.relu,
    "relu6": functional.relu6,
    "leaky_relu": functional.leaky_relu,
    "elu": functional.elu,
    "selu": functional.selu,
    "celu": functional.celu,
    "gelu": functional.gelu,
    "silu": functional.silu,
    "mish": functional.mish,
    "softplus": functional.softplus,
    "softsign": functional.softsign,
    "tanh": torch.tanh,
    "hardtanh": functional.hardtanh,
    "hardswish": functional.hardswish,
    "sin": torch.sin,
    "sigmoid": torch.sigmoid,
    "hardsigmoid": functional.hardsigmoid,
}
SIGMOID = 4.0
UNKNOWN = "unknown"


@cache
def gain_of(nonlinearity: str) -> float:
    """Returns the gain of weights that feed a nonlinearity.

    Arguments:
        nonlinearity: a name of :data:`FUNCTIONS`; its numbers follow a colon, as in ``"leaky_relu:0.2"`` and
            ``"hardtanh:-2,2"``.

    Raises:
        ValueError: unknown name, or numbers that it does not take.

    >>> round(gain_of("relu") ** 2, 6), round(gain_of("linear"), 6), gain_of("sigmoid")
    (2.0, 1.0, 4.0)
    """
    name, _, listed = nonlinearity.partition(":")
    if name not in FUNCTIONS:
        raise ValueError(f"unknown nonlinearity {nonlinearity!r}: choose among {', '.join(FUNCTIONS)}")
    if name in ("sigmoid", "hardsigmoid"):
        return SIGMOID
    numbers = [float(number) for number in listed.split(",")] if listed else []
    if len(numbers) > len(NUMBERS.get(name, ())):
        raise ValueError(f"{name} does not accept the numbers that {nonlinearity!r} gives")
    return gain_of_function(lambda z: FUNCTIONS[name](z, *numbers))


def gain_of_function(function: Function) -> float:
    """Returns 1 / √E[φ(z)²] of any elementwise function.

    Raises:
        ValueError: the function gives nothing, or what is not finite.

    >>> round(gain_of_function(torch.tanh), 3)
    1.593
    """
    # Each half line by itself: most of these functions have their kink at zero.
    nodes, weights = np.polynomial.legendre.leggauss(200)
    z = torch.from_numpy((nodes + 1) * 5)  # to ten standard deviations
    density = torch.from_numpy(weights) * 5 * torch.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    with torch.no_grad():
        square = float(sum(((function(side * z).double() ** 2) * density).sum() for side in (1, -1)))
    if not 0 < square < math.inf:
        raise ValueError(f"the mean square of the nonlinearity's output is {square}: signals cannot pass it")
    return square**-0.5


def name_of(module: nn.Module) -> str | None:
    """Returns the name of an activation module's nonlinearity, "unknown" without a gain, None of any other module.

    The slope of ``nn.PReLU`` is the mean of what it holds, that of ``nn.RReLU`` the middle of its range.

    >>> name_of(nn.LeakyReLU(0.1)), name_of(nn.GLU()), name_of(nn.Linear(1, 1))
    ('leaky_relu:0.1', 'unknown', None)
    """
    name = _MODULES.get(type(module))
    if isinstance(module, nn.PReLU):
        return named("leaky_relu", float(module.weight.detach().mean()))
    if isinstance(module, nn.RReLU):
        return named("leaky_relu", (module.lower + module.upper) / 2)
    if isinstance(module, nn.Threshold):
        return "relu" if module.threshold == module.value == 0 else UNKNOWN
    if name in NUMBERS:
        return named(name, *(getattr(module, key) for key in NUMBERS[name]))
    return name


def named(name: str, *numbers: float) -> str:
    """Returns the name of a nonlinearity with its numbers, without them where they are torch's own.

    >>> named("elu", 0.5), named("elu", 1.0), named("hardtanh", -2, 2)
    ('elu:0.5', 'elu', 'hardtanh:-2,2')
    """
    if name != "leaky_relu" and numbers == tuple(NUMBERS[name].values()):
        return name
    return f"{name}:{','.join(f'{number:g}' for number in numbers)}"


NUMBERS: dict[str, dict[str, float]] = {  # of torch's modules and functions, in the order of the functions' arguments
    "leaky_relu": {"negative_slope": 0.01},
    "elu": {"alpha": 1.0},
    "celu": {"alpha": 1.0},
    "hardtanh": {"min_val": -1.0, "max_val": 1.0},
    "softplus": {"beta": 1.0},
}
_NAMED_ALIKE = "ReLU ReLU6 ELU SELU CELU GELU SiLU Mish Softplus Softsign Tanh Hardtanh Hardswish Sigmoid Hardsigmoid"
_MODULES: dict[type[nn.Module], str] = {
    **{getattr(nn, name): name.lower() for name in _NAMED_ALIKE.split()},
    nn.LeakyReLU: "leaky_relu",
    nn.Identity: "linear",
    **dict.fromkeys((nn.GLU, nn.Hardshrink, nn.Softshrink, nn.Tanhshrink, nn.LogSigmoid), UNKNOWN),
}
