"""How long a diagnosis takes with everything that it measures: of ``digits``, and of a model of 10 million parameters.

The large model has five dense layers of 1,500 units and batches of 64 examples; ``digits`` is the command as a user
runs it, imports included.
"""

import subprocess
import sys
from typing import Any

import torch
from torch import nn

import thalweg
from benchmarks.measure import seconds, table

ROUNDS = 3


def measure() -> dict[str, Any]:
    """Returns seconds of each."""
    torch.manual_seed(0)
    model = nn.Sequential(
        *(part for width in (784, 1500, 1500, 1500, 1500) for part in (nn.Linear(width, 1500), nn.ReLU())),
        nn.Linear(1500, 10),
    )
    batches = [(torch.randn(64, 784), torch.randint(10, (64,))) for _ in range(32)]
    command = [sys.executable, "-m", "thalweg", "diagnose", "digits"]
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "digits": [seconds(lambda: subprocess.run(command, check=True, capture_output=True)) for _ in range(ROUNDS)],
        "large": [
            seconds(lambda: thalweg.diagnose(model, batches[0], nn.functional.cross_entropy, more=batches[1:]))
            for _ in range(ROUNDS)
        ],
    }


def show(found: dict[str, Any]) -> str:
    """Returns the table."""
    large = f"{found['parameters']:,} parameters"
    rows = [
        ["thalweg diagnose digits", sorted(found["digits"])[ROUNDS // 2], "15"],
        [large, sorted(found["large"])[ROUNDS // 2], "90"],
    ]
    return table(["what", "seconds", "asked: at most"], rows)
