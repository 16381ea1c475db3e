"""Which engine trains which rung: chosen before the first one, and again before each of the others where that pays.

What is another from a rung on is written before anything of the rung is, so that a study that was cut off goes on with
it, and the store tells of every record what trained it.
"""

from collections.abc import Callable

from thalweg.compare.execution.engine_set import EngineSet
from thalweg.compare.execution.job import training
from thalweg.compare.storage.store import Store
from thalweg.compare.study.study import TITLES


def choose_again(engines: EngineSet, store: Store, seed: int, say: Callable[[str], None], rung: str) -> None:
    """Takes up what was chosen for the rung; measures anew where nothing of it is trained yet."""
    before, stored = engines.choices, store.facts().get(f"engine {rung}")
    if stored:
        engines.reuse(stored)
    elif rung != "tune-1" and rung not in store.counts():
        with training():
            engines.choose_again(seed, list(TITLES).index(rung))
    changed = [new for old, new in zip(before, engines.choices, strict=True) if new.reason != old.reason]
    if changed:
        store.add_fact(f"engine {rung}", [choice.as_dict() for choice in engines.choices])
    for choice in changed:
        say(f"engine for {choice.title} from here on: {choice.name} ({choice.reason})")
