"""Truncated Newton against L-BFGS on deep sigmoid networks, full batch: the cost of reaching the same training loss.

The networks are the ten layers of `digits-deep`, and an autoencoder 64-48-24-8-24-48-64 of the same images, both from
Martens's sparse initialization. L-BFGS (strong Wolfe, 15 pairs) runs for 2,000 evaluations. The loss to reach is 1e-3
for the classifier, and the final loss of L-BFGS for the autoencoder. Truncated Newton uses products with the
Gauss–Newton matrix or with the Hessian. The last column gives evaluations + products of the whole run.
"""

import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.measure import table
from thalweg import optim
from thalweg.compare.task import build_model, materialize
from thalweg.compare.task.loading import load_task
from thalweg.initialization import initialize

BUDGET, GOAL = 2000, 1e-3
METHODS: dict[str, Callable[..., optim.ClosureOptimizer]] = {
    "L-BFGS": lambda p: optim.LBFGS(p, tolerance_change=0),
    "Hessian-free, Gauss–Newton": lambda p: optim.TruncatedNewton(p, curvature="gauss_newton"),
    "Hessian-free, Hessian": optim.TruncatedNewton,
    "trust region, Hessian": lambda p: optim.TruncatedNewton(p, globalization="trust_region"),
}


def _classifier() -> tuple[nn.Module, Callable[[Tensor], Tensor]]:
    labels = materialize(load_task("digits-deep")).train.target
    return build_model(load_task("digits-deep")), lambda output: nn.functional.cross_entropy(output, labels)


def _autoencoder() -> tuple[nn.Module, Callable[[Tensor], Tensor]]:
    sizes = [64, 48, 24, 8, 24, 48, 64]
    layers = [layer for a, b in pairwise(sizes) for layer in (nn.Linear(a, b), nn.Sigmoid())]
    images = materialize(load_task("digits-deep")).train.input
    return nn.Sequential(*layers[:-1]), lambda output: nn.functional.binary_cross_entropy_with_logits(output, images)


def measure() -> list[dict[str, Any]]:
    """Returns, for each network and method, what reaching the loss took."""
    found = []
    for name, make in (("classifier", _classifier), ("autoencoder", _autoencoder)):
        goal = GOAL
        for method in METHODS:
            curve = _run(make, method)
            if name == "autoencoder" and method == "L-BFGS":
                goal = curve[-1]["loss"]
            reached = next((point for point in curve if point["loss"] <= goal), None)
            empty = {"evaluations": None, "products": None, "seconds": None}
            found.append({"network": name, "method": method, "goal": goal, **(reached or empty), "end": curve[-1]})
    return found


def _run(make: Callable[[], tuple[nn.Module, Callable[[Tensor], Tensor]]], method: str) -> list[dict[str, float]]:
    inputs = materialize(load_task("digits-deep")).train.input
    torch.manual_seed(0)
    model, loss = make()
    initialize(model, "sparse", torch.Generator().manual_seed(0))
    optimizer = METHODS[method](model.parameters())

    def closure() -> Any:
        output = model(inputs)
        return (loss(output), output) if "Gauss" in method else loss(output)

    curve: list[dict[str, float]] = []
    evaluations = products = 0
    began = time.perf_counter()
    while evaluations < BUDGET and products < 5 * BUDGET:
        optimizer.step(closure)
        report = optimizer.report
        assert report is not None
        evaluations, products = evaluations + report.evaluations, products + report.products
        seconds = time.perf_counter() - began
        curve.append({"evaluations": evaluations, "products": products, "seconds": seconds, "loss": report.loss})
        if not report.iterations:
            break
    return curve


def show(found: list[dict[str, Any]]) -> str:
    """Returns the table."""
    return table(
        ["network", "method", "loss to reach", "evaluations", "products", "seconds", "loss at the end", "after"],
        [
            [
                r["network"],
                r["method"],
                r["goal"],
                r["evaluations"],
                r["products"],
                r["seconds"],
                r["end"]["loss"],
                f"{r['end']['evaluations']:,} + {r['end']['products']:,}",
            ]
            for r in found
        ],
    )
