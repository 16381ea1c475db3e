"""Dolan and Moré's performance profiles of the minimizers, from the records of ``python -m benchmarks minimizers``."""

import json
import math
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, PercentFormatter

RECORDS = Path(__file__).parents[1] / "benchmarks" / "minimizers.json"
FARTHEST = 64
# Solver -> colour of its family, and dashes; thalweg's are solid.
DASHES, DOTS = (0, (4, 1.5)), (0, (1, 1.2))
GRADIENTS = {
    "thalweg lbfgs": ("tab:blue", "-"),
    "SciPy L-BFGS-B": ("tab:blue", DASHES),
    "torch LBFGS": ("tab:blue", DOTS),
    "thalweg bfgs": ("tab:orange", "-"),
    "SciPy BFGS": ("tab:orange", DASHES),
    "thalweg cg": ("tab:green", "-"),
    "SciPy CG": ("tab:green", DASHES),
}
PRODUCTS = {
    "thalweg truncated-newton": ("tab:purple", "-"),
    "SciPy trust-ncg": ("tab:purple", DASHES),
    "SciPy Newton-CG": ("tab:purple", DOTS),
    "thalweg newton": ("tab:red", "-"),
    "SciPy trust-exact": ("tab:red", DASHES),
}


def draw() -> Figure:
    """Returns a profile of the solvers that use gradients alone, and one of those that use Hessian products too."""
    runs = json.loads(RECORDS.read_text(encoding="utf-8"))["found"]["runs"]
    figure = Figure(figsize=(9, 4.2))
    left, right = figure.subplots(1, 2, sharey=True)
    _profile(left, runs, GRADIENTS)
    _profile(right, runs, PRODUCTS)
    left.set_title("gradients alone", loc="left")
    right.set_title("gradients and Hessian products", loc="left")
    left.set(ylabel=f"share of the {len(runs)} problems solved", xlabel="… with at most τ × the cheapest's evaluations")
    right.set(xlabel="… with at most τ × the cheapest's evaluations and products")
    return figure


def _profile(axes: Axes, runs: dict[str, Any], solvers: dict[str, tuple[str, Any]]) -> None:
    ratios = _ratios(runs, list(solvers))
    for solver, (colour, dashes) in solvers.items():
        found = sorted(ratios[solver])
        # A step up at each ratio, the last level drawn past the edge.
        shares = [(i + 1) / len(runs) for i in range(len(found))]
        ours = dashes == "-"
        axes.step(
            [1, *found, 1e9],
            [0, *shares, shares[-1]],
            where="post",
            color=colour,
            linestyle=dashes,
            lw=2.2 if ours else 1.4,
            zorder=3 if ours else 2,
            label=f"{solver}  {len(found)}",
        )
        near, far = (sum(r <= factor for r in found) / len(runs) for factor in (1, 2))
        print(f"{solver}: cheapest on {near:.0%}, within twice the cheapest on {far:.0%}, solves {len(found)}")
    axes.set(xscale="log", xlim=(1, FARTHEST), ylim=(0, 1.015))
    axes.xaxis.set_major_locator(FixedLocator([2**i for i in range(round(math.log2(FARTHEST)) + 1)]))
    axes.xaxis.set_major_formatter("{x:.0f}")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.legend(loc="lower right", fontsize=8, title="solver, problems solved", title_fontsize=8, handlelength=2.6)


def _ratios(runs: dict[str, Any], solvers: list[str]) -> dict[str, list[float]]:
    """Returns, for each solver, the costs of what it solves over the least cost among the solvers drawn with it."""
    ratios: dict[str, list[float]] = {solver: [] for solver in solvers}
    for found in runs.values():
        costs = {s: found[s]["evaluations"] + found[s]["products"] for s in solvers if found[s]["solved"]}
        for solver, cost in costs.items():
            ratios[solver].append(cost / min(costs.values()))
    return ratios
