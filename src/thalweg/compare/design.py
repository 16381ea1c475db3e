"""The experimental design: which configurations are tried, for how long, which go on, and what final runs train with.

Every strategy gets its default configuration and N configurations from *one* scrambled Sobol stream, mapped into its
own space, log-uniformly where a range does not say otherwise; coordinate 0 is always the learning rate, so
learning-rate points pair across strategies. A third of the N is held back until the others have run to a first rung, at
a third of the steps, and is then drawn from a window around the best of them. Three fifths go on to the end. Each
configuration has a seed of its own.

The configurations are split into two random halves, several times, for all strategies alike. Each final run trains with
what one half alone would have chosen: so the final runs differ by the luck of tuning as well as by that of their seed.

A study that goes on until it is decided adds batches. Each of them first continues the Sobol stream by further
configurations, drawn from the whole range, of which three fifths go on to the end; its final runs then train with what
halves of all configurations so far choose. Fresh seeds alone would leave the luck of the first tuning as it is.
"""

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thalweg.compare.ranges import Bounds, OneOf, Range, as_range
from thalweg.compare.rungs import Stage
from thalweg.tensors import derive_seed

DIMENSIONS = 8
WINDOW = 0.2  # of the range, on its scale, on either side of the best configurations
BEST = 3  # configurations that a choice is the mean of
PROMOTED = 0.6  # share of the configurations that go on from the first rung to the end
LOOKS = 4  # at most, at a study that adds trials and runs until it is decided
PROTOCOL = 2  # 1: one choice by one tuning seed for all final runs; what was held back widened a range by a decade
SEQUENTIAL = 3  # of a study that goes on until it is decided; by 2, its batches were final runs of the first tuning

Space = Mapping[str, Bounds]


@dataclass(frozen=True)
class Budget:
    """How long and how often: everything about cost, equal for all strategies.

    Arguments:
        trials: N, configurations from the stream beside the default one.
        steps: gradient evaluations of a whole run.
        seeds: paired replicates of the final comparison.
        warmup: steps of the longest warm-up; no run is stopped inside it.
        looks: batches of final runs at most, after each of which the study is judged.
        trial_seconds: how long a run may take from one rung to the next; None for as long as it takes.
        protocol: 2, or 3 for a study that goes on until it is decided; lower for one of a former protocol.
        study_seconds: the time from which the steps follow; None where they were given.
        lengths: of a run of each strategy, where they differ, of which ``steps`` is then the longest; else None.
        run_seconds: the time of a run alone, which is then the same for all.
    """

    trials: int
    steps: int
    seeds: int
    warmup: int = 0
    looks: int = 1
    trial_seconds: float | None = None
    protocol: int = PROTOCOL
    study_seconds: float | None = None
    lengths: Mapping[str, int] | None = None
    run_seconds: float | None = None

    def of(self, strategy: str) -> "Budget":
        """Returns the budget of a strategy: rungs, warm-up and evaluation points at the same shares of its own runs."""
        steps = self.steps if self.lengths is None else self.lengths[strategy]
        return replace(self, steps=steps, warmup=math.ceil(self.warmup * steps / self.steps), lengths=None)

    @property
    def held_back(self) -> int:
        """Configurations kept until the first rung is known."""
        return self.trials // (3 if self.protocol >= PROTOCOL else 4)

    @property
    def rung(self) -> int:
        """Steps of the first rung: a third, never inside warm-up."""
        return min(self.steps, max(math.ceil(self.steps / 3), self.warmup + 1))

    @property
    def promoted(self) -> int:
        """Configurations of a strategy that go on from the first rung to the end."""
        return math.ceil((self.trials + 1) * (PROMOTED if self.protocol >= PROTOCOL else 1 / 3))

    @property
    def evaluation_interval(self) -> int:
        """Steps between two points of a learning curve: about thirty a run."""
        return max(1, math.ceil(self.steps / 30))

    @property
    def added_trials(self) -> int:
        """Configurations of a strategy in each batch after the first."""
        return -(-2 * self.trials // 5) if self.protocol >= SEQUENTIAL else 0

    @property
    def added_seeds(self) -> int:
        """Final runs of a strategy in each batch after the first: whole pairs, of the two halves of a split."""
        return 2 * -(-3 * self.seeds // 10) if self.protocol >= SEQUENTIAL else self.seeds

    def trials_by(self, look: int) -> int:
        """Returns the configurations of a strategy, beside the default one, at a look."""
        return self.trials + (look - 1) * self.added_trials

    def seeds_by(self, look: int) -> int:
        """Returns the final runs of a strategy at a look; none at the one before the first."""
        return self.seeds + (look - 1) * self.added_seeds if look else 0

    def look_of(self, run: int) -> int:
        """Returns the look at which a final run, by its number, is first judged."""
        return 1 if run < self.seeds else 2 + (run - self.seeds) // self.added_seeds

    def tried_for(self, run: int) -> int:
        """Returns the configurations, the default one included, from which a final run's choice is made.

        The two runs of a split share them also where a batch ends between the two.
        """
        return 1 + self.trials_by(self.look_of(run - run % 2))

    def stages(self) -> list[Stage]:
        """Returns what is trained, in this order, and at most."""
        rest = self.steps - self.rung
        found = [
            Stage("tune-1", 1, self.trials + 1 - self.held_back, self.rung),
            Stage("tune-2", 1, self.held_back, self.rung),
            Stage("tune-3", 1, self.promoted, rest),
            Stage("final", 1, self.seeds, self.steps),
        ]
        for look in range(2, self.looks + 1):
            if self.added_trials:
                found.append(Stage("tune-4", look, self.added_trials, self.rung))
                found.append(Stage("tune-5", look, self.added_promoted, rest))
            found.append(Stage("final", look, self.added_seeds, self.steps))
        return found

    @property
    def added_promoted(self) -> int:
        """Configurations of a strategy that go on to the end in each batch after the first."""
        return math.ceil(self.added_trials * PROMOTED)

    def rungs(self, strategies: int) -> list[tuple[int, int]]:
        """Returns (number of runs, steps of each) of the stages of a study of so many strategies."""
        return [(strategies * stage.runs, stage.steps) for stage in self.stages()]

    @property
    def tuning_evaluations(self) -> int:
        """Gradient evaluations that tuning one strategy takes, at most."""
        return sum(stage.runs * stage.steps for stage in self.stages() if stage.rung != "final")

    def stages_of(self, names: Sequence[str]) -> list[Stage]:
        """Returns the stages, in which runs have the mean number of steps of strategies."""
        each = zip(*(self.of(name).stages() for name in names), strict=True)
        return [stage[0]._replace(steps=round(sum(own.steps for own in stage) / len(names))) for stage in each]

    @property
    def final_evaluations(self) -> int:
        """Gradient evaluations of one strategy's final runs, at most."""
        return self.seeds_by(self.looks) * self.steps

    def stated(self) -> dict[str, Any]:
        """Returns what a design states of it: all of it, and what it comes to."""
        tuning, final = self.tuning_evaluations, self.final_evaluations
        timed = ("study_seconds", "lengths", "run_seconds")
        unsaid = {"protocol", *(name for name in timed if getattr(self, name) is None)}
        own = {name: value for name, value in asdict(self).items() if name not in unsaid}
        if self.lengths is not None:
            tuned = {name: self.of(name).tuning_evaluations for name in self.lengths}
            tested = {name: self.of(name).final_evaluations for name in self.lengths}
            own |= {"tuning_gradient_evaluations": tuned, "final_gradient_evaluations": tested}
            own["gradient_evaluations"] = {name: tuned[name] + tested[name] for name in tuned}
            return {"gradient_evaluations_per_strategy": None, **own}
        return {
            "gradient_evaluations_per_strategy": tuning + final,
            **own,
            "tuning_gradient_evaluations": tuning,
            "final_gradient_evaluations": final,
        }

    @classmethod
    def from_design(cls, design: Mapping[str, Any]) -> "Budget":
        """Returns the budget that a design states; an old design, which does not state the warm-up, implies a rung.

        >>> budget = Budget(4, 30, 2, warmup=12)
        >>> Budget.from_design({"protocol": 2, "budget": budget.stated()}) == budget
        True
        >>> old = {"trials": 4, "steps": 30, "seeds": 2, "tuning_gradient_evaluations": 99}
        >>> Budget.from_design({"protocol": 1, "budget": old}).rung
        13
        """
        stated = design["budget"]
        given = {name: stated[name] for name in ("trials", "steps", "seeds")} | {"protocol": design["protocol"]}
        if "warmup" in stated:
            rest = ("warmup", "trial_seconds", "looks", "study_seconds", "lengths", "run_seconds")
            return cls(**given, **{name: stated[name] for name in rest if name in stated})
        budget = cls(**given)
        whole, runs = budget.promoted * budget.steps, budget.trials + 1 - budget.promoted
        return replace(budget, warmup=(stated["tuning_gradient_evaluations"] - whole) // runs - 1)


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
    """Returns the hyperparameters at a point of the unit cube, each on the scale of its range.

    >>> configuration({"lr": (0.01, 1.0)}, [0.5])
    {'lr': 0.1}
    """
    ordered = sorted(space, key=lambda name: name != "lr")
    return {name: as_range(space[name]).at(u) for name, u in zip(ordered, point, strict=False)}


def edge(space: Space, hyper: Mapping[str, float]) -> tuple[str, str] | None:
    """Returns (hyperparameter, side) when the configuration lies on the edge of its space or beyond."""
    for name, bounds in space.items():
        if side := as_range(bounds).edge(hyper[name]):
            return name, side
    return None


def window(space: Space, best: Sequence[Mapping[str, float]]) -> dict[str, Bounds]:
    """Returns the part of a space around the mean of the best configurations, or around an edge where the best lies.

    Of the learning rate alone it may reach beyond the range. Of values in a list, those of the best are left.

    >>> window({"lr": (0.01, 1.0), "momentum": (0.5, 0.95)}, [{"lr": 0.9, "momentum": 0.95}])["lr"]
    (0.398107, 2.51189)
    """
    centre, part = mean_of(best, space), dict[str, Bounds]()
    for name, bounds in space.items():
        found = as_range(bounds)
        if not isinstance(found, Range):
            part[name] = OneOf(tuple(v for v in found.values if v in {hyper[name] for hyper in best}) or found.values)
            continue
        side = found.edge(best[0][name])
        middle = {"low": found.low, "high": found.high}[side] if side else centre[name]
        near = found.around(middle, WINDOW, beyond=name == "lr" and found.scale == "log")
        part[name] = (near.low, near.high) if found.scale == "log" and not found.whole else near
    return part


def mean_of(best: Sequence[Mapping[str, float]], space: Space) -> dict[str, float]:
    """Returns the weighted mean, on its scale, of what is tuned of configurations, the best of them first.

        log x = Σ w_i log x_i / Σ w_i,   w_i = log(3 + ½) − log i

    >>> mean_of([{"lr": 0.1}, {"lr": 0.1}, {"lr": 0.001}], {"lr": (0.001, 1.0)})
    {'lr': 0.0696989}

    Source: the recombination of evolution strategies, Hansen and Ostermeier 2001.
    """
    weights = [math.log(BEST + 0.5) - math.log(i) for i in range(1, len(best) + 1)]
    return {name: as_range(bounds).mean([hyper[name] for hyper in best], weights) for name, bounds in space.items()}


def half(count: int, run: int, seed: int) -> list[int]:
    """Returns which of so many configurations a final run's choice is made from; two runs share one split.

    >>> sorted(half(5, 0, 0) + half(5, 1, 0))
    [0, 1, 2, 3, 4]
    """
    shuffled = np.random.default_rng(derive_seed(seed, "split", run // 2)).permutation(count).tolist()
    return sorted(shuffled[: count // 2] if run % 2 else shuffled[count // 2 :])


def middle(choices: Sequence[Mapping[str, float]], space: Space) -> int:
    """Returns the position of the choice that is nearest to all others, each hyperparameter on its scale.

    >>> middle([{"lr": 0.1}, {"lr": 1.0}, {"lr": 0.01}], {"lr": (0.001, 1.0)})
    0
    """
    ranges = {name: as_range(bounds) for name, bounds in space.items()}
    at = np.array([[x for name, found in ranges.items() for x in found.place(c[name])] for c in choices])
    return int(np.abs(at[:, None] - at[None]).sum(axis=(1, 2)).round(9).argmin())


def survivors(scores: Sequence[tuple[float, ...]], keep: int) -> list[int]:
    """Returns the indices of the ``keep`` best, in their order; lower is better, later entries break ties.

    >>> survivors([(0.3, 0.0), (0.1, 0.0), (float("inf"), 0.0), (0.1, -1.0)], 2)
    [1, 3]
    """
    ranked = sorted(range(len(scores)), key=lambda i: (*scores[i], i))
    return sorted(i for i in ranked[:keep] if math.isfinite(scores[i][0]))
