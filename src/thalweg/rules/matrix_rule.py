"""What an update rule is that takes each matrix as a whole, and how it goes with a partner for all other parameters.

A matrix rule has the two functions of a rule, but ``update`` is given stacks of matrices ``(..., m, n)``: those of one
model, or those of all lanes, all of one shape, so that a product of matrices is one batched product. Coefficients are
numbers, or tensors that broadcast. State may have forms of its own, such as ``(..., m, m)``.

What costs much and need not be done at each step is a refresh. The step count alone says when it is due, as the
coefficient ``refresh``, a number that is 0 where it is not.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from thalweg.rules.adam import AdamW
from thalweg.rules.rule import Array, Decay, Rule, Scalar, State, scalars_of_step

REFRESH = "refresh"  # name of the coefficient that says which refresh is due
OF_MATRIX = "matrix."  # begins the names of a matrix rule's coefficients beside its partner's
OF_PARTNER = "adamw_"  # begins the names of a partner's hyperparameters


class MatrixRule(Rule):
    """Contract of a rule that takes matrices; ``buffers`` have the form of the matrix.

    ``factor_names`` names the state of other forms, zero at first; ``decay`` is always decoupled.
    """

    decay: ClassVar[Decay] = "decoupled"

    def factors(self, rows: int, columns: int) -> Mapping[str, tuple[int, int]]:
        """Returns the state of other forms that a matrix has: name to shape."""
        return {}

    def gather(self, grad: Tensor, state: State, c: Mapping[str, Scalar]) -> State:
        """Returns the state with what the step takes of the gradient before a refresh."""
        return state

    def refresh(self, which: int, state: State, c: Mapping[str, Scalar]) -> State:
        """Returns the state after the refresh of that number, at least 1."""
        return state

    @abstractmethod
    def update(self, grad: Array, state: State, c: Mapping[str, Scalar]) -> tuple[Array, State]:
        """Returns the step to add to the matrices ``(..., m, n)``, and the new state."""


@dataclass(frozen=True)
class Partnered(Rule):
    """A rule for matrices with a partner that steps everything else, whose hyperparameters have names of their own.

    As a rule of tensors without the form of a matrix it is its partner. The coefficients of both are computed at once.

    >>> from thalweg.rules import RULES
    >>> RULES["muon"].defaults["lr"], RULES["muon"].defaults["adamw_lr"]
    (0.001, 0.001)
    """

    matrix: MatrixRule
    partner: Rule = field(default_factory=AdamW)

    decay: ClassVar[Decay] = "decoupled"

    @property
    def name(self) -> str:
        """The name of the rule for matrices."""
        return self.matrix.name

    @property
    def defaults(self) -> Mapping[str, float]:
        """Those of both, the partner's under names that begin with ``adamw_``."""
        return {**self.matrix.defaults, **{OF_PARTNER + name: v for name, v in self.partner.defaults.items()}}

    @property
    def buffers(self) -> Mapping[str, float | None]:
        return self.partner.buffers

    def coefficients(
        self, hyper: Mapping[str, Scalar], t: Scalar, scalars: Mapping[str, Scalar]
    ) -> tuple[dict[str, Scalar], dict[str, Scalar]]:
        others = {name: hyper[OF_PARTNER + name] for name in self.partner.defaults}
        own, _ = scalars_of_step(self.matrix, {name: hyper[name] for name in self.matrix.defaults}, t, {})
        partner, _ = scalars_of_step(self.partner, others, t, {})
        return {"decay": 1.0, **partner, **{OF_MATRIX + name: value for name, value in own.items()}}, {}

    def update(self, grad: Array, state: State, c: Mapping[str, Scalar]) -> tuple[Array, State]:
        return self.partner.update(grad, state, c)


def eigh(matrices: Tensor) -> tuple[Tensor, Tensor]:
    """Returns eigenvalues, in ascending order, and eigenvectors of symmetric matrices ``(..., n, n)``.

    Of a matrix with an element that is not finite, as a trial has that diverges, they are NaN: LAPACK refuses it, and
    with it all others.
    """
    is_finite = matrices.isfinite().all(-1).all(-1)[..., None]
    sound = matrices.where(is_finite[..., None], 0.0)
    try:
        values, vectors = torch.linalg.eigh(sound)
    except torch.linalg.LinAlgError:  # type: ignore[attr-defined]  # it has not converged
        values, vectors = (found.to(matrices.dtype) for found in torch.linalg.eigh(sound.double()))
    nan = float("nan")
    return values.where(is_finite, nan), vectors.where(is_finite[..., None], nan)


def as_matrix_shape(shape: Sequence[int]) -> tuple[int, int] | None:
    """Returns rows and columns of a parameter of that shape, None where it is no matrix.

    Those of more than two dimensions, as convolutions have, are taken as their outputs by everything else.

    >>> as_matrix_shape((3, 4)), as_matrix_shape((8, 3, 5, 5)), as_matrix_shape((7,))
    ((3, 4), (8, 75), None)
    """
    if len(shape) < 2:
        return None
    columns = 1
    for size in shape[1:]:
        columns *= size
    return shape[0], columns
