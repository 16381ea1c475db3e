"""Deterministic minimizers on the 35 problems of Moré, Garbow and Hillstrom: how many they solve, and at what cost.

A solver solves a problem if one of its first 3,000 evaluations is at a point with ‖∇f‖∞ ≤ 1e-9 max(1, ‖∇f(x₀)‖∞). One
evaluation is the value and the gradient at one point; all solvers evaluate through one counter, which also decides
whether a problem is solved. A product is one Hessian-vector product, and a whole Hessian counts as n products; the cost
is evaluations plus products. Tolerances are so tight that a solver ends only when it can make no more progress; no
solver is restarted. The criterion is relative to the start, so a few points that meet it are not minima; a column gives
the number of problems that end at a listed minimum. The last table is for the 16 problems that are also published at
another dimension.
"""

import warnings
from statistics import median
from typing import Any

import numpy as np
import torch

from benchmarks.measure import table
from benchmarks.problems import OTHER_DIMENSIONS, PROBLEMS, Problem
from benchmarks.solvers import LIMIT, SOLVERS, TOLERANCE, Counted, Exhausted, Solved, Solver

TIMES = [1, 2, 4, 8, 16, 32]
PICTURE = (
    "![Share of the problems solved against the cost](gallery/performance_profile.svg)\n\n"
    "Drawn from these runs by `python -m docs.gallery performance_profile`: see the "
    "[gallery](gallery.md#performance-profiles-of-the-minimizers)."
)


def measure() -> dict[str, Any]:
    """Returns every run, the sums, and the ratios to the best solver of each problem."""
    torch.set_num_threads(1)
    runs, others = (
        {problem.name: {name: _run(solver, problem) for name, solver in SOLVERS.items()} for problem in problems}
        for problems in (PROBLEMS, OTHER_DIMENSIONS)
    )
    families: dict[str, list[str]] = {}
    for name, solver in SOLVERS.items():
        families.setdefault(solver.family, []).append(name)
    return {
        "limit": LIMIT,
        "tolerance": TOLERANCE,
        "solvers": {name: _summary([found[name] for found in runs.values()]) for name in SOLVERS},
        "families": {family: _together(runs, names) for family, names in families.items()},
        "ratios": _ratios(runs),
        "runs": runs,
        "other_dimensions": {name: _summary([found[name] for found in others.values()]) for name in SOLVERS},
        "other_runs": others,
    }


def _run(solver: Solver, problem: Problem) -> dict[str, Any]:
    counted = Counted(problem)
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            message = solver.run(counted, problem.start)
    except Solved:
        message = "solved"
    except Exhausted:
        message = f"{LIMIT} evaluations"
    except (ArithmeticError, ValueError, np.linalg.LinAlgError) as error:  # overflow within the solver
        message = f"{type(error).__name__}: {error}"
    solved = counted.solved_at is not None
    return {
        "solved": solved,
        "evaluations": counted.solved_at if solved else counted.evaluations,
        "products": counted.products,
        "value": counted.value,
        "at_a_minimum": solved and _at_a_minimum(problem, counted.value),
        "message": message,
    }


def _at_a_minimum(problem: Problem, value: float) -> bool:
    """Returns whether the value is a listed minimum's to a millionth of it, or of the smaller of 1 and f(x₀)."""
    least = min(1.0, float(problem(problem.start)))
    return any(abs(value - minimum) <= 1e-6 * max(minimum, least) for minimum in problem.minima)


def _summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    solved = [run for run in runs if run["solved"]]
    return {
        "solved": len(solved),
        "at_a_minimum": sum(run["at_a_minimum"] for run in solved),
        "evaluations": sum(run["evaluations"] for run in solved),
        "products": sum(run["products"] for run in solved),
    }


def _together(runs: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """Returns the sums over the problems that all the named solvers solve."""
    common = [found for found in runs.values() if all(found[name]["solved"] for name in names)]
    return {
        "problems": len(common),
        "solvers": {
            name: {
                "evaluations": sum(found[name]["evaluations"] for found in common),
                "products": sum(found[name]["products"] for found in common),
            }
            for name in names
        },
    }


def _ratios(runs: dict[str, Any]) -> dict[str, list[float | None]]:
    """Returns each solver's cost over the least cost, problem by problem; None where it does not solve it.

    The share of the 35 with a ratio of at most τ, as a function of τ, is Dolan and Moré's performance profile
    (E. D. Dolan, J. J. Moré, Mathematical Programming 91 (2002), 201–213).
    """
    ratios: dict[str, list[float | None]] = {name: [] for name in SOLVERS}
    for found in runs.values():
        costs = {name: run["evaluations"] + run["products"] for name, run in found.items() if run["solved"]}
        for name in SOLVERS:
            ratios[name].append(costs[name] / min(costs.values()) if name in costs else None)
    return ratios


def show(found: dict[str, Any]) -> str:
    """Returns the tables."""
    count = len(found["runs"])
    sums = {name: (family, one) for family, one in found["families"].items() for name in one["solvers"]}
    rows = []
    for name, one in found["solvers"].items():
        family, together = sums[name]
        shared = together["solvers"][name]
        rows.append(
            [
                name,
                one["solved"],
                one["at_a_minimum"],
                f"{family}, {together['problems']}",
                f"{shared['evaluations']:,}",
                f"{shared['products']:,}",
            ]
        )
    head = ["solver", f"solved of {count}", "at a listed minimum", "problems that its whole family solves"]
    first = table([*head, "evaluations on them", "products on them"], rows)
    names = list(found["ratios"])
    profile = [
        [
            name,
            *(f"{sum(r is not None and r <= times for r in ratios) / count:.0%}" for times in TIMES),
            _typical(ratios),
        ]
        for name, ratios in found["ratios"].items()
    ]
    second = table(
        ["solved at a cost of at most", *(f"{times} × the best" for times in TIMES), "median ratio"], profile
    )
    third = table(
        ["evaluations (+ products)", *names],
        [[problem, *(_cost(runs[name]) for name in names)] for problem, runs in found["runs"].items()],
    )
    others = found["other_runs"]
    fourth = table(
        [
            "solver, at other dimensions",
            f"solved of {len(others)}",
            "at a listed minimum",
            "evaluations (+ products)",
        ],
        [
            [name, one["solved"], one["at_a_minimum"], f"{one['evaluations']:,}" + _and(one["products"])]
            for name, one in found["other_dimensions"].items()
        ],
    )
    return f"{first}\n\n{PICTURE}\n\n{second}\n\n{third}\n\n{fourth}"


def _share(ratios: list[float | None], times: float) -> float:
    return sum(ratio is not None and ratio <= times for ratio in ratios) / len(ratios)


def _typical(ratios: list[float | None]) -> float | None:
    solved = [ratio for ratio in ratios if ratio is not None]
    return float(median(solved)) if solved else None


def _cost(run: dict[str, Any]) -> str | None:
    if not run["solved"]:
        return None
    return f"{run['evaluations']}{_and(run['products'])}"


def _and(products: int) -> str:
    return f" + {products:,}" if products else ""
