"""A list of tensors that answers to the operators of one, through torch's foreach kernels."""

from collections.abc import Sequence
from typing import Any, Union

import torch
from torch import Tensor

Other = Union["TensorList", float, Tensor]


class TensorList:
    """Tensors of any shapes, worked on as one: ``a * b + c`` runs one foreach kernel an operator.

    The other operand is another :class:`TensorList` of as many tensors, a number, or a tensor without dimensions.

    >>> a = TensorList([torch.ones(2), torch.ones(3)])
    >>> [t.tolist() for t in (a * 2 + a).tensors]
    [[3.0, 3.0], [3.0, 3.0, 3.0]]
    """

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self.tensors = list(tensors)

    def __add__(self, other: Other) -> "TensorList":
        return self._apply(torch._foreach_add, other)

    def __sub__(self, other: Other) -> "TensorList":
        # foreach has no difference with a tensor of one number; a sum with its negative is the same.
        return self + (-other) if isinstance(other, Tensor) else self._apply(torch._foreach_sub, other)

    def __mul__(self, other: Other) -> "TensorList":
        return self._apply(torch._foreach_mul, other)

    def __truediv__(self, other: Other) -> "TensorList":
        return self._apply(torch._foreach_div, other)

    def __neg__(self) -> "TensorList":
        return TensorList(torch._foreach_neg(self.tensors))

    def sqrt(self) -> "TensorList":
        """Returns the square roots."""
        return TensorList(torch._foreach_sqrt(self.tensors))

    def maximum(self, other: "TensorList") -> "TensorList":
        """Returns the elementwise larger values."""
        return TensorList(torch._foreach_maximum(self.tensors, other.tensors))

    def to(self, dtype: torch.dtype) -> "TensorList":
        """Returns the tensors in another type; those that have it as they are."""
        return TensorList([t.to(dtype) for t in self.tensors])

    def where(self, condition: Tensor, other: "TensorList") -> "TensorList":
        """Returns these values where the condition, one for all, holds, and the other's elsewhere."""
        return TensorList([torch.where(condition, a, b) for a, b in zip(self.tensors, other.tensors, strict=True)])

    def copy_(self, source: "TensorList") -> None:
        """Writes the source's values into these tensors."""
        torch._foreach_copy_(self.tensors, source.tensors)

    def _apply(self, operation: Any, other: Other) -> "TensorList":
        return TensorList(operation(self.tensors, other.tensors if isinstance(other, TensorList) else other))
