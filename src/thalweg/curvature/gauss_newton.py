"""The generalized Gauss–Newton matrix by its products alone: the Hessian without the curvature of the model."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from thalweg.curvature.differentiate import check_graph, filled, gradients
from thalweg.curvature.operator import LinearOperator
from thalweg.tensors.vector import from_vector, real, to_vector, working_dtype


class GaussNewton(LinearOperator):
    """The generalized Gauss–Newton matrix G (n, n) of a loss L of a model's outputs z = f(θ).

        G v = Jᵀ H_L J v,   J = ∂z/∂θ,   H_L = ∂²L/∂z²
        J v = ∂(uᵀ J v)/∂u = ∂/∂u of (Jᵀ u)ᵀ v:  forward by going backward twice

    H = G + Σ_k ∂L/∂z_k · ∂²z_k/∂θ²; the sum is left out. Where L is convex in z, as squared error and
    cross-entropy of logits are, G is positive semi-definite even where H is not; for a linear model G = H.

    A product costs about two backward passes and one forward pass. The loss may depend on the parameters
    past the outputs too, as weight decay does: this counts in ``gradient`` and not in G.

    Arguments:
        loss: L, one real number, with its graph: not yet backwarded.
        outputs: z, the very tensor, or tensors, from which the loss was computed, any shapes.
        params: θ, tensors of the graph of any shapes, types and devices; one that the outputs do not use has
            zeros. A complex number counts as two real ones.

    Attributes:
        gradient: of the loss by θ ``(n,)``.
        used: for each parameter, whether the loss depends on it.

    Raises:
        ValueError: the loss is not one real number, has no graph, or its graph is gone; a parameter requires no
            gradient; the loss does not depend on the outputs, or they not on the parameters.
        NotImplementedError: an operation of the model has no second derivative.

    >>> w = torch.tensor([1.0, 2.0], requires_grad=True)
    >>> z = w**2
    >>> (GaussNewton((z**2).sum() / 2, z, [w]) @ torch.ones(2)).tolist()
    [4.0, 16.0]

    Source: Deep Learning, §8.6; Schraudolph 2002; Martens 2010.
    """

    def __init__(self, loss: Tensor, outputs: Tensor | Sequence[Tensor], params: Sequence[Tensor]) -> None:
        check_graph(loss, params)
        self.params = list(params)
        super().__init__(sum(real(p).numel() for p in params), working_dtype(params), params[0].device)
        self.outputs = [outputs] if isinstance(outputs, Tensor) else list(outputs)
        if not all(z.requires_grad for z in self.outputs):
            raise ValueError("the outputs have no graph: they were detached, or computed under no_grad")
        slopes = gradients([loss], self.outputs, create_graph=True)
        if all(s is None for s in slopes):
            raise ValueError("the loss does not depend on the outputs: pass the same tensor from which it was computed")
        # A slope without a graph is constant: the loss is linear in that output.
        self._curved = [(i, s) for i, s in enumerate(slopes) if s is not None and s.requires_grad]
        found = gradients([loss], self.params)
        self.used = [g is not None for g in found]
        self.gradient = to_vector(filled(found, self.params), self.dtype, self.device)
        self._dual = [torch.zeros_like(z, requires_grad=True) for z in self.outputs]
        pulled = gradients(self.outputs, self.params, self._dual, create_graph=True)
        if all(p is None for p in pulled):
            raise ValueError("the outputs depend on none of the parameters")
        self._pulled = [(i, p) for i, p in enumerate(pulled) if p is not None]

    @classmethod
    def of(
        cls, outputs_function: Callable[[Tensor], Tensor], loss_function: Callable[[Tensor], Tensor], x: Tensor
    ) -> "GaussNewton":
        """Returns the matrix of loss_function(outputs_function(x)).

        Arguments:
            outputs_function: from ``(n,)`` to the outputs, any shape.
            loss_function: from the outputs to one real number.
            x: where, ``(n,)``; it is copied.

        >>> g = GaussNewton.of(lambda x: x**2, lambda z: (z**2).sum() / 2, torch.tensor([1.0, 2.0]))
        >>> (g @ torch.ones(2)).tolist()
        [4.0, 16.0]
        """
        x = x.detach().clone().requires_grad_()
        with torch.enable_grad():
            outputs = outputs_function(x)
            return cls(loss_function(outputs), outputs, [x])

    def _product(self, vector: Tensor) -> Tensor:
        parts = from_vector(vector, self.params)
        forward = gradients([p for _, p in self._pulled], self._dual, [parts[i] for i, _ in self._pulled])
        moved = filled(forward, self._dual)
        bent = gradients([s for _, s in self._curved], self.outputs, [moved[i] for i, _ in self._curved])
        back = gradients(self.outputs, self.params, filled(bent, self.outputs))
        return to_vector(filled(back, self.params), self.dtype, self.device)
