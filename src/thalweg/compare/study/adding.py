"""Seeds and strategies that are added to a study that there is: what may be, and how it is written down.

The study with them is the one that they would have been in from the beginning: the same seeds, the same configurations,
the same pairs. What there is is not trained again. How often a result was seen before is what the results then say.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from thalweg.compare.design import Budget
from thalweg.compare.execution.engine_set import EngineSet
from thalweg.compare.execution.job import training
from thalweg.compare.storage.create import FILE
from thalweg.compare.storage.differences import different
from thalweg.compare.storage.facts import DESIGN, ENGINE, additions, engine_choices, finished
from thalweg.compare.storage.store import Store
from thalweg.compare.study.criterion import Criterion
from thalweg.compare.study.description import FROM_PYTHON
from thalweg.compare.study.notes import error_rates, more_in_words
from thalweg.compare.study.prepare import Prepared
from thalweg.compare.study.prepare_loop import PreparedLoop
from thalweg.compare.study.results import collect
from thalweg.compare.user_errors import StudyError


def in_stored_order(prepared: Prepared | PreparedLoop) -> Prepared | PreparedLoop:
    """Returns a study with its strategies in the order of those that its folder has, and others behind them.

    Raises:
        StudyError: strategies are to be added, and there is no study; or it is damaged.
    """
    folder, config = prepared.folder, prepared.config
    if not (folder / FILE).exists():
        if config.added:
            raise StudyError(
                f"{folder} contains no study to add to: name all strategies with --strategies, without --add"
            )
        return prepared
    store = Store.open(folder, check=False)
    try:
        held = _names(store.fact(DESIGN))
    finally:
        store.close()
    names = [s.name for s in config.strategies]
    ordered = sorted(names, key=lambda name: held.index(name) if name in held else len(held))
    if ordered == names:
        return prepared
    by_name = {s.name: s for s in config.strategies}
    config = replace(config, strategies=[by_name[name] for name in ordered])
    return replace(prepared, config=config).only(ordered, config.seeds)


def extends(prepared: Prepared | PreparedLoop, held: Mapping[str, Any]) -> bool:
    """Says whether a study only adds seeds or strategies to a stored design, which is another.

    Raises:
        StudyError: it does, and they cannot be added.
    """
    folder, budget = prepared.folder, Budget.from_design(held)
    names, asked = _names(held), [s.name for s in prepared.config.strategies]
    new = asked[len(names) :]
    if asked[: len(names)] != names or (prepared.config.added and {*new} - {*prepared.config.added}):
        return False
    if different(held, prepared.only(names, budget.seeds).design()):
        return False
    if prepared.config.seeds < budget.seeds:
        raise StudyError(
            f"{folder} contains a study of {budget.seeds} seeds, and seeds can only be added: give --seeds "
            f"{budget.seeds} or more, or choose another --out"
        )
    if budget.looks > 1:
        raise StudyError(
            f"nothing can be added to the study in {folder}, which adds seeds itself, by a plan whose looks share the "
            "level of the test (--until decided); what is added after a look is in no plan: choose another --out"
        )
    criterion = Criterion.of(held)
    if new and criterion.is_timed and criterion.given is None:
        raise StudyError(
            f"no strategy can be added to the study in {folder}, whose target was chosen from the tuning of those that "
            "it has: begin one with all of them, or with a --target, with another --out"
        )
    if new and budget.study_seconds is not None:
        raise StudyError(
            f"no strategy can be added to the study in {folder}, whose runs are as long as a time allows (--budget): "
            "begin one with all of them with another --out"
        )
    rungs = [prepared.budget.of(name).rung for name in names]
    if rungs != [budget.of(name).rung for name in names]:
        raise StudyError(
            f"{new[0]} cannot be added to the study in {folder}, since its warm-up is longer than the first rung of "
            f"tuning there ({budget.rung} steps): set a shorter one, or choose another --out"
        )
    return True


def add(prepared: Prepared | PreparedLoop, store: Store, engines: EngineSet, command: str | None) -> list[str]:
    """Adds to a study what is asked for and is not in it; measures engines for strategies that are new.

    It is written at once, so that there is all of it or nothing. Returns in lines what it is.

    Raises:
        ValueError: no strategy that is new can train the model.
    """
    facts, config = store.facts(), prepared.config
    held = facts[DESIGN]
    if ENGINE not in facts or not different(held, prepared.design()):
        return []
    names, seeds = _names(held), held["budget"]["seeds"]
    new = [s.name for s in config.strategies if s.name not in names]
    with store.reading():
        stored = [*engine_choices(facts)][-1][1]
    with training():
        engines.extend(stored, new, config.seed)
    choices = [choice.as_dict() for choice in engines.choices]
    seen = collect(store)["verdict"]["sentence"] if finished(facts) else None
    counts = store.counts()
    planned = {stage.rung: len(names) * stage.runs for stage in Budget.from_design(held).stages()}
    before = additions(facts)[-1:]
    unneeded = {rung: runs - counts.get(rung, 0) for rung, runs in planned.items()} if seen else {}
    store.extend(
        {
            "to": {"strategies": names, "seeds": seeds, "verdict": seen, "records": counts},
            "unneeded": unneeded or (before[0]["unneeded"] if before else {}),
            "strategies": new,
            "seeds": config.seeds - seeds,
            "when": datetime.now(UTC).isoformat(timespec="seconds"),
            "command": command or FROM_PYTHON,
            "design": prepared.design(),
            "charged": prepared.charged,
            "notes": prepared.notes,
            "engines": [choice for choice in choices if choice not in stored],
        }
    )
    what, where = more_in_words(new, seeds, config.seeds - seeds), _listed(names)
    said = f"adding {what} to the study of {where} with {seeds} seeds"
    return [said, *error_rates(additions(store.facts()))]


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _names(design: Mapping[str, Any]) -> list[str]:
    return [strategy["name"] for strategy in design["strategies"]]
