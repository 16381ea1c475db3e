"""The torch.optim face of an update rule: groups, state, engines; the method itself is the rule's."""

import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any, overload

import torch
from torch import Tensor
from torch.optim import Optimizer

from thalweg.averaging import Average
from thalweg.optim.entries import (
    HALF,
    Entry,
    Forms,
    Group,
    Rows,
    check_sparse,
    prepare,
    scalar_dtype,
    state_dtype,
    worked_out,
)
from thalweg.optim.entries import check as check_entries
from thalweg.optim.group import step_group
from thalweg.optim.implementations import Engine
from thalweg.optim.kernel.engine import Kernels
from thalweg.optim.one_pass import check_average, clip_coefficients, global_gradient_norm, mean_of
from thalweg.optim.settings import OPTIONS, Options, check_added, check_options, check_settings, engine_of
from thalweg.rules.rule import Rule, with_equations
from thalweg.tensors.private import step_is_observed

Params = Iterable[Tensor] | Iterable[dict[str, Any]] | Iterable[tuple[str, Tensor]]

NORM_IN_BACKWARD = "norm_in_backward has no effect and will be removed: the norm is that of the gradient at the step"


class RuleOptimizer(Optimizer):
    """Base class of the optimizers with an update rule; a subclass names its rule and its hyperparameters.

    Every optimizer has these arguments in addition to those of its method.

    Arguments:
        params: parameters, groups or ``(name, parameter)`` pairs.
        maximize: ascend instead of descend.
        engine: ``"triton"``, ``"foreach"``, ``"compiled"`` or ``"auto"``, see below.
        options: ``clip_norm``, ``skip_nonfinite``, ``average``, ``decay``, see :class:`Options`; torch's
            ``capturable`` and ``differentiable``, and its ``foreach`` and ``fused`` as requests for an engine.

    The engines are ``"triton"`` (on an NVIDIA GPU, one kernel for all tensors that Triton compiles from the rule, and
    one for the norm of the gradient; ``"foreach"`` for parameters on other devices), ``"foreach"`` (one kernel per
    operation over lists of tensors), ``"compiled"`` (one pass over the memory of each large tensor through
    torch.compile; ``"foreach"`` with one warning if there is no compiler) and ``"auto"`` (on an NVIDIA GPU,
    ``"triton"``, or ``"foreach"`` with one warning if Triton is missing; on a CPU, torch's fused kernels for plain
    steps of the rules that have one; otherwise compiled from four million elements on). torch's ``fused=True`` requests
    the triton engine on a GPU and the compiled one elsewhere, and ``foreach=True`` the one over lists. In a function
    that torch.compile compiles, the step is traced with the rest.

    The state of float16 and bfloat16 parameters is float32. SGD and AdaGrad accept sparse gradients, as torch's do;
    AdaGrad, and SGD without momentum, then read and write only the rows that have a gradient.

    With torch's ``differentiable=True`` gradients flow through steps, to parameters, gradients, state and
    hyperparameters that are tensors; with its ``capturable=True`` no step waits for the device, so that a CUDA graph
    can hold it.

    In the same pass over memory, a step can clip the norm of the gradient (``clip_norm``), change nothing if the
    gradient is not finite (``skip_nonfinite``), and average the parameters (``average``); see :class:`Options`. Weight
    decay applies to all parameters, as in torch; ``decay="weights"`` excludes biases, the scales of normalizations, and
    all other parameters of at most one dimension.

    On the CPU, a skipped step changes nothing but :attr:`skipped`. On other devices, where the host does not wait for
    the norm, the current point is averaged once more.

    Attributes:
        average: the :class:`thalweg.averaging.Average` that each step updates; it has its own state.
        gradient_norm: ‖g‖ of the last step before clipping, a tensor on the device of the parameters; None if no group
            clips or skips.

    >>> from thalweg.averaging import EMA, Average
    >>> from thalweg.optim import Adam
    >>> model = torch.nn.Linear(3, 1)
    >>> average = Average(model, EMA(0.99))
    >>> optimizer = Adam(model.parameters(), clip_norm=1.0, skip_nonfinite=True, average=average)
    >>> (model(torch.ones(3)) / 0).sum().backward()
    >>> optimizer.step()
    >>> optimizer.skipped, average.step
    (1, 0)
    """

    average: Average | None = None
    gradient_norm: Tensor | None = None
    _forms: Forms | None = None
    _kernels: Kernels | None = None

    def __init_subclass__(cls) -> None:
        """Puts what the rule's module states in the place of the docstring's reference to its equations."""
        super().__init_subclass__()
        cls.__doc__ = with_equations(cls.__doc__ or "")

    def __init__(self, params: Params, defaults: Group, engine: Engine, maximize: bool, options: Options) -> None:
        engine = engine_of(engine, options)
        if options.get("norm_in_backward"):
            warnings.warn(NORM_IN_BACKWARD, DeprecationWarning, stacklevel=3)
        own = {name: options.get(name, value) for name, value in OPTIONS.items()}
        defaults = {**defaults, "maximize": maximize, "engine": engine, **own}
        check_settings(defaults)
        super().__init__(params, defaults)
        self.average = options.get("average")
        check_average(self.average, self.param_groups)

    @property
    def skipped(self) -> int:
        """Number of steps that were skipped because their gradient was not finite; reading it waits for the device."""
        return max((int(group["skipped"]) for group in self.param_groups), default=0)

    @abstractmethod
    def rule_of(self, group: Group) -> Rule:
        """Returns the form of the rule that the group's settings ask for."""

    def hyper_of(self, group: Group) -> dict[str, Any]:
        """Returns the hyperparameters of the group's rule; the two of ``betas`` have names of their own there."""
        values = {**group, **dict(zip(("beta1", "beta2"), group.get("betas", ()), strict=False))}
        return {name: values[name] for name in self.rule_of(group).defaults}

    def add_param_group(self, param_group: Group) -> None:
        """Adds a group of parameters. Raises ValueError for a setting out of its range."""
        check_added(param_group)
        super().add_param_group(param_group)
        try:
            check_settings(self.param_groups[-1])
        except ValueError:
            self.param_groups.pop()
            raise

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Takes one step; with a closure, evaluates it first and returns its loss.

        Raises:
            RuntimeError: a gradient, a state or a mean has not the shape, device, type or memory that its parameter
                asks for; nothing is changed then.
        """
        kernels = self._kernels if closure is None and not torch.compiler.is_compiling() else None
        if kernels is not None and not step_is_observed(self) and kernels.again(self):
            return None
        own = type(self).step is RuleOptimizer.step  # torch calls the hooks of a step that a subclass has written
        given = () if closure is None else (closure,)
        return _hooked(self, *given) if own else self._step(*given)

    @torch.no_grad()
    def _step(self, closure: Callable[[], float] | None = None) -> float | None:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        average = self.average
        if average is not None:
            average.check("step")
        stepped: list[Tensor] = []
        work, sparse = self._work()
        kernels = None if torch.compiler.is_compiling() else self._kernels
        if kernels is None:
            norm = global_gradient_norm(self.param_groups, [e.grad for _, _, entries in work for e in entries])
        else:
            kernels.look(work)
            norm = kernels.global_norm(work)
        self.gradient_norm = norm.value
        for group, rule, entries in work:
            if norm.finite is False and group["skip_nonfinite"]:
                group["skipped"] += 1
                continue
            extra = clip_coefficients(group, norm)
            if "ok" in extra:
                group["skipped"] = group["skipped"] + (1 - extra["ok"])
            if average is not None:
                extra["average"] = average.weight
            if entries:
                self._step_group(group, rule, entries, extra)
            stepped += [e.p for e in entries if e.mean is not None]
        for rows in sparse:
            rows.put()
        if average is not None and not (norm.finite is False and any(g["skip_nonfinite"] for g in self.param_groups)):
            average.update(stepped)
        if kernels is not None:
            kernels.settle(self, work)
        return loss

    def _work(self) -> tuple[list[tuple[Group, Rule, list[Entry]]], list[Rows]]:
        """Returns groups, rules, and the entries of all parameters that have a gradient, checked and with all state.

        Of sparse gradients the entries are rows, which are also returned apart.
        """
        if self._forms is None:
            self._forms, self._kernels = Forms(), Kernels()
        work: list[tuple[Group, Rule, list[Entry]]] = []
        average, flat = self.average, self._forms.all_flat
        for group in self.param_groups:
            check_options(group)
            entries = [
                Entry(p, grad, self.state.get(p) or {}, mean_of(average, p), flat)
                for p in group["params"]
                for grad in (p.grad,)
                if grad is not None
            ]
            rule = self.rule_of(group)
            if any(e.grad.is_sparse for e in entries):
                check_sparse(type(self).__name__, rule, group)
            work.append((group, rule, entries))
        if self._forms.same(work):
            return work if flat else self._forms.marked(work), []
        check_entries(type(self).__name__, work)
        for group, rule, entries in work:
            for i, entry in enumerate(entries):
                self.state[entry.p] = entry.state
                prepare(entry, rule, group["capturable"])
                entries[i] = worked_out(entry, rule)
        self._forms.note(work)
        sparse: list[Rows] = []
        for _, rule, entries in work:
            for i, entry in enumerate(entries):
                if entry.grad.is_sparse:
                    sparse.append(Rows(entry, rule))
                    entries[i] = sparse[-1].entry
        return work, sparse

    def _step_group(self, group: Group, rule: Rule, entries: list[Entry], extra: dict[str, Any]) -> None:
        hyper = self.hyper_of(group)
        if isinstance(hyper["lr"], Tensor):
            with torch.set_grad_enabled(group["differentiable"]):
                hyper["lr"] = hyper["lr"].reshape(())
        if self._kernels is not None and not torch.compiler.is_compiling():
            entries = self._kernels.step(group, rule, entries, hyper, extra)
        step_group(group, rule, entries, hyper, extra)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Loads a state, this library's or torch's; float32 state of half-precision parameters stays float32."""
        made: dict[str, Any] = {}  # by the hooks that are there: it is theirs to reorder, rename and drop parameters

        def restore(_: Optimizer) -> None:
            given = [i for group in made["param_groups"] for i in group["params"]]
            own = [(p, group) for group in self.param_groups for p in group["params"]]
            for index, (p, group) in zip(given, own, strict=True):
                self._restore(p, group, made["state"].get(index, {}))

        last = self.register_load_state_dict_pre_hook(lambda _, given: made.update(given))
        first = self.register_load_state_dict_post_hook(restore, prepend=True)
        try:
            super().load_state_dict(state_dict)
        finally:
            last.remove()
            first.remove()

    def _restore(self, p: Tensor, group: Group, given: Mapping[str, Any]) -> None:
        """Gives the parameter's loaded state the types that were saved, where torch has cast them."""
        rule = self.rule_of(group)
        for name, value in given.items():
            if name in rule.scalar_state:
                where = p.device if group["capturable"] else "cpu"
                self.state[p][name] = torch.as_tensor(value).to(where, scalar_dtype(), copy=True)
            elif (
                name in (*rule.buffers, *rule.factor_names)
                and isinstance(value, Tensor)
                and (p.dtype in HALF or value.is_sparse)
            ):
                dense = value.to_dense() if value.is_sparse else value
                self.state[p][name] = dense.to(p.device, state_dtype(p), copy=True)

    def __getstate__(self) -> dict[str, Any]:
        own = ("average", "gradient_norm", "rule")  # and nothing that schedulers and scalers hang on an optimizer
        return {**super().__getstate__(), **{name: vars(self)[name] for name in own if name in vars(self)}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for group in state["param_groups"]:  # of a copy, or of what is loaded, which is refused before it is taken on
            check_settings(group)
        super().__setstate__(state)
        for group in self.param_groups:
            for key, value in {**OPTIONS, **self.defaults}.items():
                group.setdefault(key, value)
        for entries in self.state.values():
            if "step" in entries and not isinstance(entries["step"], Tensor):
                entries["step"] = torch.tensor(float(entries["step"]), dtype=scalar_dtype())


_hooked = Optimizer.profile_hook_step(RuleOptimizer._step)
RuleOptimizer.step.hooked = True  # type: ignore[attr-defined]  # which keeps torch from doing so at every step
