"""What tuning tries, which trials go on, and what it chooses, by the criterion of the study."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from thalweg.compare.design import BEST, Budget, Space, configuration, half, mean_of, sobol, survivors, window
from thalweg.compare.storage.result import TrialResult
from thalweg.compare.strategy import Strategy
from thalweg.compare.study.criterion import Criterion, best_curves, chosen_target


@dataclass(frozen=True)
class Trial:
    """One configuration of one strategy, through all its rungs."""

    strategy: Strategy
    index: int
    hyper: Mapping[str, float]

    @property
    def key(self) -> str:
        """Its name in the store."""
        return f"{self.strategy.name}/{self.index}"


class Tuning:
    """The tuning of a study: its trials, and what became of them so far.

    Arguments:
        strategies: of the study.
        budget: of the study.
        seed: of the study.
        criterion: by which it chooses.
    """

    def __init__(self, strategies: Sequence[Strategy], budget: Budget, seed: int, criterion: Criterion) -> None:
        self.strategies, self.budget, self.seed, self.criterion = strategies, budget, seed, criterion
        self._target = criterion.given
        self.points = sobol(budget.trials_by(budget.looks), seed)
        self.trials: list[Trial] = []
        self._results: dict[str, list[TrialResult]] = {}
        self._ended: set[str] = set()

    def first(self) -> list[Trial]:
        """Returns the default configuration of each strategy, and those that are not held back."""
        count = self.budget.trials - self.budget.held_back
        found = []
        for s in self.strategies:
            drawn = [self._drawn(s, s.space, p) for p in self.points[:count]]
            found += [Trial(s, i, hyper) for i, hyper in enumerate([s.default_configuration(), *drawn])]
        self.trials += found
        return found

    def second(self) -> list[Trial]:
        """Returns the held-back configurations, drawn from a window around the best; the stream goes on without one."""
        start, found, target = self.budget.trials - self.budget.held_back, list[Trial](), self.target
        for s in self.strategies:
            best = self._best(self._of(s), target)
            space = window(s.space, [t.hyper for t in best]) if best else s.space
            found += self._continued(s, space, start, self.budget.trials)
        self.trials += found
        return found

    def more(self, strategies: Sequence[Strategy], look: int) -> list[Trial]:
        """Returns the configurations that a look adds for some of the strategies, from their whole spaces."""
        start, stop = self.budget.trials_by(look - 1), self.budget.trials_by(look)
        found = [t for s in strategies for t in self._continued(s, s.space, start, stop)]
        self.trials += found
        return found

    def add(self, done: Mapping[str, TrialResult]) -> None:
        """Takes what became of trials in a rung."""
        for key, result in done.items():
            self._results.setdefault(key, []).append(result)

    def first_loss(self, trial: Trial) -> float:
        """Returns the first loss of a trial."""
        return self._results[trial.key][0].first_loss

    def promote(self, among: Sequence[Trial], keep: int) -> list[Trial]:
        """Returns the trials that go on to the end, so many of each strategy's."""
        kept, target = list[Trial](), self.target
        for strategy in self.strategies:
            own = [t for t in among if t.strategy is strategy]
            kept += [own[i] for i in survivors([self._score(t, target) for t in own], keep)]
        self._ended |= {t.key for t in kept}
        return kept

    @property
    def target(self) -> float | None:
        """The target that was given or settled, or what the trials so far make it; None where none is needed."""
        if self._target is not None or not self.criterion.is_timed:
            return self._target
        curves = []
        for strategy in self.strategies:
            own = self._of(strategy)
            ends = [t.key in self._ended for t in own]
            curves.append(best_curves(self.criterion.direction, [self._first_and_last(t) for t in own], ends))
        return chosen_target(self.criterion.direction, curves)

    def settle(self) -> float | None:
        """Returns the target, which no later trial changes."""
        self._target = self.target
        return self._target

    def choices(self, strategy: Strategy, runs: Iterable[int], count: int | None = None) -> list[dict[str, float]]:
        """Returns what final runs train with: the mean of the best trials in one half of the strategy's.

        Trials whose outcome is known, which ran to the end or have reached the target, come first. The default stands
        in where every trial of a half failed.

        Arguments:
            strategy: that trains.
            runs: their numbers, which say how the trials are split.
            count: of the trials that are split; None for as many as there were when the run was planned.
        """
        found, target = [], self.target
        for run in runs:
            own = self._of(strategy)[: self.budget.tried_for(run) if count is None else count]
            tried = [own[i] for i in half(len(own), run, self.seed)]
            known = [t for t in tried if t.key in self._ended or self._has_reached(t, target)]
            best = self._best(known, target) or self._best(tried, target)
            mean = mean_of([t.hyper for t in best], strategy.space) if best else {}
            found.append(strategy.rounded({**strategy.default_configuration(), **mean}))
        return found

    def alternatives(self, strategy: Strategy) -> list[dict[str, float]]:
        """Returns what halves of all trials of a strategy choose, among which the recommended one is."""
        return self.choices(strategy, range(self.budget.seeds), len(self._of(strategy)))

    def _of(self, strategy: Strategy) -> list[Trial]:
        return [t for t in self.trials if t.strategy is strategy]

    def _best(self, trials: Sequence[Trial], target: float | None) -> list[Trial]:
        """Returns the best of the trials, the best first, without those that failed."""
        scores = {t.key: self._score(t, target) for t in trials}
        return sorted((t for t in trials if math.isfinite(scores[t.key][0])), key=lambda t: scores[t.key])[:BEST]

    def _score(self, trial: Trial, target: float | None) -> tuple[float, ...]:
        return self.criterion.score(self._results[trial.key], target)

    def _has_reached(self, trial: Trial, target: float | None) -> bool:
        is_timed = self.criterion.is_timed
        return is_timed and self.criterion.reached(self._results[trial.key], target) is not None

    def _first_and_last(self, trial: Trial) -> list[float]:
        stretches = self._results[trial.key]
        if stretches[-1].status != "finished":
            return []
        return [stretches[0].curve.valid_metric[0], stretches[-1].curve.valid_metric[-1]]

    def _continued(self, strategy: Strategy, space: Space, start: int, stop: int) -> list[Trial]:
        """Returns the trials of a stretch of the stream; the one before its first point is the default."""
        points = enumerate(self.points[start:stop], start + 1)
        return [Trial(strategy, i, self._drawn(strategy, space, p)) for i, p in points]

    def _drawn(self, strategy: Strategy, space: Space, point: Sequence[float]) -> dict[str, float]:
        return strategy.rounded({**strategy.defaults, **configuration(space, point)})
