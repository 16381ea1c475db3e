"""The cost of a product with the Hessian or the Gauss–Newton matrix, in gradients (goal: a Hessian product ≤ 3).

A gradient is the forward pass to the loss and the backward pass. Building the Hessian is the same with the graph of the
gradient kept. It is done once per point, and each product at that point differentiates this graph once more. Labels and
inputs are random, and the type is float32. Attention uses torch's math kernel, because the fused ones have no second
derivative.
"""

from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.measure import alternately, ratio, seconds, table
from thalweg.curvature import GaussNewton, Hessian

CLASSES = 10


def perceptron() -> tuple[nn.Module, Tensor]:
    """784-512-512-10, batches of 256."""
    layers = [nn.Linear(784, 512), nn.SiLU(), nn.Linear(512, 512), nn.SiLU(), nn.Linear(512, CLASSES)]
    return nn.Sequential(*layers), torch.randn(256, 784)


def convolution() -> tuple[nn.Module, Tensor]:
    """Three convolutions of 3 × 3 on 28 × 28 pixels, the last two of stride 2, batches of 64."""
    layers = [
        nn.Conv2d(1, 16, 3, padding=1),
        nn.SiLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.SiLU(),
        nn.Conv2d(32, 64, 3, stride=2, padding=1),
        nn.SiLU(),
        nn.Flatten(),
        nn.Linear(64 * 7 * 7, CLASSES),
    ]
    return nn.Sequential(*layers), torch.randn(64, 1, 28, 28)


class Block(nn.Module):
    """A transformer's block, the norms first."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mix, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.wide = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        """Returns the block's output, in the shape of its input ``(batch, length, width)``."""
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in self.mix(self.before(x)).chunk(3, dim=-1))
        attended = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(attended.transpose(1, 2).flatten(2))
        return x + self.wide(self.between(x))


def attention() -> tuple[nn.Module, Tensor]:
    """Two transformer blocks of width 128 and 4 heads, batches of 8 sequences of 64."""
    return nn.Sequential(Block(128, 4), Block(128, 4), nn.Linear(128, CLASSES)), torch.randn(8, 64, 128)


MODELS: dict[str, Callable[[], tuple[nn.Module, Tensor]]] = {
    "perceptron": perceptron,
    "convolution": convolution,
    "attention": attention,
}


def measure(rounds: int = 31) -> dict[str, Any]:
    """Returns, for each model, medians in milliseconds and ratios to a gradient."""
    return {name: _measure(make, rounds) for name, make in MODELS.items()}


def _measure(make: Callable[[], tuple[nn.Module, Tensor]], rounds: int) -> dict[str, Any]:
    torch.manual_seed(0)
    model, inputs = make()
    params = list(model.parameters())
    with torch.no_grad():
        labels = torch.randint(CLASSES, model(inputs).shape[:-1])

    def loss() -> tuple[Tensor, Tensor]:
        outputs = model(inputs)
        return nn.functional.cross_entropy(outputs.flatten(0, -2), labels.flatten()), outputs

    with sdpa_kernel(SDPBackend.MATH):
        hessian, (at, outputs) = Hessian(loss()[0], params), loss()
        gauss_newton = GaussNewton(at, outputs, params)
        vector = torch.randn(hessian.size)
        runs = {
            "gradient": lambda: torch.autograd.grad(loss()[0], params),
            "building the Hessian": lambda: Hessian(loss()[0], params),
            "Hessian product": lambda: hessian @ vector,
            "Gauss–Newton product": lambda: gauss_newton @ vector,
        }
        for run in runs.values():  # what is done once, at first
            run()
        found = alternately({name: (lambda run=run: seconds(run)) for name, run in runs.items()}, rounds)
    return {
        "parameters": hessian.size,
        "milliseconds": {name: 1000 * median(values) for name, values in found.items()},
        "gradients": {name: ratio(values, found["gradient"]) for name, values in found.items()},
    }


def show(found: dict[str, Any]) -> str:
    """Returns the table."""
    rows = [
        [
            f"{name}, {one['parameters']:,}",
            one["milliseconds"]["gradient"],
            one["gradients"]["building the Hessian"],
            one["milliseconds"]["Hessian product"],
            one["gradients"]["Hessian product"],
            one["milliseconds"]["Gauss–Newton product"],
            one["gradients"]["Gauss–Newton product"],
        ]
        for name, one in found.items()
    ]
    head = [
        "model, parameters",
        "gradient (ms)",
        "building the Hessian (gradients)",
        "Hessian product (ms)",
        "in gradients",
        "Gauss–Newton product (ms)",
        "in gradients",
    ]
    return table(head, rows)
