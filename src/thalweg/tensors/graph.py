"""The graph of a model, read by torch.fx: one, or one for each way that a forward pass may take."""

import inspect
import warnings
from itertools import combinations
from typing import Any

from torch import fx, nn

from thalweg.tensors.layers import NORMS, WEIGHTED

WAYS, CHOICES = 64, 24  # at most: graphs of a model, and choices by a value in one forward pass


class NotTraceable(ValueError):
    """The model's graph cannot be read; the message says what to pass instead."""


class _Tracer(fx.Tracer):
    """Takes every normalization, and what else is asked for, for one piece, as torch's own modules are."""

    def __init__(self, pieces: tuple[type[nn.Module], ...]) -> None:
        super().__init__()
        self.pieces = pieces

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, self.pieces) or super().is_leaf_module(m, module_qualified_name)


class _BranchTracer(_Tracer):
    """Answers each question for a value as planned, those beyond the plan with yes."""

    def __init__(self, plan: list[bool]) -> None:
        super().__init__((*NORMS, *WEIGHTED))
        self.plan, self.chosen = plan, list[bool]()

    def to_bool(self, obj: fx.Proxy) -> bool:
        if len(self.chosen) >= CHOICES:
            raise fx.proxy.TraceError(f"more than {CHOICES} choices depend on values")
        self.chosen.append(self.plan[len(self.chosen)] if len(self.chosen) < len(self.plan) else True)
        return self.chosen[-1]


def trace(model: nn.Module, instead: str, pieces: tuple[type[nn.Module], ...] = NORMS) -> fx.Graph:
    """Returns the graph of a model, in which torch's own modules and the pieces are one node each.

    Arguments:
        model: any module; it is not changed.
        instead: what to do where the graph cannot be read; ends the message.
        pieces: kinds of modules that are not looked into either, whatever forward they have.

    Raises:
        NotTraceable: the graph depends on values.

    >>> [node.op for node in trace(nn.Sequential(nn.Linear(2, 3), nn.ReLU()), "").nodes]
    ['placeholder', 'call_module', 'call_module', 'output']
    """
    try:
        return _traced(_Tracer(pieces), model, {})
    except Exception as error:
        line = (str(error).splitlines() or [type(error).__name__])[0]
        raise NotTraceable(f"the model's graph cannot be read ({line}): {instead}") from error


def all_traces(model: nn.Module) -> list[fx.Graph]:
    """Returns a graph for each way through a forward pass: by what values decide, and by which options are given.

    Layers and normalizations are one node each. A way that ends in an exception of the model's own has none.

    Raises:
        NotTraceable: the ways are too many, or not decided by whether values are true.

    >>> class Branching(nn.Module):
    ...     def forward(self, x, y=None):
    ...         return x.relu() if x.sum() > 0 else x if y is None else y
    >>> len(all_traces(Branching()))
    4
    """
    options = {n: p.default for n, p in inspect.signature(model.forward).parameters.items() if p.default is not p.empty}
    few = [names for count in range(len(options) + 1) for names in combinations(options, count)]
    graphs = []
    for left_out in few if len(options) <= 3 else [n for n in few if len(n) in (0, 1, len(options) - 1, len(options))]:
        plans: list[list[bool]] = [[]]
        while plans:
            plan = plans.pop()
            tracer = _BranchTracer(plan)
            try:
                graphs.append(_traced(tracer, model, {name: options[name] for name in left_out}))
            except Exception as error:
                if not tracer.chosen or not _own(error):
                    raise NotTraceable(str(error)) from error
            plans += [[*tracer.chosen[:i], False] for i in range(len(plan), len(tracer.chosen))]
            if len(plans) + len(graphs) > WAYS:
                raise NotTraceable(f"there are more than {WAYS} ways through it")
    if not graphs:
        raise NotTraceable("no way through it ends")
    return graphs


def _traced(tracer: fx.Tracer, model: nn.Module, given: dict[str, Any]) -> fx.Graph:
    before = set(vars(model))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it cannot assert what was given
            return tracer.trace(model, given or None)
    finally:
        for name in set(vars(model)) - before:  # constants that the tracer met
            delattr(model, name)


def _own(error: Exception) -> bool:
    """Says whether the model itself raised the exception, as for an input that it refuses."""
    if isinstance(error, fx.proxy.TraceError) or not isinstance(error, (ValueError, RuntimeError, AssertionError)):
        return False
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    return last is not None and not str(last.tb_frame.f_globals.get("__name__")).startswith("torch")
