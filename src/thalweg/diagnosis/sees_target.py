"""A sequence model that sees what it is to predict: outputs change with later tokens, as without a causal mask."""

from torch import Tensor

from thalweg.diagnosis.findings import Finding
from thalweg.diagnosis.observe import Seen
from thalweg.diagnosis.passes import evaluated, tensors_of

SHARE, INFLUENCE = 0.95, 3e-5


def sees_target(seen: Seen) -> list[Finding]:
    """Finds a model whose targets are the next tokens of its inputs, and whose outputs change with later ones.

    >>> import torch
    >>> from torch import nn
    >>> from thalweg.diagnosis.observe import observe
    >>> layer = nn.TransformerEncoderLayer(8, 2, 8, batch_first=True)
    >>> net, x = nn.Sequential(nn.Embedding(20, 8), layer, nn.Linear(8, 20)), torch.randint(20, (9, 13))
    >>> def loss(y, t):
    ...     return nn.functional.cross_entropy(y.transpose(1, 2), t)
    >>> [f.kind for f in sees_target(observe(net, (x[:, :-1], x[:, 1:]), loss))]
    ['sees its target']

    Source: Deep Learning, §10.2.3 (the chain rule of a sequence); Vaswani et al. 2017, §3.2.3.
    """
    target = seen.target
    if not isinstance(target, Tensor) or target.dim() != 2 or target.is_floating_point() or target.shape[1] < 4:
        return []
    length = target.shape[1]
    at = next((i for i, x in enumerate(seen.inputs) if isinstance(x, Tensor) and _before(x, target)), None)
    if at is None:
        return []
    place = length // 2
    tokens: Tensor = seen.inputs[at]
    later = tokens.clone()
    later[:, place:] = tokens[:, place:].roll(1, 0).roll(1, 1)
    try:
        changed = evaluated(seen, (*seen.inputs[:at], later, *seen.inputs[at + 1 :]))[0]
    except Exception:  # a model may take only what it was trained on
        return []
    influence = 0.0
    for a, b in zip(tensors_of(seen.calm[0]), tensors_of(changed), strict=False):
        dims = [d for d in range(a.dim()) if a.shape[d] == length and not (d == 0 and length == len(target))]
        if a.shape == b.shape and dims and a.dim() > 2:
            early = (a.double() - b.double()).abs().narrow(dims[0], 0, place)
            influence = max(influence, float(early.max()) / max(float(a.double().square().mean().sqrt()), 1e-300))
    if influence <= INFLUENCE:
        return []
    meaning = "the targets are the next tokens, and outputs depend on later tokens: the model sees what it predicts"
    return [Finding("sees its target", "error", "", influence, meaning, _fix(seen), threshold=INFLUENCE)]


def _before(tokens: Tensor, target: Tensor) -> bool:
    if tokens.shape != target.shape or tokens.is_floating_point():
        return False
    return float((tokens[:, 1:] == target[:, :-1]).double().mean()) > SHARE


def _fix(seen: Seen) -> str:
    from torch import nn

    names = [n for n, m in seen.model.named_modules() if isinstance(m, nn.TransformerEncoder)]
    if not names:
        return ""
    mask = "mask=torch.nn.Transformer.generate_square_subsequent_mask(args[0].shape[1]), is_causal=True"
    return (
        f"model.get_submodule({names[0]!r}).register_forward_pre_hook("
        f"lambda m, args, kwargs: (args, kwargs | dict({mask})), with_kwargs=True)"
    )
