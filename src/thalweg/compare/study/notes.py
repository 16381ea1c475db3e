"""What a reader of the results should know beside the figures."""

from collections.abc import Mapping, Sequence
from typing import Any


def before_first_step(costs: Mapping[str, int], steps: int) -> str:
    """Returns in words what each run spends before its first step.

    >>> before_first_step({"teacher": 250, "hints": 125}, 1000)
    'each run spends 375 of its 1,000 gradient evaluations before its first step (teacher 250, hints 125)'
    """
    parts = ", ".join(f"{what} {count:,}" for what, count in costs.items())
    spent = f"{sum(costs.values()):,} of its {steps:,} gradient evaluations"
    return f"each run spends {spent} before its first step ({parts})"


def notes_of(strategies: Sequence[Mapping[str, Any]], facts: Mapping[str, Any], budget: Mapping[str, Any]) -> list[str]:
    """Returns the notes of a study, a sentence or two each."""
    notes = [
        "Seconds to target are the steps to target times the duration of a step, which is measured for each "
        "finalist alone, in turns.",
        "In the expected best at k, a configuration that was stopped at the first rung counts with its value there.",
    ]
    if budget["trials"] < 4:
        notes.append(
            "With fewer than 4 trials, none is held back to search beyond the edge of a range, so no range was widened."
        )
    for s in strategies:
        if s["diverged"] == s["trials"]:
            notes.append(f"{s['name']}: every configuration diverged, so its default configuration was run.")
    for s in strategies:
        if s["charged"]:
            notes.append(f"{s['name']}: {before_first_step(s['charged'], budget['steps'])}.")
    if any(s["final_diverged"] for s in strategies):
        notes.append(
            "A final run that diverged, or whose metric is not a number, counts with the score of the untrained model."
        )
    for s in strategies:
        if s["widened"]:
            w = s["widened"]
            more = "; the best value is still on the edge, so a wider range may be better" if w["still_on_edge"] else ""
            what = f"the best {w['hyperparameter']} lay on the {w['side']} edge, so its range was widened"
            notes.append(f"{s['name']}: {what}{more}.")
    return notes + list(facts.get("notes", []))
