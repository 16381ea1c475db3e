"""The experimental design: which configurations are tried, for how long, and which go on.

Every strategy gets its default configuration and N configurations from *one* scrambled Sobol stream, mapped
log-uniformly into its own space; coordinate 0 is always the learning rate, so learning-rate points pair
across strategies. All run to a first rung at a third of the steps, the best third go on to the end. A quarter
of the N is held back until the first rung: where the incumbent lies on the edge of its space, they are spent
in that space widened by a decade on that side, else they continue the stream. The budget stays equal.
"""

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thalweg.tensors import derive_seed

DIMENSIONS = 8
EDGE = 0.1  # a winner in the outer tenth of its range, in the logarithm, lies on the edge
DECADE = 10.0

TITLES = {  # of the rungs, in their order
    "tune-1": "tuning, first rung",
    "tune-2": "tuning, held-back configurations",
    "tune-3": "tuning, the best third to the end",
    "final": "final runs on fresh seeds",
}

Space = Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class Budget:
    """How long and how often: everything about cost, equal for all strategies.

    Arguments:
        trials: N, configurations from the stream beside the default one.
        steps: gradient evaluations of a whole run.
        seeds: paired replicates of the final comparison.
        warmup: steps of the longest warm-up; no run is stopped inside it.
        trial_seconds: how long a run may take from one rung to the next; None for as long as it takes.
    """

    trials: int
    steps: int
    seeds: int
    warmup: int = 0
    trial_seconds: float | None = None

    @property
    def held_back(self) -> int:
        """Configurations kept until the first rung is known."""
        return self.trials // 4

    @property
    def rung(self) -> int:
        """Steps of the first rung: a third, never inside warm-up."""
        return min(self.steps, max(math.ceil(self.steps / 3), self.warmup + 1))

    @property
    def promoted(self) -> int:
        """Configurations of a strategy that go on from the first rung to the end."""
        return math.ceil((self.trials + 1) / 3)

    @property
    def evaluation_interval(self) -> int:
        """Steps between two points of a learning curve: about thirty a run."""
        return max(1, math.ceil(self.steps / 30))

    @property
    def tuning_evaluations(self) -> int:
        """Gradient evaluations that tuning one strategy takes when nothing diverges."""
        return (self.trials + 1) * self.rung + self.promoted * (self.steps - self.rung)

    def rungs(self, strategies: int) -> list[tuple[int, int]]:
        """Returns (number of runs, steps of each) of the rungs of a study of so many strategies."""
        first = (self.trials + 1 - self.held_back, self.rung), (self.held_back, self.rung)
        rest = (self.promoted, self.steps - self.rung), (self.seeds, self.steps)
        return [(strategies * runs, steps) for runs, steps in (*first, *rest)]

    @property
    def final_evaluations(self) -> int:
        """Gradient evaluations of one strategy's final runs."""
        return self.seeds * self.steps

    def stated(self) -> dict[str, Any]:
        """Returns what a design states of it: all of it, and what it comes to."""
        tuning, final = self.tuning_evaluations, self.final_evaluations
        return {
            "gradient_evaluations_per_strategy": tuning + final,
            **asdict(self),
            "tuning_gradient_evaluations": tuning,
            "final_gradient_evaluations": final,
        }

    @classmethod
    def from_design(cls, stated: Mapping[str, Any]) -> "Budget":
        """Returns the budget that a design states; an old design, which does not state the warm-up, implies a rung.

        >>> budget = Budget(4, 30, 2, warmup=12)
        >>> Budget.from_design(budget.stated()) == budget
        True
        >>> Budget.from_design({"trials": 4, "steps": 30, "seeds": 2, "tuning_gradient_evaluations": 99}).rung
        13
        """
        given = {name: stated[name] for name in ("trials", "steps", "seeds")}
        if "warmup" in stated:
            return cls(**given, warmup=stated["warmup"], trial_seconds=stated["trial_seconds"])
        budget = cls(**given)
        whole, runs = budget.promoted * budget.steps, budget.trials + 1 - budget.promoted
        return replace(budget, warmup=(stated["tuning_gradient_evaluations"] - whole) // runs - 1)


@dataclass(frozen=True)
class Widened:
    """A range that was widened because the incumbent lay on its edge."""

    hyperparameter: str
    side: str
    before: tuple[float, float]
    after: tuple[float, float]


def widened_from_fact(fact: Mapping[str, Any]) -> Widened:
    """Returns the record of a widened range as read from the store."""
    return Widened(fact["hyperparameter"], fact["side"], tuple(fact["before"]), tuple(fact["after"]))


def sobol(count: int, seed: int) -> NDArray[np.float64]:
    """Returns ``count`` points in the open unit cube of :data:`DIMENSIONS`, the same for every strategy."""
    # In a thread of its own no signal interrupts it: SciPy would swallow that and go on with numbers not yet loaded.
    with ThreadPoolExecutor(1) as apart:
        points = apart.submit(_scrambled, count, seed).result()
    return np.clip(points[:count], 1e-9, 1 - 1e-9)


def _scrambled(count: int, seed: int) -> NDArray[np.float64]:
    from scipy.stats import qmc

    rng = np.random.default_rng(derive_seed(seed, "sobol"))
    stream = qmc.Sobol(DIMENSIONS, scramble=True, rng=rng)
    return np.asarray(stream.random(1 << max(0, math.ceil(math.log2(max(count, 1))))))


def configuration(space: Space, point: Sequence[float]) -> dict[str, float]:
    """Returns the hyperparameters at a point of the unit cube: log-uniform in each range.

    >>> configuration({"lr": (0.01, 1.0)}, [0.5])
    {'lr': 0.1}
    """
    ordered = sorted(space, key=lambda name: name != "lr")
    return {
        name: float(f"{math.exp(math.log(space[name][0]) * (1 - u) + math.log(space[name][1]) * u):.6g}")
        for name, u in zip(ordered, point, strict=False)
    }


def edge(space: Space, hyper: Mapping[str, float]) -> tuple[str, str] | None:
    """Returns (hyperparameter, side) when the configuration lies on the edge of its space or beyond."""
    for name, (low, high) in space.items():
        u = math.log(hyper[name] / low) / math.log(high / low)
        if u < EDGE:
            return name, "low"
        if u > 1 - EDGE:
            return name, "high"
    return None


def widen(space: Space, name: str, side: str) -> tuple[dict[str, tuple[float, float]], Widened]:
    """Returns the strip of one decade beyond the edge, within the other ranges, and what was done."""
    low, high = space[name]
    strip = (low / DECADE, low) if side == "low" else (high, high * DECADE)
    after = (min(low, strip[0]), max(high, strip[1]))
    return {**space, name: strip}, Widened(name, side, (low, high), after)


def survivors(scores: Sequence[tuple[float, float]], keep: int) -> list[int]:
    """Returns the indices of the ``keep`` best, in their order; lower is better, the second entry breaks ties.

    >>> survivors([(0.3, 0.0), (0.1, 0.0), (float("inf"), 0.0), (0.1, -1.0)], 2)
    [1, 3]
    """
    ranked = sorted(range(len(scores)), key=lambda i: (*scores[i], i))
    return sorted(i for i in ranked[:keep] if math.isfinite(scores[i][0]))
