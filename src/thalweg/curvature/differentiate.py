"""Derivatives of a graph that stays: one call of autograd whose errors say what to do."""

from collections.abc import Sequence

import torch
from torch import Tensor

from thalweg.tensors.error_texts import is_changed, is_gone, lacks_derivative

# What torch says, and what it means to someone who wants curvature.
GONE = "the graph of the loss is gone: the closure must return the loss without calling backward()"
CHANGED = "a tensor of the graph was changed in place after the loss was computed: recompute the loss and the curvature"
ONCE = (
    "an operation of the model has no second derivative. For flash attention, compute the loss under "
    "torch.nn.attention.sdpa_kernel(SDPBackend.MATH); for recurrent layers of cuDNN, under "
    "torch.backends.cudnn.flags(enabled=False); for compiled models, call the uncompiled one"
)


def check_graph(loss: Tensor, params: Sequence[Tensor]) -> None:
    """Checks that the loss is one real number with a graph, and that the parameters can be differentiated.

    Raises:
        ValueError: naming which of this does not hold.
    """
    if loss.numel() != 1 or not loss.is_floating_point():
        raise ValueError(f"the loss must be one real number, not a {loss.dtype} tensor of shape {tuple(loss.shape)}")
    if not params:
        raise ValueError("there are no parameters to differentiate with respect to")
    fixed = [i for i, p in enumerate(params) if not p.requires_grad]
    if fixed:
        raise ValueError(f"parameter {fixed[0]} does not require a gradient: pass the trainable ones")
    if not loss.requires_grad:
        raise ValueError("the loss has no graph: it was detached, or computed under no_grad or from constants")


def gradients(
    outputs: Sequence[Tensor],
    inputs: Sequence[Tensor],
    cotangents: Sequence[Tensor] | None = None,
    create_graph: bool = False,
) -> list[Tensor | None]:
    """Returns Σ_k (∂outputs_k / ∂inputs_i)ᵀ cotangents_k for each i, None where nothing depends on it; keeps the graph.

    Arguments:
        outputs: tensors with a graph; none at all gives None throughout.
        inputs: tensors of the graph to differentiate by.
        cotangents: as many tensors as outputs, in their shapes; by default 1 for a scalar output.
        create_graph: whether the result can be differentiated again.

    Raises:
        ValueError: the graph was freed by a backward pass, or a tensor in it was changed in place.
        NotImplementedError: an operation cannot be differentiated twice.

    >>> x = torch.tensor(3.0, requires_grad=True)
    >>> gradients([x**2], [x])
    [tensor(6.)]
    """
    if not outputs:
        return [None] * len(inputs)
    try:
        found: Sequence[Tensor | None] = torch.autograd.grad(
            outputs, inputs, cotangents, retain_graph=True, create_graph=create_graph, allow_unused=True
        )
    except RuntimeError as error:
        if is_gone(error):
            raise ValueError(GONE) from error
        if is_changed(error):
            raise ValueError(CHANGED) from error
        if lacks_derivative(error):
            raise NotImplementedError(f"{ONCE}. (torch: {error})") from error
        raise
    return list(found)


def filled(found: Sequence[Tensor | None], like: Sequence[Tensor]) -> list[Tensor]:
    """Returns the derivatives, zeros in the shapes of ``like`` where there are none.

    >>> filled([None], [torch.ones(2)])
    [tensor([0., 0.])]
    """
    return [torch.zeros_like(t) if d is None else d.detach() for d, t in zip(found, like, strict=True)]
