"""The protocol, carried out: tune every strategy alike, then judge what tuning chooses on fresh paired seeds.

Four rungs, written to the store as their trials end: ``tune-1`` (default and two thirds of the configurations, to a
third of the steps), ``tune-2`` (the third near the best of them, see :mod:`thalweg.compare.design`), ``tune-3`` (three
fifths to the end), ``final`` (the choices of halves on fresh seeds, tested once). A study that goes on until it is
decided adds batches for the strategies that are still in question: ``tune-4`` and ``tune-5`` (further configurations,
and three fifths of them to the end), then more of ``final``. To one that is judged once, the user may add strategies
and seeds: what is trained of them stands behind what there is in each rung.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from thalweg.compare.design import Budget, middle
from thalweg.compare.execution.engine_set import EngineSet
from thalweg.compare.execution.job import Job, training
from thalweg.compare.execution.timing import all_turns
from thalweg.compare.rungs import TITLES, Stage
from thalweg.compare.storage.facts import (
    CONSTANT_TEST,
    DESIGN,
    SECONDS_PER_STEP,
    TARGET,
    TIMINGS,
    UNTRAINED_TEST,
    additions,
    batch_of,
    engine_of,
    winner_of,
)
from thalweg.compare.storage.result import TrialResult
from thalweg.compare.storage.rows import number
from thalweg.compare.storage.store import Store
from thalweg.compare.strategy import Strategy
from thalweg.compare.study.basis import basis_of
from thalweg.compare.study.config import StudyConfig
from thalweg.compare.study.criterion import Criterion
from thalweg.compare.study.looks import Looks, Stopwatch
from thalweg.compare.study.reporter import Reporter
from thalweg.compare.study.result_writer import ResultWriter, StoredSnapshot
from thalweg.compare.study.tuning import Trial, Tuning
from thalweg.compare.study.untrained import Untrained
from thalweg.compare.study.verdict import Verdict, decide
from thalweg.tensors import derive_seed

MEASURED = 7  # times that the seconds of a step are measured where they are judged


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
        seed, most = config.seed, budget.looks
        self.tuning_seeds = [derive_seed(seed, "tuning", i) % 2**31 for i in range(budget.trials_by(most) + 1)]
        self.final_seeds = [derive_seed(seed, "final", i) % 2**31 for i in range(budget.seeds_by(most))]
        self.criterion = Criterion.of(store.fact(DESIGN))
        self.tuning = Tuning(self.strategies, budget, seed, self.criterion)
        self.stopwatch = stopwatch or Stopwatch(store)
        self.looks = Looks(budget, self.stopwatch, config.limit, reporter.say)
        self.in_question, self.added = list(config.strategies), additions(store.facts())
        self._written: dict[str, int] = {}  # records of each rung that earlier batches have

    def run(self) -> None:
        """Runs what the store does not hold yet."""
        stages = {(stage.rung, stage.look): stage for stage in self.budget.stages()}
        self._tune(stages)
        if self.criterion.is_timed:
            self.store.add_fact(TARGET, self.tuning.settle())
        if self.criterion.judge == "seconds-to-target":  # which each look needs
            self.stopwatch.enter("timing")
            self._measure([self._middle(s) for s in self.strategies])
        untrained, done = self._untrained(), dict[str, TrialResult]()
        for look in range(1, self.budget.looks + 1):
            self.looks.begin(look)
            if look > 1:
                self._tune_more(stages, look)
            finals = self._finals(look)
            done |= self._rung(stages["final", look], [self._final(t) for t in finals], finals)
            decision = self.looks.after(look, len(self.in_question), partial(self._verdict, done, untrained))
            if decision["ended_by"]:
                break
            self.in_question = [s for s in self.strategies if s.name in decision["candidates"]]
        self.stopwatch.enter("timing")
        self._measure([self._recommended(s) for s in self.strategies])
        self.store.add_fact(CONSTANT_TEST, untrained.constant)
        self.store.add_fact(UNTRAINED_TEST, untrained.scores)

    def _tune(self, stages: Mapping[tuple[str, int], Stage]) -> None:
        """Trains the trials that tuning begins with."""
        tuning = self.tuning
        first = tuning.first()
        tuning.add(self._rung(stages["tune-1", 1], [self._to_first_rung(t) for t in first], first))
        second = tuning.second()
        if second:
            tuning.add(self._rung(stages["tune-2", 1], [self._to_first_rung(t) for t in second], second))
        places = {t.key: (f"tune-{n}", i) for n, some in ((1, first), (2, second)) for i, t in enumerate(some)}
        self._to_the_end(stages["tune-3", 1], tuning.promote([*first, *second], self.budget.promoted), places)

    def _tune_more(self, stages: Mapping[tuple[str, int], Stage], look: int) -> None:
        """Trains the trials that a look adds for the strategies in question."""
        tuning, before = self.tuning, self._written.get("tune-4", 0)
        new = tuning.more(self.in_question, look)
        tuning.add(self._rung(stages["tune-4", look], [self._to_first_rung(t) for t in new], new))
        places = {t.key: ("tune-4", before + i) for i, t in enumerate(new)}
        self._to_the_end(stages["tune-5", look], tuning.promote(new, self.budget.added_promoted), places)

    def _to_the_end(self, stage: Stage, promoted: Sequence[Trial], places: Mapping[str, tuple[str, int]]) -> None:
        """Trains on the trials that go on; each has its snapshot at a place in the store."""
        going = [t for t in promoted if self._goes_on(t)]
        if going:
            jobs = [
                replace(
                    self._job(t, self.tuning_seeds[t.index], self._own(t).rung),
                    snapshot=StoredSnapshot(self.store, *places[t.key]),
                    first_loss=self.tuning.first_loss(t),
                )
                for t in going
            ]
            self.tuning.add(self._rung(stage, jobs, going))

    def _finals(self, look: int) -> list[Trial]:
        """Returns the final runs that a look adds for the strategies in question, those that were added last."""
        runs = range(self.budget.seeds_by(look - 1), self.budget.seeds_by(look))
        choices = {s.name: self.tuning.choices(s, runs) for s in self.in_question}
        found = [Trial(s, run, choices[s.name][i]) for i, run in enumerate(runs) for s in self.in_question]
        return sorted(found, key=lambda trial: batch_of(self.added, trial.strategy.name, trial.index))

    def _middle(self, strategy: Strategy) -> Trial:
        """Returns the middle one of what halves of a strategy's trials so far choose."""
        choices = self.tuning.alternatives(strategy)
        return Trial(strategy, 0, choices[middle(choices, strategy.space)])

    def _recommended(self, strategy: Strategy) -> Trial:
        """Returns the recommended configuration of a strategy, and writes it."""
        chosen = self._middle(strategy)
        self.store.add_fact(winner_of(strategy.name), {"hyper": dict(chosen.hyper)})
        return chosen

    def _final(self, trial: Trial) -> Job:
        job = self._job(trial, self.final_seeds[trial.index], test=True)
        return replace(job, key=_final(trial.strategy, trial.index))

    def _to_first_rung(self, trial: Trial) -> Job:
        return replace(self._job(trial, self.tuning_seeds[trial.index]), stop=self._own(trial).rung)

    def _goes_on(self, trial: Trial) -> bool:
        return self._own(trial).rung < self._own(trial).steps

    def _own(self, trial: Trial) -> Budget:
        return self.budget.of(trial.strategy.name)

    def _job(self, trial: Trial, seed: int, start: int = 0, test: bool = False) -> Job:
        budget, prepared = self._own(trial), self.spent[trial.strategy.name]
        return Job(
            trial.key,
            trial.strategy,
            trial.hyper,
            seed,
            max(start, prepared),
            budget.steps,
            budget.steps,
            budget.evaluation_interval,
            test,
            prepared=prepared,
            limit=budget.trial_seconds,
        )

    def _rung(self, stage: Stage, jobs: Sequence[Job], trials: Sequence[Trial]) -> dict[str, TrialResult]:
        """Returns a stage's results from the store, and trains and writes those that are not there."""
        name, first = stage.rung, self._written.get(stage.rung, 0)
        self._written[name] = first + len(jobs)
        steps = {job.key: job.stop - (job.start if job.snapshot is not None else 0) for job in jobs}
        held = {key: result for key, result in self.store.rung(name).items() if key in steps}  # also of other batches
        self.reporter.stage(stage.title, sum(steps.values()), self._left(stage))
        if held:
            self.reporter.advance(sum(steps[key] for key in held))
        owners = {job.key: trial.strategy.name for job, trial in zip(jobs, trials, strict=True)}
        best: dict[str, float] = {}
        goes_on = name in ("tune-1", "tune-2", "tune-4") and any(map(self._goes_on, trials))
        write = ResultWriter(self.store, name, jobs, owners, goes_on, first)

        def on_results(results: Sequence[TrialResult]) -> None:
            write(results)
            self.stopwatch.tick()
            self._stand(best, owners, results)

        self._stand(best, owners, list(held.values()))
        left = [job for job in jobs if job.key not in held]
        if left:
            choose_again(self.engines, self.store, self.seed, self.reporter.say, stage)
        with write:
            for engine in {id(e): e for e in (self.engines.engine_of(job.strategy) for job in left)}.values():
                mine = [job for job in left if self.engines.engine_of(job.strategy) is engine]
                with training():
                    held |= {r.key: r for r in engine.run(mine, self.reporter.advance, on_results)}
        return held

    def _stand(self, best: dict[str, float], owners: Mapping[str, str], results: Sequence[TrialResult]) -> None:
        """Tells where the strategies stand with these results."""
        better = max if self.sign < 0 else min
        for result in results:
            if result.status == "finished" and math.isfinite(value := result.curve.valid_metric[-1]):
                name = owners[result.key]
                best[name] = better(value, best.get(name, value))
        if best:
            self.reporter.standing(best)

    def _left(self, stage: Stage) -> int:
        """Returns the planned trial-steps from a stage to the end."""
        begun = self.budget.stages().index(stage)
        stages = [self.budget.of(s.name).stages()[begun:] for s in self.in_question]
        return sum(one.runs * one.steps for own in stages for one in own)

    def _verdict(self, done: Mapping[str, TrialResult], untrained: Untrained) -> Verdict:
        """Returns the verdict of the final runs so far; the same when it is asked again of a store."""
        facts, runs = self.store.facts(), range(len(self.final_seeds))
        finals = {s.name: [done[k] for i in runs if (k := _final(s, i)) in done] for s in self.strategies}
        return decide(basis_of(facts, []).judged(facts, finals, untrained)[1])

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
            jobs = {t.strategy.name: self._job(t, self.final_seeds[0]) for t in chosen}
            with training():
                alone = [partial(self.engines.serial_of(j.strategy).seconds_per_step, j) for j in jobs.values()]
                rounds = MEASURED if self.criterion.judge == "seconds-to-target" else 3
                timings = dict(zip(jobs, all_turns(alone, rounds), strict=True))
            self.store.add_fact(TIMINGS, timings)
            self.store.add_fact(SECONDS_PER_STEP, {name: min(found) for name, found in timings.items()})


def _final(strategy: Strategy, run: int) -> str:
    """Returns the name of a final run in the store."""
    return f"{strategy.name}/final/{run}"


def choose_again(engines: EngineSet, store: Store, seed: int, say: Callable[[str], None], stage: Stage) -> None:
    """Takes up the engines chosen for a stage; measures them anew where nothing of its rung is trained yet.

    A choice that is another from the rung on is written before anything of the rung is, so that a study that was cut
    off goes on with it, and the store says of every record what trained it. Batches that are added stay with what the
    first one was trained by.
    """
    before, rung = engines.choices, stage.rung
    stored = store.facts().get(engine_of(rung))
    if stored:
        engines.reuse(stored)
    elif rung != "tune-1" and stage.look == 1 and rung not in store.counts():
        with training():
            engines.choose_again(seed, list(TITLES).index(rung))
    changed = [new for old, new in zip(before, engines.choices, strict=True) if new.reason != old.reason]
    if changed:
        store.add_fact(engine_of(rung), [choice.as_dict() for choice in engines.choices])
    for choice in changed:
        say(f"engine for {choice.title} from here on: {choice.name} ({choice.reason})")
