"""Is the verdict true? Null studies, planted differences and coverage, measured on real runs of a real model.

A null study compares a strategy with itself. A planted difference is a shift of one strategy's scores.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats

from benchmarks.measure import table
from thalweg.compare import statistics
from thalweg.compare.execution.context import TaskContext
from thalweg.compare.execution.job import Job
from thalweg.compare.execution.lanes import Lanes
from thalweg.compare.strategy import Strategy
from thalweg.compare.study.verdict import decide
from thalweg.compare.task import materialize
from thalweg.compare.task.loading import load_task

SEEDS, STUDIES, COVERED = 10, 200, 500
STEPS, PLANTED = 60, 3.5
RESAMPLES = 2000

Scores = NDArray[np.float64]


def measure() -> dict[str, Any]:
    """Returns the rates.

    Runs are of Adam on ``digits``, under independent seeds: pairing a strategy with itself under the same seed
    would give equal scores, which nobody would call different.
    """
    runs = _runs(2 * STUDIES * SEEDS + COVERED * SEEDS)
    nulls = runs[: 2 * STUDIES * SEEDS].reshape(STUDIES, 2, SEEDS)
    told_apart = sum(_winner(a, b) is not None for a, b in nulls)
    # The standard error is that of the population of paired differences, not of each study's own ten.
    error = float((nulls[:, 0] - nulls[:, 1]).std(ddof=1)) / SEEDS**0.5
    found = sum(_winner(a + PLANTED * error, b) == "a" for a, b in nulls)
    samples = runs[2 * STUDIES * SEEDS :].reshape(COVERED, SEEDS)
    truth = float(runs.mean())
    rng = np.random.default_rng(0)
    forms = {
        "Student's t (used)": [statistics.mean_interval(x.tolist())[1:] for x in samples],
        "percentile bootstrap": [_percentile(x, rng) for x in samples],
        "studentized bootstrap": [_studentized(x, rng) for x in samples],
    }
    return {
        "runs": len(runs),
        "distinct_scores": len(np.unique(runs)),
        "skewness": float(stats.skew(runs)),
        "null_studies": STUDIES,
        "told_apart": told_apart / STUDIES,
        "planted_standard_errors": PLANTED,
        "planted_found": found / STUDIES,
        "coverage": {name: float(np.mean([low <= truth <= high for low, high in f])) for name, f in forms.items()},
        "median_width": {name: float(np.median([high - low for low, high in f])) for name, f in forms.items()},
    }


def _runs(count: int) -> Scores:
    """Returns the test accuracy of ``count`` independent runs."""
    task = load_task("digits")
    context = TaskContext(task, materialize(task), torch.device("cpu"))
    adam = Strategy.parse("adam")
    jobs = [Job(str(seed), adam, dict(adam.defaults), seed, 0, STEPS, STEPS, STEPS, test=True) for seed in range(count)]
    return np.array([result.test for result in Lanes(context, 50).run(jobs, lambda _: None)])


def _winner(a: Scores, b: Scores) -> str | None:
    return decide({"a": a.tolist(), "b": b.tolist()}, "max", "accuracy").winner


def _percentile(x: Scores, rng: np.random.Generator) -> tuple[float, float]:
    means = rng.choice(x, (RESAMPLES, len(x))).mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def _studentized(x: Scores, rng: np.random.Generator) -> tuple[float, float]:
    drawn = rng.choice(x, (RESAMPLES, len(x)))
    spread = drawn.std(axis=1, ddof=1)
    kept = spread > 0
    t = (drawn[kept].mean(axis=1) - x.mean()) / (spread[kept] / len(x) ** 0.5)
    low, high = np.quantile(t, [0.025, 0.975])
    error = x.std(ddof=1) / len(x) ** 0.5
    return float(x.mean() - high * error), float(x.mean() - low * error)


def show(found: dict[str, Any]) -> str:
    """Returns the tables."""
    studies = found["null_studies"]
    first = table(
        ["question", "rate", "goal"],
        [
            [
                f"a strategy separated from itself, in {studies} studies",
                f"{found['told_apart']:.1%}",
                "≤ 5 %",
            ],
            [
                f"difference of {found['planted_standard_errors']} standard errors found, in {studies} studies",
                f"{found['planted_found']:.1%}",
                "≥ 80 %",
            ],
        ],
    )
    second = table(
        [f"95 % interval of {SEEDS} seeds", f"coverage, {COVERED} studies", "median width"],
        [[name, f"{rate:.1%}", found["median_width"][name]] for name, rate in found["coverage"].items()],
    )
    return f"{first}\n\n{second}"
