"""Drives optimizers as their authors' loops do: what an optimizer asks of a loop beside ``step()`` is known here.

How it wants its gradients is found at the first step, by what it takes without complaint:

============== =============================== ===================================================================
form           the author's loop               optimizers
============== =============================== ===================================================================
gradient       backward, ``step()``            most
graph          backward with a graph, step     those that differentiate gradients, as AdaHessian
closure        ``step(closure)``               those that evaluate the loss themselves, where they like
both           backward, ``step(closure)``     those that go on from a gradient to another point, as SAM
============== =============================== ===================================================================

Every gradient is counted, and a product with the Hessian as two. ``train()`` and ``eval()``, where an optimizer has
them, are called around training and evaluation; see :func:`thalweg.compare.execution.optimizers.set_mode`.
"""

import copy
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from thalweg.compare.execution.cannot_run import CannotRun, by_optimizer
from thalweg.compare.execution.optimizer_state import Remembered, inner
from thalweg.tensors.draws import global_states, restore_states

Evaluate = Callable[[bool], Tensor]  # leaves the gradient, with its graph if asked; returns the loss
FORMS: tuple[Literal["gradient"], Literal["graph"], Literal["closure"], Literal["both"]]
FORMS = ("gradient", "graph", "closure", "both")
GRAPHS = ("grad_fn", "create_graph", "require grad")  # words of an error that asks for the graph of gradients
GRAPH = 3  # gradient evaluations that a gradient and a product with the Hessian are counted as


class Driver:
    """Takes the steps of a strategy's optimizers, of which the first may ask for a closure.

    Arguments:
        optimizers: to drive.
        form: how the first wants its gradients; None where that is to be found.

    Attributes:
        cost: gradient evaluations of the dearest step so far.
    """

    def __init__(self, optimizers: Sequence[Any], form: str | None = None, cost: int = 1) -> None:
        self.optimizers, self.form, self.cost = optimizers, form, cost
        self._losses: list[Tensor] = []
        self._raised: list[BaseException] = []  # by the loss

    def step(self, evaluate: Evaluate, scaler: torch.amp.GradScaler | None = None) -> list[Tensor]:
        """Takes a step, with a loss that is scaled where there is a scaler.

        Returns:
            The losses of the gradients that it took, the first first.

        Raises:
            CannotRun: an optimizer raises an error.
        """
        self._losses, self._evaluate = [], evaluate
        with by_optimizer(own=self._raised):
            if scaler is not None:
                self.form = "gradient"
                self._gradient()
                for optimizer in self.optimizers:
                    scaler.step(optimizer)
                return self._losses
            if self.form is None:
                self.form = self._found()
            elif self.form == "closure":
                self.optimizers[0].step(self._closure)
            elif self.form == "both":
                self._gradient()
                self.optimizers[0].step(self._closure)
            else:
                self._gradient(self.form == "graph")
                self.optimizers[0].step()
            for optimizer in self.optimizers[1:]:
                optimizer.step()
        if not self._losses:
            raise CannotRun("asks for a closure, and never calls it")
        if self.form == "graph":
            for p in self._params():
                p.grad = None  # it holds the graph, which holds it
        self.cost = max(self.cost, self.evaluations)
        return self._losses

    @property
    def evaluations(self) -> int:
        """How many gradient evaluations the last step is counted as."""
        return GRAPH if self.form == "graph" else len(self._losses)

    def _gradient(self, graph: bool = False) -> Tensor:
        try:
            with torch.enable_grad():
                loss = self._evaluate(graph)
        except Exception as error:
            self._raised.append(error)
            raise
        self._losses.append(loss)
        return loss

    def _closure(self) -> Tensor:
        return self._gradient()

    def _found(self) -> str:
        """Takes the first step, and returns in which form."""
        optimizer, before = self.optimizers[0], [p.detach().clone() for p in self._params()]
        undo, draws = _undoing(self.optimizers[:1]), global_states()
        known = self._gradient()
        stepping = global_states()
        try:
            optimizer.step()
            return "gradient"
        except Exception as error:
            if not self._is_at(before):
                raise
            first = error
        undo()
        if any(word in str(first) for word in GRAPHS):
            self._losses.clear()
            restore_states(draws)
            with warnings.catch_warnings(action="ignore", category=UserWarning):  # of the graph, which is let go of
                known = self._gradient(True)
            try:
                optimizer.step()
                return "graph"
            except Exception:
                if not self._is_at(before):
                    raise
            undo()
        restore_states(stepping)
        grads, called = [p.grad for p in self._params()], list[bool]()

        def closure() -> Tensor:
            at_start = self._is_at(before)
            called.append(at_start)
            if at_start and all(p.grad is grad for p, grad in zip(self._params(), grads, strict=True)):
                return known
            if at_start:
                self._losses.pop()  # evaluated for nothing
            return self._gradient()

        try:
            optimizer.step(closure)
        except TypeError as error:
            raise (error if called else first) from first
        return "closure" if called[:1] == [True] else "both"

    def _params(self) -> list[Tensor]:
        return [p for optimizer in self.optimizers for group in optimizer.param_groups for p in group["params"]]

    def _is_at(self, before: Sequence[Tensor]) -> bool:
        return all(torch.equal(p, q) for p, q in zip(self._params(), before, strict=True))


def _undoing(optimizers: Sequence[Any]) -> Callable[[], None]:
    """Returns what makes optimizers again what they are now, where a step fails that has not moved anything."""
    every = inner(optimizers)
    remembered = Remembered(every)
    try:
        states = [copy.deepcopy(one.state_dict()) for one in every]
    except Exception:  # what has no state that can be copied is cut off later, with the reason
        return lambda: None

    def undo() -> None:
        for one, state in zip(every, states, strict=True):
            one.load_state_dict(copy.deepcopy(state))
        remembered.undo()

    return undo
