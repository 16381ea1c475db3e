"""Saturated attention: scores so far apart that each query takes one key, and that no gradient comes to the others."""

from functools import partial

from torch import nn

from thalweg.diagnosis.findings import Choice, Finding
from thalweg.diagnosis.observe import Seen
from thalweg.initialization.model import initialize

LEAST = 0.4


def saturated_attention(seen: Seen) -> list[Finding]:
    """Finds attention whose rows have a mean entropy below 0.4 of the largest.

        H = −Σ_j p_j log p_j / log n,   p = softmax(scores of one query), n open keys

    It is named by the layers that the scores come from.

    >>> import torch
    >>> from torch import nn
    >>> from thalweg.diagnosis.observe import observe
    >>> net = nn.TransformerEncoderLayer(8, 2, 8, batch_first=True)
    >>> _ = net.self_attn.in_proj_weight.data.mul_(30)
    >>> found = saturated_attention(observe(net, (torch.randn(9, 6, 8), torch.randn(9, 6, 8)), nn.functional.mse_loss))
    >>> [(f.layer, f.threshold) for f in found]
    [('self_attn', 0.4)]

    Source: Deep Learning, §6.2.2.3 (a softmax saturates), §12.4.5.1; Vaswani et al. 2017, §3.2.1.
    """
    found = []
    named: set[str] = set()
    for layer in seen.layers.values():
        if layer.entropy is None or layer.entropy >= LEAST or named & (twins := _twins(seen, layer.reads)):
            continue
        named |= twins
        meaning = f"attention has {layer.entropy:.0%} of its maximum entropy: softmax passes hardly any gradient"
        name, by = layer.name, max(layer.scores, 1.0)
        place = f"model.get_submodule({name!r})"
        draw = Choice(f'thalweg.initialization.initialize({place}, "glorot-normal")', partial(_draw, name), False)
        divide = Choice(
            f"[p.data.div_({by:.3g}) for p in {place}.parameters()]", partial(_divide, name, float(f"{by:.3g}")), False
        )
        choices = (draw, divide)
        found.append(
            Finding("saturated attention", "warning", name, layer.entropy, meaning, threshold=LEAST, choices=choices)
        )
    return found


def _twins(seen: Seen, reads: int) -> set[str]:
    return {layer.name for layer in seen.layers.values() if layer.reads == reads}


def _draw(name: str, model: nn.Module) -> None:
    initialize(model.get_submodule(name), "glorot-normal")


def _divide(name: str, by: float, model: nn.Module) -> None:
    for p in model.get_submodule(name).parameters():
        p.data.div_(by)
