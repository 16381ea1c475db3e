"""The graph of a model, read by torch.fx."""

from torch import fx, nn

from thalweg.tensors.layers import NORMS


class NotTraceable(ValueError):
    """The model's graph cannot be read; the message says what to pass instead."""


class _Tracer(fx.Tracer):
    """Takes every normalization for one piece, as torch's own modules are."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, NORMS) or super().is_leaf_module(m, module_qualified_name)


def trace(model: nn.Module, instead: str) -> fx.Graph:
    """Returns the graph of a model, in which torch's own modules and normalizations are one piece each.

    Arguments:
        model: any module; it is not changed.
        instead: what to do where the graph cannot be read; ends the message.

    Raises:
        NotTraceable: the graph depends on values.

    >>> [node.op for node in trace(nn.Sequential(nn.Linear(2, 3), nn.ReLU()), "").nodes]
    ['placeholder', 'call_module', 'call_module', 'output']
    """
    try:
        return _Tracer().trace(model)
    except Exception as error:
        line = (str(error).splitlines() or [type(error).__name__])[0]
        raise NotTraceable(f"the model's graph cannot be read ({line}): {instead}") from error
