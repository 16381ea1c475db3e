"""The names of a study's facts, and which of them say how far it is.

Where seeds or strategies are added to a study, a fact says so, and what concludes it is written anew, under names of
their own: nothing that was written before is lost.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

DESIGN = "design"
RUN = "run"  # when, where and by which command it began
DIAGNOSIS = "diagnosis"
CHARGED = "charged"
NOTES = "notes"  # lines for the reader of the results, beside those that follow from these
ENGINE = "engine"  # choices for the first rung; the last fact of those that set the study up
SECONDS = "seconds"
SECONDS_PER_STEP = "seconds_per_step"
TIMINGS = "timings"  # all measurements of which these are the least
TARGET = "target"  # chosen from the tuning trials of a study that is judged by the time to it
CONSTANT_TEST = "constant_test"  # of the best constant model; None where it is not known
UNTRAINED_TEST = "untrained_test"  # the last fact that results need
ADDED = "added"  # what a study is from then on, which it is that was added to, and what was known of it
CONCLUDING = (SECONDS, SECONDS_PER_STEP, TIMINGS, CONSTANT_TEST, UNTRAINED_TEST)  # and the winners


def winner_of(strategy: str) -> str:
    """Returns the name of the fact that holds the strategy's recommended configuration."""
    return f"winner {strategy}"


def failure_of(strategy: str) -> str:
    """Returns the name of the fact that says why a run of the strategy could not run, of the first that could not."""
    return f"could not run {strategy}"


def engine_of(rung: str) -> str:
    """Returns the name of the fact that holds the choices of engines from the rung on."""
    return f"{ENGINE} {rung}"


def engine_choices(facts: Mapping[str, Any]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Yields the choices of engines, each with the rung from which on they hold, which is empty for the first.

    >>> list(engine_choices({"engine": [1], "winner sgd": {}, "engine tune-2": [2]}))
    [('', [1]), ('tune-2', [2])]
    """
    for name, value in facts.items():
        kind, _, rung = name.partition(" ")
        if kind == ENGINE:
            yield rung, value


def finished(facts: Mapping[str, Any]) -> bool:
    """Says whether the study holds all that its results need."""
    return UNTRAINED_TEST in facts


def additions(facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns what was written each time that seeds or strategies were added."""
    return [value for name, value in facts.items() if name.partition(" ")[0] == ADDED]


def stored_name(name: str, added: int) -> str:
    """Returns the name under which a fact is stored once something was added so many times.

    >>> stored_name("winner sgd", 0), stored_name("winner sgd", 1), stored_name("run", 1)
    ('winner sgd', '1/winner sgd', 'run')
    """
    return f"{added}/{name}" if added and (name in CONCLUDING or name.startswith(winner_of(""))) else name


def as_they_stand(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Returns facts by their names as they stand after what was added last.

    >>> facts = {"design": {"seed": 0}, "engine": [], "seconds": 9.0, "untrained_test": {}}
    >>> more = {"design": {"seed": 0, "n": 2}, "charged": {}, "notes": [], "engines": [], "command": ""}
    >>> found = as_they_stand({**facts, "added 1": more, "1/seconds": 12.0})
    >>> found["design"], found["seconds"], finished(found)
    ({'seed': 0, 'n': 2}, 12.0, False)
    """
    added = additions(stored)
    if not added:
        return dict(stored)
    last, prefix, found = added[-1], f"{len(added)}/", dict[str, Any]()
    for name, value in stored.items():
        own = name.removeprefix(prefix)
        if stored_name(own, len(added)) == name:
            found[own] = value
    engines = [choice for one in added for choice in one["engines"]]
    for name in [name for name in found if name.partition(" ")[0] == ENGINE]:
        known = {_kind(choice) for choice in found[name]}
        found[name] = [*found[name], *(choice for choice in engines if _kind(choice) not in known)]
    run = {**found.get(RUN, {}), "command": last["command"]}  # which goes on with the study as it is now
    return {**found, RUN: run, **{name: last[name] for name in (DESIGN, CHARGED, NOTES)}}


def batch_of(added: Sequence[Mapping[str, Any]], strategy: str, run: int) -> int:
    """Returns with which addition a final run of a strategy came; 0 for what the study began with.

    >>> added = [{"to": {"strategies": ["sgd"], "seeds": 10}}, {"to": {"strategies": ["sgd"], "seeds": 20}}]
    >>> [batch_of(added, *run) for run in (("sgd", 9), ("sgd", 10), ("sgd", 20), ("adam", 0))]
    [0, 1, 2, 2]
    """
    held = [strategy in one["to"]["strategies"] and run < one["to"]["seeds"] for one in added]
    return held.index(True) if True in held else len(added)


def _kind(choice: Mapping[str, Any]) -> tuple[str, str]:
    """Returns which strategies an engine was chosen for: those of rules together, another by its name."""
    return re.sub(r" [(]\d+ strateg.*", "", choice["group"]), choice.get("variant", "")
