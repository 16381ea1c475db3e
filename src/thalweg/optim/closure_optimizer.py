"""The torch.optim face of a second-order method: groups, closure, state, reports; the method itself is below."""

import math
import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.distributed import ProcessGroup
from torch.optim import Optimizer

from thalweg.averaging import Average
from thalweg.optim.closure_state import StepReport, blank, divided, joined, limits_of, scale_of
from thalweg.optim.one_pass import check_average
from thalweg.optim.parameter_objective import Closure, Curvature, NoGradient, Pair, ParameterObjective
from thalweg.optim.settings import check_added, check_settings, check_step_settings
from thalweg.second_order import Direction, Model, NotFinite, descend, follow_model
from thalweg.second_order.descent import search_for
from thalweg.second_order.objective import factor_for
from thalweg.second_order.progress import Place
from thalweg.second_order.ranks import Ranks, ranks_of
from thalweg.tensors.vector import to_vector

Params = Iterable[Tensor] | Iterable[dict[str, Any]] | Iterable[tuple[str, Tensor]]
Group = dict[str, Any]

OWN = ("weight_decay", "decay")  # in which groups may differ
LIKE = 10.0  # a step that begins with a gradient so many times another than the last one ended with begins anew


class ClosureOptimizer(Optimizer):
    """Base class of the methods whose step evaluates a closure several times; a subclass gives its direction or model.

    The closure is the objective of the whole step: with minibatches, let it use one batch throughout. Each step keeps
    the state of earlier ones, and stops when the minimum is estimated to be near, from the decrease of the gradient
    along the way: multiplying the loss by a constant changes nothing. The record of the decrease is discarded if a step
    begins with a gradient ten times larger or smaller than at the end of the last step. At the very first step, the
    closure is evaluated twice at the start, in addition to ``max_eval``; if the values differ, a warning is issued.

    Attributes:
        report: the last step's :class:`StepReport`.
        average: the :class:`thalweg.averaging.Average` of the points at which the steps end, if there is one.
        process_group: the group of the ranks that each hold all parameters and evaluate the loss together, if there is
            one.
    """

    rests = False  # whether a step without any gradient changes nothing, with a warning; else it is an error
    loose = True  # whether the line search may be
    distributed = False  # whether ranks may hold shares of the parameters
    share = 3.0  # of ``max_iter``, how many evaluations a step has by default, but at least 25
    report: StepReport | None = None
    average: Average | None = None
    process_group: ProcessGroup | None = None

    def __init__(
        self,
        params: Params,
        defaults: Group,
        average: Average | None = None,
        process_group: ProcessGroup | None = None,
    ) -> None:
        super().__init__(params, defaults)
        self.average, self.process_group = average, process_group
        check_average(average, self.param_groups)
        self._ranks()  # parameters that cannot be stepped together are refused now

    def add_param_group(self, param_group: Group) -> None:
        """Adds a group of parameters. Raises ValueError for a setting out of its range."""
        check_added(param_group)
        super().add_param_group(param_group)
        try:
            self._check(self.param_groups[-1])
        except ValueError:
            self.param_groups.pop()
            raise

    def _check(self, group: Group) -> None:
        """Raises ValueError for a setting out of its range, or parameters that the method cannot step."""
        try:
            self._method(group)
        except TypeError as error:  # of a comparison
            raise ValueError(f"a setting is not a number: {error}") from error
        check_settings(group)
        check_step_settings(group)
        if not self.distributed and any(hasattr(p, "device_mesh") for p in group["params"]):
            raise ValueError(
                f"{type(self).__name__} cannot step sharded parameters (DTensor), because its matrix spans the "
                "shards: use LBFGS or ConjugateGradient"
            )

    @abstractmethod
    def _method(self, group: Group) -> Direction | Model:
        """Returns the method that the group's settings ask for."""

    def _curvature(self, group: Group) -> Curvature | None:
        """Returns which matrix the method wants of a place; none by default."""
        return None

    def step(
        self,
        closure: Closure | None = None,
        pair: Closure | None = None,
        callback: Callable[[float], bool | None] | None = None,
    ) -> Any:
        """Takes one step of up to ``max_iter`` iterations; returns the loss at its end.

        Arguments:
            closure: evaluates the loss, and may call ``backward`` on it or leave that to us; methods with curvature
                need it left.
            pair: of methods with a direction: another closure, from whose gradients at both ends of each step the
                method learns curvature, as from a larger sample, or from what two minibatches have in common.
            callback: receives the loss after each iteration, with the parameters at that point; True ends the step.

        Raises:
            NotAnObjective: the closure gives no scalar, no gradient, or a loss that is not finite where the step
                begins. The parameters are then, as after any error of the closure's own, at the last good point.
            RuntimeError: there is no closure.
        """
        if self.average is not None:
            self.average.check("step")
        with torch.no_grad():
            if closure is None:
                self._bare()
                return None
            loss = self._step(closure, pair, callback)
        if self.average is not None:
            self.average.update()
        return loss

    def _step(self, closure: Closure, pair: Closure | None, callback: Callable[[float], bool | None] | None) -> Tensor:
        group, self.report = self._settings(), None
        kind = self._curvature(group)
        objective = ParameterObjective(self.param_groups, closure, kind or "hessian", self._ranks())
        try:
            x = objective.begin(curvature=kind is not None)
        except NoGradient as nothing:
            if not self.rests:
                raise
            warnings.warn(f"{nothing}; the step changes nothing", RuntimeWarning, stacklevel=4)
            loss = torch.as_tensor(nothing.loss)
            self.report = StepReport("gradient", 0, 1, 0, float(loss), 0.0)
            return loss
        state = self._state()
        if not state:
            objective.check_repeats(type(self).__name__, x.dtype)
        state["members"] = self._members(objective.params)
        method, lr = self._resume(group, x, state), float(group["lr"])
        start, last = objective.start.norm, float(state["last_norm"])
        if not LIKE * last > start > last / LIKE:  # another batch, loss or start than before
            state["first_norm"].fill_(math.nan)
            if factor_for(start * float(state["factor"]), x.dtype, part=3) != 1:
                method.prepare(x)
                state["factor"].fill_(factor_for(start, x.dtype))
                state["last_step"].fill_(math.nan)
        objective.factor = float(state["factor"])
        if math.isnan(objective.factor):
            objective.factor = factor_for(start, x.dtype)
        scale, limits = scale_of(state), limits_of(group, state, objective.evaluations, not lr, self.share)
        good = x

        def on_iteration(place: Place) -> bool | None:
            nonlocal good
            good = place.x
            objective.put(good)
            return callback(place.loss) if callback else None

        try:
            if isinstance(method, Model):
                if pair is not None:
                    raise TypeError(f"{type(self).__name__} does not use pairs: omit pair=")
                report = follow_model(objective, x, method, limits, on_iteration, lr=lr)
            else:
                search = search_for(group["line_search_fn"], x.dtype, self.loose)
                other = None if pair is None else Pair(objective, pair)
                report = descend(objective, x, method, search, limits, on_iteration, scale=scale, lr=lr, pairs=other)
        finally:  # whatever comes of it, the parameters are at the last good point and what was learned is kept
            objective.put(good)
            state |= method.state()
            state["func_evals"] = state["func_evals"] + objective.evaluations
            if scale.last:
                state["last_step"] = torch.tensor(scale.last, dtype=torch.float64)
        place = report.place
        if not place.finite:
            raise NotFinite(
                "the gradient is not finite where the step begins: the parameters are unchanged; correct the inputs "
                "or the parameters first"
            )
        state["n_iter"] = state["n_iter"] + report.iterations
        norm = place.norm / objective.factor
        for name, value in (("first_norm", report.first), ("last_norm", norm), ("factor", objective.factor)):
            state[name] = torch.tensor(value, dtype=torch.float64)
        state["approach"] = report.approach.state()
        counts = report.iterations, objective.evaluations, objective.products
        self.report = StepReport(report.ending, *counts, place.loss, norm)
        return torch.tensor(place.loss, dtype=x.dtype, device=x.device)

    def _bare(self) -> None:
        """Creates all state where gradients and lr are zero, as distributed checkpoints ask before they load."""
        group = self._settings()
        params = [p for g in self.param_groups for p in g["params"] if p.requires_grad]
        if float(group["lr"]) or any(p.grad is not None and bool(p.grad.any()) for p in params):
            raise RuntimeError(
                f"{type(self).__name__} evaluates the loss several times a step: call step(closure), where closure() "
                "returns it. Trainers that call step() without a closure, and gradient scaling in float16, cannot "
                "use it: take "
                "bfloat16 or float32 and a loop of your own"
            )
        state = self._state()
        if params and not state:
            state["members"] = self._members(params)
            state |= self._resume(group, to_vector(params), state).state()

    def _settings(self) -> Group:
        """Returns the settings, which all groups share but for their parameters and weight decay."""
        first = self.param_groups[0]
        for group in self.param_groups[1:]:
            for name, value in first.items():
                if name in self.defaults and name not in OWN and group[name] != value:
                    raise ValueError(
                        f"{type(self).__name__} steps all groups together: {name} is {value} in one group and "
                        f"{group[name]} in another: give them the same value"
                    )
        return first

    def _ranks(self) -> Ranks:
        """Returns the ranks that step these parameters together."""
        return ranks_of(self._params(), self.process_group)

    def _params(self) -> list[Tensor]:
        return [p for group in self.param_groups for p in group["params"]]

    def _members(self, params: list[Tensor]) -> Tensor:
        """Returns which of all parameters these are."""
        index = {id(p): i for i, p in enumerate(self._params())}
        return torch.tensor([index[id(p)] for p in params])

    def _state(self) -> dict[str, Tensor]:
        """Returns the state of all groups, which hangs on the first parameter."""
        return self.state[self._params()[0]]

    def _resume(self, group: Group, x: Tensor, state: dict[str, Tensor]) -> Direction | Model:
        """Returns the method with what it learned, anew where the vector's size or a setting has changed."""
        method, shapes = self._method(group), self._method(group)
        for name, value in blank().items():
            state.setdefault(name, value)
        shapes.prepare(x.to("meta"))  # nothing is allocated there
        wanted = shapes.state()
        if all(name in state and state[name].shape == value.shape for name, value in wanted.items()):
            method.load({name: state[name].to(value.dtype) for name, value in wanted.items()})
        else:
            method.prepare(x)
        return method

    def state_dict(self) -> dict[str, Any]:
        """Returns the state, whose vectors are divided among the parameters."""
        packed = super().state_dict()
        own = packed["state"].get(0, {})
        if "members" in own:
            packed["state"] = divided(own, self._method(self.param_groups[0]).vectors, self._params())
        return packed

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Loads a state; its tensors keep their types, whatever the parameters' is.

        Raises:
            ValueError: the state is of another model, or a setting is out of its range; nothing is changed then.
        """
        before = self.state, self.param_groups
        super().load_state_dict(state_dict)
        given = [i for group in state_dict["param_groups"] for i in group["params"]]
        states, params = [state_dict["state"].get(i, {}) for i in given], self._params()
        try:
            own = joined(states, self._method(self.param_groups[0]).vectors, params)
        except ValueError:
            self.state, self.param_groups = before
            raise
        self.state.clear()
        if own:
            self.state[params[0]] = own

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "average": self.average, "report": self.report}

    def __setstate__(self, state: dict[str, Any]) -> None:
        defaults = state.get("defaults") or self.defaults
        for group in state["param_groups"]:  # of a copy, or of what is loaded, which is refused before it is taken on
            self._check({**defaults, **group})
        super().__setstate__(state)
        for group in self.param_groups:
            for key, value in self.defaults.items():
                group.setdefault(key, value)
