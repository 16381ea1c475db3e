"""The names of a study's facts, and which of them say how far it is."""

from collections.abc import Iterator, Mapping
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
