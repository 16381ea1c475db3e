"""A batch so small that units and scales cannot be judged by it."""

from thalweg.diagnosis.findings import Finding
from thalweg.diagnosis.observe import FEWEST, Seen


def few_examples(seen: Seen) -> list[Finding]:
    """Notes a batch of fewer than 8 examples.

    >>> import torch
    >>> from torch import nn
    >>> from thalweg.diagnosis.observe import observe
    >>> batch = (torch.randn(2, 3), torch.randn(2, 1))
    >>> [f.figure for f in few_examples(observe(nn.Linear(3, 1), batch, nn.functional.mse_loss))]
    [2.0]
    """
    if seen.examples >= FEWEST:
        return []
    meaning = f"dead and saturated units can be recognized from {FEWEST} examples on: pass a larger batch"
    return [Finding("few examples", "note", "", float(seen.examples), meaning)]
