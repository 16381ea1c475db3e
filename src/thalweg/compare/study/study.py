"""The protocol, carried out: tune every strategy alike, then judge what tuning chooses on fresh paired seeds.

Four rungs, written to the store as their trials end: ``tune-1`` (default and two thirds of the configurations, to a
third of the steps), ``tune-2`` (the third near the best of them, see :mod:`thalweg.compare.design`), ``tune-3`` (three
fifths to the end), ``final`` (the choices of halves on fresh seeds, tested once).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from thalweg.compare.design import (
    BEST,
    TITLES,
    Budget,
    Space,
    configuration,
    half,
    mean_of,
    middle,
    sobol,
    survivors,
    window,
)
from thalweg.compare.execution.engine_set import EngineSet
from thalweg.compare.execution.job import Job, training
from thalweg.compare.execution.timing import in_turns
from thalweg.compare.storage.facts import CONSTANT_TEST, DESIGN, SECONDS_PER_STEP, UNTRAINED_TEST, engine_of, winner_of
from thalweg.compare.storage.result import TrialResult
from thalweg.compare.storage.rows import number
from thalweg.compare.storage.store import Store
from thalweg.compare.strategy import Strategy
from thalweg.compare.study.config import StudyConfig
from thalweg.compare.study.judged import Untrained, could_not_run, judge
from thalweg.compare.study.looks import Looks, Stopwatch
from thalweg.compare.study.reporter import Reporter
from thalweg.compare.study.result_writer import ResultWriter, StoredSnapshot
from thalweg.compare.study.verdict import decide
from thalweg.tensors import derive_seed


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


class Study:
    """A comparison in progress.

    Arguments:
        config: as it was asked for.
        budget: what it costs.
        store: its records, and those to come.
        engines: that train it.
        reporter: kept informed.
        sign: −1 where a higher metric is better, else 1.
        spent: gradient evaluations of a run of each strategy before its first step.
        stopwatch: that counts the time of the study; by default a new one.
    """

    def __init__(
        self,
        config: StudyConfig,
        budget: Budget,
        store: Store,
        engines: EngineSet,
        reporter: Reporter,
        sign: float,
        spent: Mapping[str, int],
        stopwatch: Stopwatch | None = None,
    ) -> None:
        self.strategies, self.budget, self.store, self.engines = config.strategies, budget, store, engines
        self.reporter, self.sign, self.spent, self.seed = reporter, sign, spent, config.seed
        seed = config.seed
        self.tuning_seeds = [derive_seed(seed, "tuning", i) % 2**31 for i in range(budget.trials + 1)]
        self.final_seeds = [derive_seed(seed, "final", i) % 2**31 for i in range(budget.seeds * budget.looks)]
        self.points = sobol(budget.trials, seed)
        self.stopwatch = stopwatch or Stopwatch(store)
        self.looks = Looks(budget, len(config.strategies), self.stopwatch, config.limit, reporter.say)

    def run(self) -> None:
        """Runs what the store does not hold yet."""
        budget = self.budget
        first = {s.name: self._first_trials(s) for s in self.strategies}
        trials = [trial for name in first for trial in first[name]]
        done = self._rung("tune-1", [self._tuning(t, 0, budget.rung) for t in trials], trials)
        extra = [t for s in self.strategies for t in self._second_trials(s, self._best(first[s.name], done))]
        if extra:
            done |= self._rung("tune-2", [self._tuning(t, 0, budget.rung) for t in extra], extra)
        places = {
            t.key: (rung, i) for rung, some in (("tune-1", trials), ("tune-2", extra)) for i, t in enumerate(some)
        }
        trials += extra
        promoted = self._promoted(trials, done)
        if budget.rung < budget.steps:
            jobs = [
                replace(
                    self._tuning(t, budget.rung, budget.steps),
                    snapshot=StoredSnapshot(self.store, *places[t.key]),
                    first_loss=done[t.key].first_loss,
                )
                for t in promoted
            ]
            done |= self._rung("tune-3", jobs, promoted)
        choices = {s.name: self._choices(s, trials, promoted, done) for s in self.strategies}
        chosen = [Trial(s, 0, choices[s.name][middle(choices[s.name], s.space)]) for s in self.strategies]
        for trial in chosen:
            self.store.add_fact(winner_of(trial.strategy.name), {"hyper": dict(trial.hyper)})
        untrained = self._untrained()
        for look in range(1, budget.looks + 1):
            runs = budget.seeds * look
            self.looks.begin(look)
            finals = [Trial(s, i, choices[s.name][i]) for i in range(runs) for s in self.strategies]
            done = self._rung("final", [self._final(t) for t in finals], finals)
            if self.looks.are_over(look, partial(self._is_decided, done, runs, untrained)):
                break
        self.stopwatch.enter("timing")
        self._measure(chosen)
        self.store.add_fact(CONSTANT_TEST, untrained.constant)
        self.store.add_fact(UNTRAINED_TEST, untrained.scores)

    def _first_trials(self, strategy: Strategy) -> list[Trial]:
        count = self.budget.trials - self.budget.held_back
        drawn = [self._drawn(strategy, strategy.space, p) for p in self.points[:count]]
        return [Trial(strategy, i, hyper) for i, hyper in enumerate([strategy.default_configuration(), *drawn])]

    def _second_trials(self, strategy: Strategy, best: Sequence[Trial]) -> list[Trial]:
        """Returns the held-back configurations, drawn from a window around the best; the stream goes on without one."""
        space = window(strategy.space, [t.hyper for t in best]) if best else strategy.space
        start = self.budget.trials - self.budget.held_back
        points = self.points[start:]
        return [Trial(strategy, start + 1 + i, self._drawn(strategy, space, p)) for i, p in enumerate(points)]

    def _drawn(self, strategy: Strategy, space: Space, point: Sequence[float]) -> dict[str, float]:
        return strategy.rounded({**strategy.defaults, **configuration(space, point)})

    def _promoted(self, trials: Sequence[Trial], done: Mapping[str, TrialResult]) -> list[Trial]:
        kept = []
        for strategy in self.strategies:
            own = [t for t in trials if t.strategy is strategy]
            kept += [own[i] for i in survivors([self._score(done[t.key]) for t in own], self.budget.promoted)]
        return kept

    def _best(self, trials: Sequence[Trial], done: Mapping[str, TrialResult]) -> list[Trial]:
        """Returns the best of the trials, the best first, without those that failed."""
        scores = {t.key: self._score(done[t.key]) for t in trials}
        return sorted((t for t in trials if math.isfinite(scores[t.key][0])), key=lambda t: scores[t.key])[:BEST]

    def _choices(
        self, strategy: Strategy, trials: Sequence[Trial], promoted: Sequence[Trial], done: Mapping[str, TrialResult]
    ) -> list[dict[str, float]]:
        """Returns what each final run trains with: the mean of the best trials in one half of the strategy's.

        Trials that ran to the end come first. The default stands in where every trial of a half failed.
        """
        own, ended = [t for t in trials if t.strategy is strategy], {t.key for t in promoted}
        found = []
        for run in range(len(self.final_seeds)):
            tried = [own[i] for i in half(len(own), run, self.seed)]
            best = self._best([t for t in tried if t.key in ended], done) or self._best(tried, done)
            mean = mean_of([t.hyper for t in best], strategy.space) if best else {}
            found.append(strategy.rounded({**strategy.default_configuration(), **mean}))
        return found

    def _score(self, result: TrialResult) -> tuple[float, float]:
        """Returns (signed metric, loss) on validation at the result's end; infinite where it failed."""
        if result.status != "finished" or not math.isfinite(result.curve.valid_metric[-1]):
            return math.inf, math.inf
        return self.sign * result.curve.valid_metric[-1], result.curve.valid_loss[-1]

    def _final(self, trial: Trial) -> Job:
        job = self._job(trial, self.final_seeds[trial.index], 0, self.budget.steps, test=True)
        return replace(job, key=f"{trial.strategy.name}/final/{trial.index}")

    def _tuning(self, trial: Trial, start: int, stop: int) -> Job:
        return self._job(trial, self.tuning_seeds[trial.index], start, stop)

    def _job(self, trial: Trial, seed: int, start: int, stop: int, test: bool = False) -> Job:
        budget, prepared = self.budget, self.spent[trial.strategy.name]
        return Job(
            trial.key,
            trial.strategy,
            trial.hyper,
            seed,
            max(start, prepared),
            stop,
            budget.steps,
            budget.evaluation_interval,
            test,
            prepared=prepared,
            limit=budget.trial_seconds,
        )

    def _rung(self, name: str, jobs: Sequence[Job], trials: Sequence[Trial]) -> dict[str, TrialResult]:
        """Returns the rung's results from the store, and trains and writes those that are not there."""
        steps = {job.key: job.stop - (job.start if job.snapshot is not None else 0) for job in jobs}
        held = {key: result for key, result in self.store.rung(name).items() if key in steps}  # a later look has more
        self.reporter.stage(TITLES[name], sum(steps.values()), self._left(name))
        if held:
            self.reporter.advance(sum(steps[key] for key in held))
        owners = {job.key: trial.strategy.name for job, trial in zip(jobs, trials, strict=True)}
        best: dict[str, float] = {}
        goes_on = name in ("tune-1", "tune-2") and self.budget.rung < self.budget.steps
        write = ResultWriter(self.store, name, jobs, owners, goes_on)

        def on_results(results: Sequence[TrialResult]) -> None:
            write(results)
            self.stopwatch.tick()
            self._stand(best, owners, results)

        self._stand(best, owners, list(held.values()))
        left = [job for job in jobs if job.key not in held]
        if left:
            choose_again(self.engines, self.store, self.seed, self.reporter.say, name)
        with write:
            for engine in {id(e): e for e in (self.engines.engine_of(job.strategy) for job in left)}.values():
                mine = [job for job in left if self.engines.engine_of(job.strategy) is engine]
                with training():
                    held |= {r.key: r for r in engine.run(mine, self.reporter.advance, on_results)}
        return held

    def _stand(self, best: dict[str, float], owners: Mapping[str, str], results: Sequence[TrialResult]) -> None:
        """Tells where the strategies stand with these results."""
        for result in results:
            if math.isfinite(score := self._score(result)[0]):
                name = owners[result.key]
                best[name] = self.sign * min(score, self.sign * best.get(name, self.sign * math.inf))
        if best:
            self.reporter.standing(best)

    def _left(self, rung: str) -> int:
        """Returns the planned trial-steps from this rung to the end."""
        budget, count = self.budget, len(self.strategies)
        plan = {
            "tune-1": (budget.trials + 1 - budget.held_back) * budget.rung,
            "tune-2": budget.held_back * budget.rung,
            "tune-3": budget.promoted * (budget.steps - budget.rung),
            "final": budget.final_evaluations,
        }
        names = list(plan)
        return count * sum(plan[name] for name in names[names.index(rung) :])

    def _is_decided(self, done: Mapping[str, TrialResult], runs: int, untrained: Untrained) -> bool:
        """Says whether so many final runs leave nothing to decide; the same when it is asked again of a store."""
        scores = {s.name: [number(done[f"{s.name}/final/{i}"].test) for i in range(runs)] for s in self.strategies}
        starts = {s.name: s.start for s in self.strategies}
        lost = {name for name in scores if could_not_run([done[f"{name}/final/{i}"].status for i in range(runs)])}
        judged = judge(self.store.fact(DESIGN), scores, untrained, starts, impossible=dict.fromkeys(lost, ""))
        return decide(judged).is_decided

    def _untrained(self) -> Untrained:
        """Returns the test scores of models that learned nothing."""
        starts = {s.start: s for s in self.strategies}
        with training():
            scores = {
                start: [self.engines.serial_of(s).untrained_test(s.initialization, seed) for seed in self.final_seeds]
                for start, s in starts.items()
            }
            constant = self.engines.serial_of(self.strategies[0]).constant_test()
        return Untrained(scores, number(constant))

    def _measure(self, chosen: Sequence[Trial]) -> None:
        """Times the recommended configurations alone, in turns; written once."""
        if SECONDS_PER_STEP not in self.store.facts():
            jobs = {t.strategy.name: self._job(t, self.final_seeds[0], 0, self.budget.steps) for t in chosen}
            with training():
                alone = [partial(self.engines.serial_of(j.strategy).seconds_per_step, j) for j in jobs.values()]
                seconds = dict(zip(jobs, in_turns(alone), strict=True))
            self.store.add_fact(SECONDS_PER_STEP, seconds)


def choose_again(engines: EngineSet, store: Store, seed: int, say: Callable[[str], None], rung: str) -> None:
    """Takes up the engines chosen for the rung; measures them anew where nothing of it is trained yet.

    A choice that is another from the rung on is written before anything of the rung is, so that a study that was cut
    off goes on with it, and the store says of every record what trained it.
    """
    before, stored = engines.choices, store.facts().get(engine_of(rung))
    if stored:
        engines.reuse(stored)
    elif rung != "tune-1" and rung not in store.counts():
        with training():
            engines.choose_again(seed, list(TITLES).index(rung))
    changed = [new for old, new in zip(before, engines.choices, strict=True) if new.reason != old.reason]
    if changed:
        store.add_fact(engine_of(rung), [choice.as_dict() for choice in engines.choices])
    for choice in changed:
        say(f"engine for {choice.title} from here on: {choice.name} ({choice.reason})")
