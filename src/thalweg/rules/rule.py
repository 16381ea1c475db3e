"""What an update rule is: scalars computed once a step, then one elementwise pass over the parameters.

A rule is a frozen dataclass of *static* options (which form of the method), and two pure functions:

``coefficients(hyper, t, scalars)``
    The scalar part, in double precision: everything that depends on hyperparameters and the step count
    alone (bias corrections, powers). Values are Python floats for one model or float64 tensors ``(K, 1)``
    for K lanes; no branch on a value.
``update(grad, state, c)``
    The elementwise part: from the gradient, the parameter-shaped state and the coefficients to the step
    that is *added* to the parameters, and the new state. It uses operators and tensor methods alone, so
    that one text serves a tensor ``(n,)``, lanes ``(K, n)``, a list of tensors, and a compiled kernel.

A rule that needs more says so:

``move(params, grad, state, c)``
    Returns the new parameters in place of a step, where they are not the old ones plus a step.
``rounds``
    What is summed over each parameter tensor, or over the whole model, before the parameters move. A round
    states, elementwise too, what is to be summed; the sums of earlier rounds are among its coefficients.
``numbers`` and ``settle(c)``
    Numbers of the whole model that follow from such sums, and are carried from step to step.
``shown``
    The buffer with the parameters that are to be evaluated, where those that are trained are not.

The book writes ε for ``lr`` and δ for ``eps``.
"""

import inspect
import math
import re
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

Scalar = Any  # a float, or a float64 tensor of shape (K, 1)
Array = Any  # a Tensor, or a list of tensors that answers to the same operators
State = dict[str, Array]
Decay = Literal["l2", "decoupled", "direction", "proximal"]


@dataclass(frozen=True)
class Round:
    """What a rule sums before its parameters move.

    Attributes:
        names: of the sums, as they stand among the coefficients afterwards.
        measure: ``(params, grad, state, c)`` to what is summed, elementwise, by name.
        over: each parameter tensor (``"tensor"``), or all of them together (``"all"``).
        mean: whether the mean is taken in place of the sum.
    """

    names: tuple[str, ...]
    measure: Callable[[Array, Array, State, Mapping[str, Scalar]], Mapping[str, Array]]
    over: Literal["tensor", "all"] = "tensor"
    mean: bool = False


Reduce = Callable[[Array, Round], Array]


class Rule(ABC):
    """Contract of every update rule; concrete rules are frozen dataclasses.

    ``defaults`` maps hyperparameters to default values (always with ``lr`` and ``weight_decay``). ``decay`` says where
    weight decay λ goes: into the gradient (``"l2"``), onto the parameters before the step, which become (1 − lr λ) θ
    (``"decoupled"``), or after it, which become θ / (1 + lr λ) (``"proximal"``); or into the direction that the rule
    itself works out (``"direction"``). ``buffers`` names the parameter-shaped state with its initial value, None where
    that is the parameters as they are at the first step; ``scalar_state`` names scalars carried from step to step with
    their initial value, and ``numbers`` those that follow from the data; ``factor_names`` is for
    :class:`thalweg.rules.matrix_rule.MatrixRule`. State names are torch's where torch has the method, so that state
    dicts travel both ways.
    """

    @property
    @abstractmethod
    def name(self) -> str:
        """Its name."""

    @property
    @abstractmethod
    def defaults(self) -> Mapping[str, float]:
        """Hyperparameters with their default values."""

    @property
    def decay(self) -> Decay:
        """Where weight decay goes."""
        return "l2"

    @property
    @abstractmethod
    def buffers(self) -> Mapping[str, float | None]:
        """Parameter-shaped state: name to initial value; None for that of the parameters."""

    @property
    def scalar_state(self) -> Mapping[str, float]:
        """Scalars that hyperparameters and the step count make, carried from step to step: name to initial value."""
        return {}

    @property
    def factor_names(self) -> tuple[str, ...]:
        """State of other forms than the parameters', of rules that take matrices."""
        return ()

    @property
    def numbers(self) -> Mapping[str, float]:
        """Numbers of the whole model that follow from its gradients: name to initial value."""
        return {}

    @property
    def rounds(self) -> tuple[Round, ...]:
        """What is summed before the parameters move."""
        return ()

    @property
    def shown(self) -> str | None:
        """Name of the buffer that holds the parameters to evaluate; None where they are those that are trained."""
        return None

    @property
    def evaluations(self) -> int:
        """How many gradients, of one minibatch, a step takes: each is one ``t``."""
        return 1

    @property
    def sparse(self) -> Literal["rows", "all"] | None:
        """What a step with a sparse gradient moves: the rows that it names, or all, by what was carried on; None where
        even rows of zeros move, so that sparse gradients gain nothing."""
        return None

    @abstractmethod
    def coefficients(
        self, hyper: Mapping[str, Scalar], t: Scalar, scalars: Mapping[str, Scalar]
    ) -> tuple[dict[str, Scalar], dict[str, Scalar]]:
        """Returns the scalars of step ``t`` (1 for the first) and the new scalar state."""

    def update(self, grad: Array, state: State, c: Mapping[str, Scalar]) -> tuple[Array, State]:
        """Returns the step to add to the parameters, and the new state."""
        raise NotImplementedError(f"{type(self).__name__} states neither update nor move")

    def move(self, params: Array, grad: Array, state: State, c: Mapping[str, Scalar]) -> tuple[Array, State]:
        """Returns the new parameters, weight decay included, and the new state."""
        params, grad = self.decayed(params, grad, c)
        step, state = self.update(grad, state, c)
        params = params + step
        return params * c["decay"] if "decay" in c and self.decay == "proximal" else params, state

    def decayed(self, params: Array, grad: Array, c: Mapping[str, Scalar]) -> tuple[Array, Array]:
        """Returns parameters and gradient with the weight decay that comes before the step."""
        if "decay" in c and self.decay == "l2":
            return params, grad + params * c["decay"]
        if "decay" in c and self.decay == "decoupled":
            return params * c["decay"], grad
        return params, grad

    def settle(self, c: Mapping[str, Scalar]) -> dict[str, Scalar]:
        """Returns the new ``numbers``, from coefficients that contain the old ones and all sums."""
        return {}


def scalars_of_step(
    rule: Rule, hyper: Mapping[str, Scalar], t: Scalar, scalars: Mapping[str, Scalar]
) -> tuple[dict[str, Scalar], dict[str, Scalar]]:
    """Returns the rule's coefficients of step ``t`` with weight decay's own beside them, and the scalar state.

    ``weight_decay`` is left out where it is the number 0, so that nothing is spent on it. A rule may have a coefficient
    ``decay`` of its own.
    """
    c, scalars = rule.coefficients(hyper, t, scalars)
    decay = hyper["weight_decay"]
    if "decay" not in c and not is_zero(decay):
        if rule.decay == "decoupled":
            c["decay"] = 1 - hyper["lr"] * decay
        else:
            c["decay"] = 1 / (1 + hyper["lr"] * decay) if rule.decay == "proximal" else decay
    return c, scalars


def is_zero(decay: Scalar) -> bool:
    """Says whether a weight decay is the number 0, so that nothing need be done."""
    return isinstance(decay, (int, float)) and decay == 0


def no_decay(rule: Rule) -> float:
    """Returns the coefficient of weight decay that leaves the parameters alone."""
    return 0.0 if rule.decay in ("l2", "direction") else 1.0


def spared(rule: Rule, decay: Scalar, decayed: Array) -> Array:
    """Returns the coefficient of weight decay where ``decayed`` is 1, and what leaves the parameters alone where 0."""
    none = no_decay(rule)
    return none + (decay - none) * decayed


def begun(initial: float | None, params: Tensor) -> Tensor:
    """Returns a buffer at its start."""
    return params.clone() if initial is None else torch.full_like(params, initial)


def state_at_start(rule: Rule, params: Tensor) -> State:
    """Returns the state that :func:`apply` takes at the first step of one model, whose parameters are one tensor."""
    buffers = {name: begun(initial, params) for name, initial in rule.buffers.items()}
    return buffers | {name: params.new_tensor(initial) for name, initial in rule.numbers.items()}


def reduced(x: Array, one: Round) -> Array:
    """Returns the sum of a tensor, or its mean."""
    return x.mean() if one.mean else x.sum()


def apply(
    rule: Rule, params: Array, grad: Array, state: State, c: Mapping[str, Scalar], reduce: Reduce = reduced
) -> tuple[Array, State]:
    """Returns the parameters after one step of the rule, weight decay included, and the new state.

    This is the only place where the rounds of a rule meet its step: the ``torch.optim`` face, the compiled step and
    the lanes all call it, and torch's fused kernels are held to it. Arguments: ``params`` and ``grad`` of one shape
    ``(..., n)``; ``c`` from :func:`scalars_of_step`, each a number or a tensor that broadcasts; ``reduce`` makes the
    sums of a round, by default of one tensor that is the whole model. Sums that ``c`` has already are not made again,
    and the rule's numbers are carried on where ``state`` has them.
    """
    numbers = {name: state[name] for name in rule.numbers if name in state}
    c = {**c, **numbers}
    for one in rule.rounds:
        if not all(name in c for name in one.names):
            measured = one.measure(params, grad, state, c)
            c |= {name: reduce(measured[name], one) for name in one.names}
    params, state = rule.move(params, grad, state, c)
    return params, {**state, **rule.settle(c)} if numbers else state


def larger(a: Scalar, b: Scalar) -> Scalar:
    """Returns the larger of two scalars.

    >>> larger(1.0, 2.0), larger(torch.tensor([1.0, 3.0]), 2.0)
    (2.0, tensor([2., 3.]))
    """
    if isinstance(a, (int, float)):
        return max(a, b) if isinstance(b, (int, float)) else b.clamp(min=a)
    return a.clamp(min=b)


def smaller(a: Scalar, b: Scalar) -> Scalar:
    """Returns the smaller of two scalars."""
    return -larger(-a, -b)


def logarithm(a: Scalar) -> Scalar:
    """Returns the natural logarithm of a scalar."""
    return math.log(a) if isinstance(a, (int, float)) else a.log()


def with_equations(text: str) -> str:
    r"""Returns a docstring in which ``Equations: :mod:`name`.`` is what that module states, without its sources.

    >>> print(with_equations("AdaGrad.\n\nEquations: :mod:`thalweg.rules.adagrad`.")[:27])
    AdaGrad.
    <BLANKLINE>
        r ← r + g ⊙ g
    """

    def stated(module: re.Match[str]) -> str:
        own = inspect.cleandoc(sys.modules[module[1]].__doc__ or "")
        return own.partition("\n\n")[2].partition("\n\nSource:")[0]

    return re.sub(r"Equations: :mod:`([\w.]+)`\.", stated, inspect.cleandoc(text))
