"""How evenly attention is spread: the entropy of its rows, from the scores as they are."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

EXAMPLES = 8
FEWEST = 4  # keys that a row may choose among, so that it says something
MASKED = -9e3


class Spread(NamedTuple):
    """Entropy as a share of the largest, and the deviation of the scores within their rows."""

    entropy: float
    scores: float


@torch.no_grad()
def entropy(scores: Tensor, dim: int = -1) -> Spread | None:
    """Returns the mean over rows of the entropy of softmax(scores) as a share of log n, n open keys; and the spread.

    A score below −9,000 is a mask; rows with fewer than 4 open keys are left out.

    >>> entropy(torch.zeros(2, 8)), entropy(torch.eye(8) * 1000), entropy(torch.zeros(2, 3))
    (Spread(entropy=1.0, scores=0.0), Spread(entropy=0.0, scores=330.718914), None)
    """
    rows = scores.detach().double().movedim(dim, -1).flatten(0, -2)
    open_ = rows > MASKED
    counts = open_.sum(-1)
    kept = counts >= FEWEST
    if not bool(kept.any()):
        return None
    chances = rows[kept].masked_fill(~open_[kept], -math.inf).softmax(-1)
    own = torch.special.entr(chances).sum(-1) / counts[kept].double().log()
    size = rows[kept].masked_fill(~open_[kept], math.nan)
    size = (size - size.nanmean(-1, keepdim=True)).square().nanmean().sqrt()
    return Spread(round(float(own.mean()), 6), round(float(size), 6))


def entropy_of_call(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Spread | None:
    """Returns the entropy of the rows of a call of ``softmax`` or ``scaled_dot_product_attention``."""
    given = dict(zip(("query", "key", "value", "attn_mask", "dropout_p", "is_causal"), args, strict=False)) | dict(
        kwargs
    )
    if name == "softmax":
        scores = args[0] if args else kwargs.get("input")
        dim = kwargs.get("dim", args[1] if len(args) > 1 else None)
        if not isinstance(scores, Tensor) or not isinstance(dim, int) or scores.dim() < 2:
            return None
        return entropy(_some(scores, dim), dim)
    query, key = _wide(_some(given["query"])), _wide(_some(given["key"]))
    if query.dim() < 2 or query.shape[:-2] != key.shape[:-2]:
        return None
    scale = given.get("scale") or query.shape[-1] ** -0.5
    scores = query.detach() @ key.detach().transpose(-2, -1) * scale
    mask = given.get("attn_mask")
    if given.get("is_causal"):
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if isinstance(mask, Tensor):
        mask = _some(mask) if mask.dim() == scores.dim() else mask
        scores = scores.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else scores + mask
    return entropy(scores)


@torch.no_grad()
def entropy_of_module(module: nn.MultiheadAttention, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Spread | None:
    """Returns the entropy of the rows of torch's attention module, its masks left out but that of causality."""
    given = dict(zip(("query", "key", "value"), args, strict=False)) | dict(kwargs)
    query, key = given["query"].detach(), given["key"].detach()
    if module.in_proj_weight is None or query.dim() != 3:
        return None
    if not module.batch_first:
        query, key = query.transpose(0, 1), key.transpose(0, 1)
    width = module.embed_dim
    biases = (None, None) if module.in_proj_bias is None else _wide(module.in_proj_bias).split(width)[:2]
    weights = module.in_proj_weight.split(width)[:2]
    heads = [
        linear(_wide(x[:EXAMPLES]), _wide(w), b).unflatten(-1, (module.num_heads, -1)).transpose(1, 2)
        for x, w, b in zip((query, key), weights, biases, strict=True)
    ]
    scores = heads[0] @ heads[1].transpose(-2, -1) * heads[0].shape[-1] ** -0.5
    mask = given.get("attn_mask")
    if isinstance(mask, Tensor) and mask.dim() == 2:
        scores = scores.masked_fill(mask, -math.inf) if mask.dtype == torch.bool else scores + mask
    return entropy(scores)


def _some(tensor: Tensor, dim: int = -1) -> Tensor:
    """Returns the first few examples, which do for a mean; all where the shares are over them."""
    return tensor if dim % max(tensor.dim(), 1) == 0 else tensor[:EXAMPLES]


def _wide(tensor: Tensor) -> Tensor:
    """Returns a tensor in float32 where its type is a smaller one, whose products may overflow."""
    return tensor.float() if tensor.dtype.itemsize < 4 else tensor
