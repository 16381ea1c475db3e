"""The looks at a study that adds final runs until it is decided: what ended it, and the time that it may take.

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
    """Decides after each batch of final runs whether another one begins.

    Arguments:
        budget: of the study.
        strategies: how many are compared.
        stopwatch: that counts its time.
        at_most: seconds that the study may take; None for as long as it takes.
        say: is called with a line for the user where the time ends the study.
    """

    def __init__(
        self, budget: Budget, strategies: int, stopwatch: Stopwatch, at_most: float | None, say: Callable[[str], None]
    ) -> None:
        self.budget, self.strategies, self.stopwatch = budget, strategies, stopwatch
        self.at_most, self.say, self.store = at_most, say, stopwatch.store

    def begin(self, look: int) -> None:
        """Counts the time from now on to the batch of the look."""
        self.stopwatch.enter(_named(look))

    def are_over(self, look: int, is_decided: Callable[[], bool]) -> bool:
        """Says whether the study ends with a look, all of whose runs are stored; the same when it is asked again."""
        if self.budget.looks == 1:
            return True
        stored = self.store.facts().get(_named(look))
        if stored is None:
            self.stopwatch.keep()
            stored = self._decision(look, is_decided)
            self.store.add_fact(_named(look), stored)
            if stored["ended_by"] == "time":
                self.say(limit_in_words(stored))
        return stored["ended_by"] is not None

    def _decision(self, look: int, is_decided: Callable[[], bool]) -> dict[str, Any]:
        spent, batch = self.stopwatch.seconds, self.stopwatch.of(_named(look))
        made = {"runs": look * self.budget.seeds, "of": self.budget.looks * self.budget.seeds}
        return {
            "ended_by": self._ended_by(look, spent + batch, is_decided),
            "at_most": self.at_most,
            "seconds": spent,
            "batch_seconds": batch,
            **made,
        }

    def _ended_by(self, look: int, until: float, is_decided: Callable[[], bool]) -> Ended | None:
        if self.store.counts().get("final", 0) > look * self.budget.seeds * self.strategies:
            return None  # the next batch has begun
        if is_decided():
            return "decided"
        if look == self.budget.looks:
            return "seeds"
        return "time" if self.at_most is not None and until > self.at_most else None


def _named(look: int) -> str:
    return f"{LOOK} {look}"


def last_look(facts: Mapping[str, Any]) -> dict[str, Any] | None:
    """Returns what the last look decided; None for a study that makes one batch of runs."""
    looks = [value for name, value in facts.items() if name.partition(" ")[0] == LOOK]
    return looks[-1] if looks else None


def limit_in_words(look: Mapping[str, Any] | None) -> str:
    """Returns that the time ended a study; empty where it did not.

    >>> look = {"ended_by": "time", "at_most": 1200.0, "seconds": 1000.0, "batch_seconds": 300.0, "runs": 20, "of": 40}
    >>> limit_in_words(look)
    'The limit of 20 min ended this after 20 of at most 40 runs: 17 min were spent, and 10 more runs take about 5 min.'
    """
    if look is None or look["ended_by"] != "time":
        return ""
    limit, spent, batch = (in_words(look[name]) for name in ("at_most", "seconds", "batch_seconds"))
    more = look["of"] // LOOKS
    return (
        f"The limit of {limit} ended this after {look['runs']} of at most {look['of']} runs: {spent} were spent, and "
        f"{more} more runs take about {batch}."
    )
