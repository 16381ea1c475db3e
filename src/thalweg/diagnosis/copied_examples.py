"""Examples that a batch has several times."""

import torch
from torch import Tensor

from thalweg.diagnosis.findings import Finding
from thalweg.diagnosis.observe import FEWEST, Seen
from thalweg.diagnosis.passes import along

SHARE = 0.5


def copied_examples(seen: Seen) -> list[Finding]:
    """Finds batches more than half of whose examples are copies of another, in all inputs and the target.

    Inputs of which none has a fraction, such as tokens, categories and one-hot codes, are left out: they are alike by
    chance.

    >>> from torch import nn
    >>> from thalweg.diagnosis.observe import observe
    >>> x, y = torch.randn(3, 5).repeat(6, 1), torch.ones(18, 1)
    >>> found = copied_examples(observe(nn.Linear(5, 1), (x, y), nn.functional.mse_loss))
    >>> [(f.kind, round(f.figure, 2), f.threshold) for f in found]
    [('copied examples', 0.83, 0.5)]

    Source: Deep Learning, §8.1.3 (examples are drawn independently, as by a shuffle).
    """
    n = seen.examples
    given = [t for t in (*seen.inputs, seen.target) if isinstance(t, Tensor) and t.dim() and t.layout == torch.strided]
    rows = [
        t.detach().movedim(dims[0], 0).flatten(1) if t.dim() > 1 else t[:, None] for t in given if (dims := along(t, n))
    ]
    if n < FEWEST or not any(r.is_floating_point() and bool((r != r.round()).any()) for r in rows):
        return []
    kinds = torch.stack([r.unique(dim=0, return_inverse=True)[1] for r in rows], 1)
    distinct = len(kinds.unique(dim=0))
    share = 1 - distinct / n
    if share <= SHARE:
        return []
    meaning = f"{n} examples are {distinct} different ones: a batch of copies has the gradient of the few that differ"
    return [Finding("copied examples", "warning", "inputs", share, meaning, _fix(seen), threshold=SHARE)]


def _fix(seen: Seen) -> str:
    """Returns the line that keeps the first of each, where that many different ones can be judged."""
    if len(seen.inputs) != 1 or not isinstance(seen.target, Tensor) or seen.examples != len(seen.inputs[0]):
        return ""
    first = "{row: i for i, row in reversed([*enumerate(map(tuple, inputs.flatten(1).tolist()))])}"
    return f"keep = sorted({first}.values()); inputs, target = inputs[keep], target[keep]  # or draw each once"
