"""Which engine trains which rung: chosen before the first one, and again before each of the others where that pays.

What is another from a rung on is written before anything of the rung is, so that a study that was cut off goes on with
it, and the store tells of every record what trained it.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from thalweg.compare.engines.choose import Choice
from thalweg.compare.store import Store
from thalweg.compare.study import TITLES, training


class Chooses(Protocol):
    """What chooses among engines, here or on Ray's workers."""

    @property
    def choices(self) -> list[Choice]:
        """What is chosen for each group of strategies."""

    def reuse(self, stored: Sequence[dict[str, Any]]) -> None:
        """Takes up what is stored."""

    def choose_again(self, seed: int, rung: int) -> None:
        """Measures anew for a rung, by its number, and for those after it."""


def choose_again(fleet: Chooses, store: Store, seed: int, say: Callable[[str], None], rung: str) -> None:
    """Takes up what was chosen for the rung; measures anew where nothing of it is trained yet."""
    before, stored = fleet.choices, store.facts().get(f"engine {rung}")
    if stored:
        fleet.reuse(stored)
    elif rung != "tune-1" and rung not in store.counts():
        with training():
            fleet.choose_again(seed, list(TITLES).index(rung))
    changed = [new for old, new in zip(before, fleet.choices, strict=True) if new.reason != old.reason]
    if changed:
        store.add_fact(f"engine {rung}", [choice.as_dict() for choice in fleet.choices])
    for choice in changed:
        say(f"engine for {choice.title} from here on: {choice.name} ({choice.reason})")
