"""L-BFGS's own time per iteration, without the closure's, at 2,000,000 parameters, compared with torch's.

The lower limit is the time to read S and Y twice, as a sum does. Each optimizer fills its history first, then takes
twenty iterations of one step; closures are timed inside and subtracted. The second table gives the cost of a bfloat16
history in evaluations: on real data with float32 parameters, and on the 35 problems below in float64.
"""

import contextlib
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import thalweg
from benchmarks.measure import alternately, ratio, seconds, table
from benchmarks.problems import PROBLEMS
from benchmarks.solvers import Counted, Exhausted, Solved
from thalweg import optim
from thalweg.compare.task import build_model, materialize
from thalweg.compare.task.loading import load_task

SIZE, ITERATIONS, ROUNDS = 2_000_000, 20, 9
TYPES = (None, torch.bfloat16)


class Quadratic:
    """½ Σ c (p − 1)² with c from 1e-4 to 1, its gradient written by hand; adds up its own time."""

    def __init__(self) -> None:
        self.p = nn.Parameter(torch.zeros(SIZE))
        self.c = torch.logspace(-4, 0, SIZE)
        self.seconds = 0.0

    def __call__(self) -> float:
        began = time.perf_counter()
        with torch.no_grad():
            difference = self.p - 1
            self.p.grad = self.c * difference
            loss = 0.5 * float(self.p.grad @ difference)
        self.seconds += time.perf_counter() - began
        return loss


def measure() -> dict[str, Any]:
    """Returns seconds an iteration for both sizes of the history, and the evaluations that bfloat16 costs."""
    rows = []
    for memory in (10, 50):
        s, y = (torch.randn(memory, SIZE) for _ in range(2))
        runs = {
            "floor": lambda s=s, y=y: seconds(lambda: (s.sum(), y.sum(), s.sum(), y.sum())),
            "float32": _iterations(
                lambda p, m=memory: optim.LBFGS(p, history_size=m, tolerance_grad=0, tolerance_change=0), memory
            ),
            "bfloat16": _iterations(
                lambda p, m=memory: optim.LBFGS(
                    p, history_size=m, tolerance_grad=0, tolerance_change=0, history_dtype=torch.bfloat16
                ),
                memory,
            ),
            "torch": _iterations(
                lambda p, m=memory: torch.optim.LBFGS(
                    p, history_size=m, tolerance_grad=0, tolerance_change=0, line_search_fn="strong_wolfe"
                ),
                memory,
            ),
        }
        rows.append({"memory": memory, **alternately(runs, ROUNDS)})
    return {"time": rows, "evaluations": _evaluations()}


def _iterations(make: Callable[[list[Tensor]], torch.optim.Optimizer], memory: int) -> Callable[[], float]:
    closure = Quadratic()
    optimizer = make([closure.p])
    group = optimizer.param_groups[0]
    group["max_iter"], group["max_eval"] = memory + 1, 10 * memory
    optimizer.step(closure)

    def run() -> float:
        group["max_iter"], group["max_eval"] = ITERATIONS, 10 * ITERATIONS
        closure.seconds, began = 0.0, time.perf_counter()
        optimizer.step(closure)
        return (time.perf_counter() - began - closure.seconds) / ITERATIONS

    return run


def _evaluations() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for name, tolerance in (("breast-cancer", 1e-4), ("digits", 1e-2)):
        task = load_task(name)
        data = materialize(task)
        row: dict[str, Any] = {"on": f"{name}, gradient to {tolerance:g} of the first"}
        for dtype in TYPES:
            torch.manual_seed(0)
            model = build_model(task)
            optimizer = optim.LBFGS(
                model.parameters(),
                max_iter=3000,
                max_eval=3000,
                tolerance_grad=tolerance,
                tolerance_change=0,
                weight_decay=1e-3,
                history_dtype=dtype,
            )
            optimizer.step(lambda m=model, t=task, d=data: t.loss(m(d.train.input), d.train.target))
            report = optimizer.report
            assert report is not None
            row[str(dtype)] = report.evaluations if report.ending == "gradient" else None
        found.append(row)
    solved: dict[torch.dtype, dict[str, int]] = {dtype: {} for dtype in TYPES}
    for problem in PROBLEMS:
        for dtype in TYPES:
            counted = Counted(problem)
            with contextlib.suppress(Solved, Exhausted):
                thalweg.minimize(counted, problem.start, gtol=0, max_evaluations=3000, options={"history_dtype": dtype})
            if counted.solved_at is not None:
                solved[dtype][problem.name] = counted.solved_at
    both = set.intersection(*(set(s) for s in solved.values()))
    totals = {str(dtype): sum(s[name] for name in both) for dtype, s in solved.items()}
    number = ", ".join(str(len(s)) for s in solved.values())
    return [*found, {"on": f"the {len(both)} of the 35 problems that both solve (solved: {number})", **totals}]


def show(found: dict[str, Any]) -> str:
    """Returns the tables."""
    names = ("floor", "float32", "bfloat16", "torch")
    times = table(
        [
            "pairs",
            *(f"{n}, ms" for n in ("limit", *names[1:])),
            "float32 / limit",
            "float32 / torch",
            "bfloat16 / torch",
        ],
        [
            [
                r["memory"],
                *(sorted(r[n])[len(r[n]) // 2] * 1e3 for n in names),
                ratio(r["float32"], r["floor"]),
                ratio(r["float32"], r["torch"]),
                ratio(r["bfloat16"], r["torch"]),
            ]
            for r in found["time"]
        ],
    )
    evaluations = table(
        ["evaluations", "history in the parameters' type", "in bfloat16"],
        [[e["on"], *(e[str(dtype)] for dtype in TYPES)] for e in found["evaluations"]],
    )
    return f"{times}\n\n{evaluations}"
