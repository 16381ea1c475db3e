"""A closure's loss as an objective: the parameters of all groups are its vector, weight decay and sign included.

f(θ) = ± loss(θ) + ½ Σ_groups λ ‖θ_group‖²
"""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from thalweg.curvature import Damped, GaussNewton, Hessian, LinearOperator
from thalweg.optim.decay import decayed
from thalweg.second_order import Evaluation, NotAnObjective, NotFinite, Objective
from thalweg.second_order.objective import check_loss
from thalweg.second_order.progress import Place
from thalweg.second_order.ranks import ALONE, Ranks
from thalweg.tensors.form import form, is_allocated
from thalweg.tensors.private import foreach_copy_
from thalweg.tensors.vector import from_vector, local, real, to_vector

Curvature = Literal["hessian", "gauss_newton"]
Closure = Callable[[], Any]
Found = Hessian | GaussNewton | list[Tensor]
SAME = 1e3  # roundings by which two evaluations at the same parameters may differ, as sums in another order do


class NoGradient(NotAnObjective):
    """The closure's loss has no gradient by any parameter, so that no step can be taken; ``loss`` is what it gave."""

    def __init__(self, message: str, loss: Any) -> None:
        super().__init__(message)
        self.loss = loss


class ParameterObjective(Objective):
    """What a closure returns, as a function of the parameters that its loss uses.

    The closure may call ``backward`` or leave it to us; where curvature is asked for it must leave it, and for
    Gauss–Newton return ``(loss, outputs)``.

    Arguments:
        groups: an optimizer's groups; of each ``params``, ``weight_decay``, ``decay`` and ``maximize`` are read.
        closure: evaluates the loss at the parameters as they are.
        kind: which matrix is the curvature.
        ranks: that evaluate it together, each its own closure; the loss is the mean of theirs.

    Attributes: ``params`` that the loss uses, the ``start``, and there the ``first_loss`` of this rank's closure; known
    once :meth:`begin` was called.
    """

    def __init__(
        self,
        groups: Sequence[dict[str, Any]],
        closure: Closure,
        kind: Curvature = "hessian",
        ranks: Ranks = ALONE,
    ) -> None:
        super().__init__()
        self.closure, self.kind, self.ranks = closure, kind, ranks
        self.maximize = groups[0]["maximize"]
        self._all = [p for group in groups for p in group["params"] if p.requires_grad]
        self._decays = [
            float(group["weight_decay"]) if decayed(group, p) else 0.0
            for group in groups
            for p in group["params"]
            if p.requires_grad
        ]
        self.params: list[Tensor] = []
        self._decay: float | Tensor = 0.0
        self._x: Tensor | None = None  # where the parameters are
        self._first: Evaluation | None = None

    def begin(self, curvature: bool) -> Tensor:
        """Evaluates where the parameters are; returns that vector, whose evaluation is then at hand.

        Raises:
            NotAnObjective: the closure gives no scalar, no gradient (NoGradient), or a number that is not finite.
        """
        if not self._all:
            loss, _ = self._closure()
            raise NoGradient("no parameter requires a gradient: set requires_grad on the parameters to train", loss)
        self.params = self._all
        loss, found = self._call(curvature)
        self.first_loss = float(loss)
        used = found.used if isinstance(found, (Hessian, GaussNewton)) else [p.grad is not None for p in self._all]
        self.params = [p for p, is_used in zip(self._all, used, strict=True) if is_used]
        if not all(used):
            if isinstance(found, list):
                found = [g for g, is_used in zip(found, used, strict=True) if is_used]
            else:
                loss, found = self._call(curvature)
        if not sum(p.numel() for p in self.params):
            raise NoGradient("the closure's loss depends on none of the optimizer's parameters", loss)
        decays = [decay for decay, is_used in zip(self._decays, used, strict=True) if is_used]
        if len(set(decays)) == 1:
            self._decay = decays[0]
        else:
            self._decay = to_vector([torch.full_like(p, d) for p, d in zip(self.params, decays, strict=True)])
        x = self._x = to_vector(self.params)
        self._first = self._evaluation(x, loss, found)
        self.start = Place.of(x, self._first, self.ranks)
        if not math.isfinite(self.start.loss):
            raise NotFinite(
                f"the loss is {self.start.loss} where the step begins: the parameters are unchanged; correct the "
                "inputs or the parameters first"
            )
        return x

    def check_repeats(self, owner: str, dtype: torch.dtype) -> None:
        """Warns where the closure's loss is another when it is evaluated anew where the parameters are."""
        self.evaluations += 1
        one, two = self.first_loss, float(self._call(curvature=False)[0])
        if not abs(one - two) <= SAME * torch.finfo(dtype).eps * max(abs(one), abs(two)):
            warnings.warn(
                f"the closure gave {one:.9g} and then {two:.9g} at the same parameters: {owner} needs the same loss "
                "each time. Dropout (call eval() on it, or seed it in the closure), batch norm, or a new minibatch a "
                "call make it change",
                RuntimeWarning,
                stacklevel=5,
            )

    def put(self, x: Tensor) -> None:
        """Writes the vector into the parameters."""
        if x is not self._x:
            with torch.no_grad():
                pairs = list(zip([local(p.detach()) for p in self.params], from_vector(x, self.params), strict=True))
                plain = [(real(t), real(part)) for t, part in pairs if not (t.is_conj() or t.is_neg())]
                if plain:
                    foreach_copy_([t for t, _ in plain], [part for _, part in plain])
                for target, part in pairs if len(plain) < len(pairs) else ():
                    target.copy_(part)
            self._x = x

    def _evaluate(self, x: Tensor, curvature: bool) -> Evaluation:
        if self._first is not None:
            first, self._first = self._first, None
            if x is self._x:
                return first
        self.put(x)
        return self._evaluation(x, *self._call(curvature))

    def _evaluation(self, x: Tensor, loss: Tensor, found: Found) -> Evaluation:
        loss = loss.to(x.device)
        value = (-loss if self.maximize else loss).to(x.dtype)
        matrix: LinearOperator | None = None
        if isinstance(found, (Hessian, GaussNewton)):
            matrix, gradient = _Here(self, x, found), found.gradient.detach()
        else:
            gradient = to_vector(found, x.dtype, x.device)
            if self.maximize:
                gradient = gradient.neg_()
        if isinstance(self._decay, Tensor) or self._decay:
            pull = self._decay * x
            # Values are averaged over ranks, where the shares' squares are to be added.
            value, gradient = value + 0.5 * self.ranks.shares * (pull @ x), gradient + pull
            matrix = Damped(matrix, self._decay) if matrix is not None else None
        return Evaluation(value, gradient, matrix, loss)

    def _call(self, curvature: bool) -> tuple[Tensor, Found]:
        """Returns the closure's loss, and its matrix or its gradients, at the parameters as they are."""
        loss, outputs = self._closure()
        if curvature:
            check_loss(loss, "the closure")
            if self.kind == "gauss_newton" and outputs is None:
                raise NotAnObjective("Gauss–Newton needs the model's outputs: let the closure return (loss, outputs)")
            if isinstance(outputs, Mapping):
                outputs = list(outputs.values())
            with torch.enable_grad():
                signed = (-loss if self.maximize else loss).reshape(())
                matrix = (
                    Hessian(signed, self.params)
                    if outputs is None or self.kind == "hessian"
                    else GaussNewton(signed, outputs, self.params)
                )
            return loss.detach().reshape(()), matrix
        if all(p.grad is None for p in self._all):
            if isinstance(loss, Tensor) and loss.numel() == 1 and not loss.requires_grad:
                raise NoGradient(
                    "the closure returns a loss without a gradient: do not detach or round its inputs", loss
                )
            check_loss(loss, "the closure")
            loss.backward()
        for p in self.params:
            if p.grad is not None and p.grad.is_sparse:
                raise NotAnObjective("sparse gradients are not supported: build the embedding with sparse=False")
        loss = loss.detach() if isinstance(loss, Tensor) else torch.tensor(loss, dtype=torch.float64)
        loss = loss.full_tensor() if hasattr(loss, "full_tensor") else loss
        if loss.numel() != 1:
            raise NotAnObjective(
                f"the closure does not return a scalar ({tuple(loss.shape)}): return the loss as one number"
            )
        grads = [_gradient(p) for p in self.params]
        return loss.reshape(()), grads

    def _closure(self) -> tuple[Any, Any]:
        for p in self._all:
            p.grad = None
        with torch.enable_grad():
            found = self.closure()
        return found if isinstance(found, tuple) and len(found) == 2 else (found, None)


def _gradient(p: Tensor) -> Tensor:
    """Returns the parameter's gradient as far as it is here, in the parameter's kind of numbers; zeros without one."""
    grad = p.grad
    if grad is None:
        return torch.zeros_like(p)
    if grad.shape != p.shape or (grad.is_complex() and not p.is_complex()) or not is_allocated(grad):
        raise NotAnObjective(
            f"the gradient of a parameter {form(p)} is {form(grad)}: let the closure call backward() on a fresh loss"
        )
    grad = local(grad, like=p)
    return grad if grad.is_complex() == p.is_complex() else grad.to(p.dtype)


class Pair(Objective):
    """Another closure, of the same parameters, that a direction learns curvature from."""

    def __init__(self, objective: ParameterObjective, closure: Closure) -> None:
        super().__init__()
        self.objective, self.closure = objective, closure

    def _evaluate(self, x: Tensor, curvature: bool) -> Evaluation:
        main = self.objective
        main.put(x)
        main.evaluations += 1
        own, main.closure = main.closure, self.closure
        try:
            return main._evaluation(x, *main._call(curvature=False))
        finally:
            main.closure = own


class _Here(LinearOperator):
    """The curvature at a place, also after the parameters have moved on: it is then evaluated there once more.

    Writing the parameters in place spoils the graphs that were made before. A place is gone back to only after a
    rejected step, and an evaluation costs less than the memory for copies of all parameters in every graph.
    """

    def __init__(self, objective: ParameterObjective, x: Tensor, operator: Hessian | GaussNewton) -> None:
        super().__init__(operator.size, operator.dtype, operator.device)
        self.objective, self.x, self.operator = objective, x, operator
        self._written = objective._x

    def _product(self, vector: Tensor) -> Tensor:
        if self.objective._x is not self._written:
            self.objective.put(self.x)
            self.objective.evaluations += 1
            found = self.objective._call(curvature=True)[1]
            assert not isinstance(found, list)
            self.operator, self._written = found, self.objective._x
        return self.operator.matvec(vector)
