"""A scheme over a whole model."""

from collections.abc import Callable

import torch
from torch import Generator, Tensor, nn

from thalweg.initialization.constant import constant_
from thalweg.initialization.glorot import glorot_normal_, glorot_uniform_
from thalweg.initialization.he import he_
from thalweg.initialization.layers import WEIGHTED, unit_blocks
from thalweg.initialization.orthogonal import orthogonal_
from thalweg.initialization.sparse import INPUTS, sparse_
from thalweg.initialization.too_large import too_large_
from thalweg.initialization.uniform_fan_in import uniform_fan_in_


def _sparse(weight: Tensor, generator: Generator | None = None) -> Tensor:
    # A layer narrower than the scheme's number of inputs is drawn densely.
    inputs = weight.shape[1:].numel()
    return sparse_(weight, generator, k=min(INPUTS, inputs)) if inputs else weight


# Names to in-place functions (weight, generator); None: each module's own reset.
SCHEMES: dict[str, Callable[[Tensor, Generator | None], Tensor] | None] = {
    "default": None,
    "uniform-fan-in": uniform_fan_in_,
    "glorot-uniform": glorot_uniform_,
    "glorot-normal": glorot_normal_,
    "he": he_,
    "orthogonal": orthogonal_,
    "sparse": _sparse,
    "constant": constant_,
    "too-large": too_large_,
}
_NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


@torch.no_grad()
def initialize(model: nn.Module, scheme: str, generator: Generator) -> None:
    """Draws the model's parameters anew in place: dense and convolution weights by the scheme, their biases 0.

    Embeddings, attention and recurrent modules draw by their own ``reset_parameters``, as everything does under
    ``"default"``; normalizations and parameters that are not trained stay as they are. ``"sparse"`` draws layers with
    fewer inputs than :func:`~thalweg.initialization.sparse_` chooses densely.

    Arguments:
        model: any module.
        scheme: a name of :data:`SCHEMES`.
        generator: source of every draw, on the CPU; the model may be anywhere.

    Raises:
        KeyError: unknown scheme.

    >>> layer = nn.Linear(3, 2)
    >>> initialize(layer, "he", torch.Generator().manual_seed(0))
    >>> layer.bias.tolist()
    [0.0, 0.0]

    Source: Deep Learning, §8.4.
    """
    draw = SCHEMES[scheme]
    seed = int(torch.randint(2**62, (), generator=generator))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for module in model.modules():
            own = list(module.parameters(recurse=False))
            if not any(p.requires_grad for p in own) or isinstance(module, _NORMS):
                continue
            if draw is not None and isinstance(module, WEIGHTED):
                blocks = unit_blocks(module, module.weight)
                units, *inputs = blocks[0].shape
                drawn = draw(torch.empty(len(blocks) * units, *inputs, dtype=module.weight.dtype), generator)
                for block, rows in zip(blocks, drawn.chunk(len(blocks)), strict=True):
                    block.copy_(rows)
                if module.bias is not None:
                    module.bias.zero_()
                continue
            reset = getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None)
            if callable(reset):
                reset()
