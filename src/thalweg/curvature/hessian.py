"""The Hessian by its products alone: the gradient is made once with its graph, each product differentiates it again."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from thalweg.curvature.differentiate import check_graph, filled, gradients
from thalweg.curvature.operator import LinearOperator
from thalweg.tensors.vector import from_vector, real, to_vector, working_dtype


class Hessian(LinearOperator):
    """The Hessian H (n, n) of a loss at the parameters where it was computed.

        H v = ∇(gᵀ v),   g = ∇J(θ),   v constant

    A product costs about one backward pass of the gradient's graph, two to three gradients, and no memory of
    order n². The graph of the loss is kept as long as the operator lives.

    Arguments:
        loss: J(θ), one real number, with its graph: not yet backwarded.
        params: θ, tensors of the graph of any shapes, types and devices; one that the loss does not use has
            zeros. A complex number counts as two real ones.

    Attributes:
        gradient: g ``(n,)``, made on the way.
        used: for each parameter, whether the loss depends on it.

    Raises:
        ValueError: the loss is not one real number, has no graph, or its graph is gone; a parameter requires no
            gradient, or the loss uses none of them.
        NotImplementedError: from a product, where an operation of the model has no second derivative.

    The Hessian is the one that autograd sees: zero of a function that is linear piece by piece; and what the
    model detached, or a Function of its own marked ``once_differentiable``, counts as a constant.

    >>> w = torch.tensor([1.0, 2.0], requires_grad=True)
    >>> hessian = Hessian(w[0] ** 2 * w[1], [w])
    >>> hessian.gradient.tolist(), (hessian @ torch.tensor([1.0, 0.0])).tolist()
    ([4.0, 1.0], [4.0, 2.0])

    Source: Deep Learning, §4.3.1, §8.6; Pearlmutter 1994.
    """

    def __init__(self, loss: Tensor, params: Sequence[Tensor]) -> None:
        check_graph(loss, params)
        self.params = list(params)
        super().__init__(sum(real(p).numel() for p in params), working_dtype(params), params[0].device)
        found = gradients([loss], self.params, create_graph=True)
        self.used = [g is not None for g in found]
        if not any(self.used):
            raise ValueError("the loss depends on none of the parameters")
        self.gradient = to_vector(filled(found, self.params), self.dtype, self.device)
        # A gradient without a graph is constant: there is nothing to differentiate.
        self._curved = [(i, g) for i, g in enumerate(found) if g is not None and g.requires_grad]

    @classmethod
    def of(cls, function: Callable[[Tensor], Tensor], x: Tensor) -> "Hessian":
        """Returns the Hessian of a function of one vector.

        Arguments:
            function: from ``(n,)`` to one real number.
            x: where, ``(n,)``; it is copied.

        >>> (Hessian.of(lambda x: (x**3).sum(), torch.tensor([1.0, 2.0])) @ torch.ones(2)).tolist()
        [6.0, 12.0]
        """
        x = x.detach().clone().requires_grad_()
        with torch.enable_grad():
            return cls(function(x), [x])

    def _product(self, vector: Tensor) -> Tensor:
        parts = from_vector(vector, self.params)
        found = gradients([g for _, g in self._curved], self.params, [parts[i] for i, _ in self._curved])
        return to_vector(filled(found, self.params), self.dtype, self.device)
