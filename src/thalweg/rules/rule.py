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

The book writes ε for ``lr`` and δ for ``eps``.
"""

import inspect
import re
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

Scalar = Any  # a float, or a float64 tensor of shape (K, 1)
Array = Any  # a Tensor, or a list of tensors that answers to the same operators
State = dict[str, Array]


class Rule(ABC):
    """Contract of every update rule; concrete rules are frozen dataclasses.

    Class attributes: ``defaults`` maps hyperparameters to default values (always with ``lr`` and
    ``weight_decay``); ``decay`` says whether weight decay is added to the gradient (``"l2"``) or shrinks
    the parameters (``"decoupled"``). ``buffers`` names the parameter-shaped state with its initial value;
    ``scalar_state`` names scalars carried from step to step with their initial value; ``factor_names`` is for
    :class:`thalweg.rules.matrix_rule.MatrixRule`. State names are torch's, so that state dicts travel both ways.
    """

    name: ClassVar[str]
    defaults: ClassVar[Mapping[str, float]]
    decay: ClassVar[Literal["l2", "decoupled"]] = "l2"
    scalar_state: ClassVar[Mapping[str, float]] = {}
    factor_names: ClassVar[tuple[str, ...]] = ()

    @property
    @abstractmethod
    def buffers(self) -> Mapping[str, float]:
        """Parameter-shaped state: name to initial value."""

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

    @abstractmethod
    def update(self, grad: Array, state: State, c: Mapping[str, Scalar]) -> tuple[Array, State]:
        """Returns the step to add to the parameters, and the new state."""


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
        c["decay"] = decay if rule.decay == "l2" else 1 - hyper["lr"] * decay
    return c, scalars


def is_zero(decay: Scalar) -> bool:
    """Says whether a weight decay is the number 0, so that nothing need be done."""
    return isinstance(decay, (int, float)) and decay == 0


def apply(rule: Rule, params: Array, grad: Array, state: State, c: Mapping[str, Scalar]) -> tuple[Array, State]:
    """Returns the parameters after one step of the rule, weight decay included, and the new state.

    This is the only place where weight decay and the step meet the parameters: the ``torch.optim`` face,
    the compiled step and the lanes all call it, and torch's fused kernels are held to it. Arguments: ``params`` and
    ``grad`` of one shape ``(..., n)``; ``c`` from :func:`scalars_of_step`, each a number or a tensor that broadcasts.
    """
    if "decay" in c:
        if rule.decay == "l2":
            grad = grad + params * c["decay"]
        else:
            params = params * c["decay"]
    step, state = rule.update(grad, state, c)
    return params + step, state


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
