"""What tuning tries, which trials go on, and what it chooses."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from thalweg.compare.design import BEST, Budget, Space, configuration, half, mean_of, sobol, survivors, window
from thalweg.compare.storage.result import TrialResult
from thalweg.compare.strategy import Strategy


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
        sign: −1 where a higher metric is better, else 1.
    """

    def __init__(self, strategies: Sequence[Strategy], budget: Budget, seed: int, sign: float) -> None:
        self.strategies, self.budget, self.seed, self.sign = strategies, budget, seed, sign
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
        start, found = self.budget.trials - self.budget.held_back, []
        for s in self.strategies:
            best = self._best(self._of(s))
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
        kept = []
        for strategy in self.strategies:
            own = [t for t in among if t.strategy is strategy]
            kept += [own[i] for i in survivors([self._score(t) for t in own], keep)]
        self._ended |= {t.key for t in kept}
        return kept

    def choices(self, strategy: Strategy, runs: Iterable[int], count: int | None = None) -> list[dict[str, float]]:
        """Returns what final runs train with: the mean of the best trials in one half of the strategy's.

        Trials that ran to the end come first. The default stands in where every trial of a half failed.

        Arguments:
            strategy: that trains.
            runs: their numbers, which say how the trials are split.
            count: of the trials that are split; None for as many as there were when the run was planned.
        """
        found = []
        for run in runs:
            own = self._of(strategy)[: self.budget.tried_for(run) if count is None else count]
            tried = [own[i] for i in half(len(own), run, self.seed)]
            best = self._best([t for t in tried if t.key in self._ended]) or self._best(tried)
            mean = mean_of([t.hyper for t in best], strategy.space) if best else {}
            found.append(strategy.rounded({**strategy.default_configuration(), **mean}))
        return found

    def alternatives(self, strategy: Strategy) -> list[dict[str, float]]:
        """Returns what halves of all trials of a strategy choose, among which the recommended one is."""
        return self.choices(strategy, range(self.budget.seeds), len(self._of(strategy)))

    def _of(self, strategy: Strategy) -> list[Trial]:
        return [t for t in self.trials if t.strategy is strategy]

    def _best(self, trials: Sequence[Trial]) -> list[Trial]:
        """Returns the best of the trials, the best first, without those that failed."""
        scores = {t.key: self._score(t) for t in trials}
        return sorted((t for t in trials if math.isfinite(scores[t.key][0])), key=lambda t: scores[t.key])[:BEST]

    def _score(self, trial: Trial) -> tuple[float, float]:
        """Returns (signed metric, loss) on validation at a trial's end so far; infinite where it failed."""
        return score(self._results[trial.key][-1], self.sign)

    def _continued(self, strategy: Strategy, space: Space, start: int, stop: int) -> list[Trial]:
        """Returns the trials of a stretch of the stream; the one before its first point is the default."""
        points = enumerate(self.points[start:stop], start + 1)
        return [Trial(strategy, i, self._drawn(strategy, space, p)) for i, p in points]

    def _drawn(self, strategy: Strategy, space: Space, point: Sequence[float]) -> dict[str, float]:
        return strategy.rounded({**strategy.defaults, **configuration(space, point)})


def score(result: TrialResult, sign: float) -> tuple[float, float]:
    """Returns (signed metric, loss) on validation at the result's end; infinite where it failed."""
    if result.status != "finished" or not math.isfinite(result.curve.valid_metric[-1]):
        return math.inf, math.inf
    return sign * result.curve.valid_metric[-1], result.curve.valid_loss[-1]
