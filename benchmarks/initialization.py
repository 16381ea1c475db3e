"""Initializing a large model against drawing as many normal numbers, and exactly k inputs per unit against torch.

The model has 100 million parameters in eight dense layers; drawing is one ``normal_`` into allocated memory. The sparse
weight is 4096 × 4096 with 15 inputs per unit, and is compared with ``torch.nn.init.sparse_`` at the same share of
zeros.
"""

from typing import Any

import torch
from torch import nn

from benchmarks.measure import alternately, ratio, seconds, table
from thalweg.initialization import initialize, sparse_

WIDTH, LAYERS, ROUNDS = 3536, 8, 5


def measure() -> dict[str, Any]:
    """Returns seconds of each."""
    model = nn.Sequential(*(module for _ in range(LAYERS) for module in (nn.Linear(WIDTH, WIDTH), nn.ReLU())))
    numbers, weight = torch.empty(sum(p.numel() for p in model.parameters())), torch.empty(4096, 4096)
    draws = torch.Generator().manual_seed(0)
    runs = {
        "initialize, he": lambda: seconds(lambda: initialize(model, "he", draws)),
        "as many normal numbers": lambda: seconds(lambda: numbers.normal_(generator=draws)),
        "sparse, 15 a unit": lambda: seconds(lambda: sparse_(weight, draws)),
        "torch.nn.init.sparse_": lambda: seconds(lambda: nn.init.sparse_(weight, 1 - 15 / 4096)),
    }
    return {"parameters": numbers.numel(), "seconds": alternately(runs, ROUNDS)}


def show(found: dict[str, Any]) -> str:
    """Returns the table."""
    taken = found["seconds"]
    (ours, theirs), (sparse, torchs) = list(taken)[:2], list(taken)[2:]
    rows = [[name, sorted(s)[len(s) // 2] * 1e3] for name, s in taken.items()]
    large, small = ratio(taken[ours], taken[theirs]), ratio(taken[torchs], taken[sparse])
    return (
        f"{table(['what', 'ms'], rows)}\n\n"
        f"- {found['parameters']:,} parameters: {large:.3g} times the time of the normal numbers (goal: 1.2).\n"
        f"- Exactly k inputs per unit: {small:.3g} times as fast as torch's sparse_ (goal: 20)."
    )
