"""A list of tensors that answers to the operators and methods of one, through torch's foreach kernels."""

from collections.abc import Callable, Sequence
from typing import Any, Union

from torch import Tensor

from thalweg.tensors.private import foreach, foreach_copy_

Other = Union["TensorList", float, Tensor]
_WITH_ONE_NUMBER = ("add", "mul", "div")  # whose kernels take a tensor without dimensions


class TensorList:
    """Tensors of any shapes, worked on as one: ``a * b + c`` runs one foreach kernel an operator.

    Any elementwise method of a tensor is one of the list; it goes tensor by tensor where torch has no kernel for lists.
    The other operand is another :class:`TensorList` of as many tensors, a number, or a tensor without dimensions.

    >>> import torch
    >>> a = TensorList([torch.ones(2), -torch.ones(3)])
    >>> [t.tolist() for t in (a.sign() * 2 + a).tensors]
    [[3.0, 3.0], [-3.0, -3.0, -3.0]]
    """

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self.tensors = list(tensors)

    def __add__(self, other: Other) -> "TensorList":
        return self._apply("add", other)

    def __sub__(self, other: Other) -> "TensorList":
        # foreach has no difference with a tensor of one number; a sum with its negative is the same.
        return self + (-other) if isinstance(other, Tensor) else self._apply("sub", other)

    def __mul__(self, other: Other) -> "TensorList":
        return self._apply("mul", other)

    def __truediv__(self, other: Other) -> "TensorList":
        return self._apply("div", other)

    def __pow__(self, other: Other) -> "TensorList":
        return self._apply("pow", other)

    def __neg__(self) -> "TensorList":
        return self._apply("neg")

    def __rsub__(self, other: float) -> "TensorList":
        return -self + other

    __radd__, __rmul__ = __add__, __mul__

    def __getattr__(self, name: str) -> Callable[..., "TensorList"]:
        """Returns the method of that name, which has a list for each tensor that it takes or gives."""
        if name.startswith("_"):
            raise AttributeError(name)
        return lambda *others: self._apply(name, *others)

    def copy_(self, source: "TensorList") -> None:
        """Writes the source's values into these tensors."""
        foreach_copy_(self.tensors, source.tensors)

    def _apply(self, name: str, *others: Any) -> "TensorList":
        kernel = foreach(name)
        if kernel and (name in _WITH_ONE_NUMBER or not any(isinstance(other, Tensor) for other in others)):
            return TensorList(kernel(self.tensors, *(o.tensors if isinstance(o, TensorList) else o for o in others)))
        lists = [o.tensors if isinstance(o, TensorList) else [o] * len(self.tensors) for o in others]
        return TensorList([getattr(own, name)(*row) for own, *row in zip(self.tensors, *lists, strict=True)])
