"""The looks at a study that goes on until it is decided: what is still in question, what ended it, and its time.

What a look decided is stored, and so is the time that was spent. A study that was interrupted therefore goes on as it
had decided to, and its time counts on. A batch that has begun is always finished.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Literal

from thalweg.compare.arguments import in_words
from thalweg.compare.design import LOOKS, Budget
from thalweg.compare.storage.store import Store
from thalweg.compare.study.verdict import Verdict
from thalweg.compare.user_errors import StudyError

LOOK, SPENT = "look", "spent"  # a fact for each look, and for each stretch of time
LEAST, SHARE = 10.0, 0.05  # seconds, and the share of all so far, that a killed process may lose at most
Ended = Literal["decided", "seeds", "time"]

clock = time.monotonic


class Stopwatch:
    """Counts the seconds that a study takes, over all processes that work on it.

    Arguments:
        store: of the study.
        began: when this process began, by the clock; by default now.

    Attributes:
        stage: what the study is at.
    """

    def __init__(self, store: Store, began: float | None = None) -> None:
        stretches = [value for name, value in store.facts().items() if name.partition(" ")[0] == SPENT]
        self.store, self.stage = store, ""
        self._count, self._since = len(stretches), clock() if began is None else began
        self._stored: dict[str, float] = {}
        for stage, seconds in stretches:
            self._add(stage, seconds)

    @property
    def seconds(self) -> float:
        """All that was spent."""
        return sum(self._stored.values()) + clock() - self._since

    def of(self, stage: str) -> float:
        """Returns the seconds of a stage that are stored."""
        return self._stored.get(stage, 0.0)

    def enter(self, stage: str) -> None:
        """Begins a stage, and stores the end of the one before."""
        self.keep()
        self.stage = stage

    def tick(self) -> None:
        """Stores what was spent where too much would be lost without."""
        if clock() - self._since > max(LEAST, SHARE * sum(self._stored.values())):
            self.keep()

    def keep(self) -> None:
        """Stores what was spent since it was last stored."""
        now = clock()
        self.store.add_fact(f"{SPENT} {self._count}", [self.stage, now - self._since])
        self._add(self.stage, now - self._since)
        self._count, self._since = self._count + 1, now

    def __enter__(self) -> "Stopwatch":
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(StudyError):  # the disk is full, which the error that ended it says
            self.keep()

    def _add(self, stage: str, seconds: float) -> None:
        self._stored[stage] = self.of(stage) + seconds


class Looks:
    """Decides after each batch whether another one begins, and for which strategies.

    Arguments:
        budget: of the study.
        stopwatch: that counts its time.
        at_most: seconds that the study may take; None for as long as it takes.
        say: is called with a line for the user where the study ends.
    """

    def __init__(self, budget: Budget, stopwatch: Stopwatch, at_most: float | None, say: Callable[[str], None]) -> None:
        self.budget, self.stopwatch = budget, stopwatch
        self.at_most, self.say, self.store = at_most, say, stopwatch.store

    def begin(self, look: int) -> None:
        """Counts the time from now on to the batch of the look."""
        self.stopwatch.enter(_named(look))

    def after(self, look: int, strategies: int, judged: Callable[[], Verdict]) -> dict[str, Any]:
        """Returns what is decided at a look, all of whose runs are stored; the same when it is asked again.

        Arguments:
            look: its number.
            strategies: how many the batch was made for.
            judged: returns the verdict of all runs so far.
        """
        if self.budget.looks == 1:
            return {"ended_by": "seeds"}
        stored = self.store.facts().get(_named(look))
        if stored is None:
            self.stopwatch.keep()
            stored = self._decision(look, strategies, judged())
            self.store.add_fact(_named(look), stored)
            if stored["ended_by"]:
                self.say(ended_in_words(stored))
        return dict(stored)

    def _decision(self, look: int, strategies: int, verdict: Verdict) -> dict[str, Any]:
        budget, spent, batch = self.budget, self.stopwatch.seconds, self.stopwatch.of(_named(look))
        share = len(verdict.candidates) / strategies * _work(budget, min(look + 1, budget.looks)) / _work(budget, look)
        late = self.at_most is not None and spent + share * batch > self.at_most
        ended_by: Ended | None = "decided" if verdict.is_decided else "seeds" if look == budget.looks else None
        return {
            "look": look,
            "ended_by": ended_by or ("time" if late else None),
            "candidates": verdict.candidates,
            "at_most": self.at_most,
            "seconds": spent,
            "batch_seconds": batch,
            "next_seconds": share * batch,
            "batches": budget.looks,
            "runs": budget.seeds_by(look),
            "of": budget.seeds_by(budget.looks),
            "added_trials": budget.trials_by(look) - budget.trials,
            "added_runs": budget.seeds_by(look) - budget.seeds,
            "records": self.store.counts(),
        }


def _work(budget: Budget, look: int) -> int:
    """Returns the trial-steps of a strategy whose time is counted to a look: those of tuning come before the first."""
    return sum(s.runs * s.steps for s in budget.stages() if s.look == look and (look > 1 or s.rung == "final"))


def _named(look: int) -> str:
    return f"{LOOK} {look}"


def all_looks(facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns what each look decided; none for a study that makes one batch of runs."""
    return [value for name, value in facts.items() if name.partition(" ")[0] == LOOK]


def last_look(facts: Mapping[str, Any]) -> dict[str, Any] | None:
    """Returns what the last look decided, without what it needs to go on; None for a study without looks."""
    looks = all_looks(facts)
    return {name: value for name, value in looks[-1].items() if name != "records"} if looks else None


def ended_in_words(look: Mapping[str, Any] | None) -> str:
    """Returns what a study added, and what ended it; empty for one that makes one batch of runs.

    >>> look = {"look": 3, "ended_by": "decided", "batches": 4, "added_trials": 10, "added_runs": 12}
    >>> ended_in_words(look)
    'Decided after 2 of at most 3 added batches: 10 trials and 12 runs more of each strategy that was in question.'
    >>> ended_in_words({**look, "look": 1})
    'Decided by the first runs: no trials and no runs were added.'
    >>> time = {"ended_by": "time", "at_most": 1200.0, "seconds": 1000.0, "batch_seconds": 250.0, "next_seconds": 300.0}
    >>> ended_in_words({**look, **time}).rpartition(". ")[2]
    '17 min were spent, and another batch takes about 5 min.'
    """
    if look is None:
        return ""
    if "added_trials" not in look:
        return _ended_by_former(look)
    done, most, first = look["look"] - 1, look["batches"] - 1, look["look"] == 1
    added = f"{look['added_trials']} trials and {look['added_runs']} runs more of each strategy that was in question"
    if look["ended_by"] == "decided":
        if first:
            return "Decided by the first runs: no trials and no runs were added."
        return f"Decided after {done} of at most {most} added batches: {added}."
    if look["ended_by"] == "seeds":
        return f"Not decided by all {most} batches that were added: {added}."
    limit, spent, batch = (in_words(look[name]) for name in ("at_most", "seconds", "next_seconds"))
    return (
        f"The limit of {limit} ended this after {done} of at most {most} added batches: "
        f"{'no trials and no runs were added' if first else added}. "
        f"{spent} were spent, and another batch takes about {batch}."
    )


def _ended_by_former(look: Mapping[str, Any]) -> str:
    """Returns that the time ended a study whose batches were final runs alone; empty where it did not."""
    if look["ended_by"] != "time":
        return ""
    limit, spent, batch = (in_words(look[name]) for name in ("at_most", "seconds", "batch_seconds"))
    return (
        f"The limit of {limit} ended this after {look['runs']} of at most {look['of']} runs: {spent} were spent, and "
        f"{look['of'] // LOOKS} more runs take about {batch}."
    )
