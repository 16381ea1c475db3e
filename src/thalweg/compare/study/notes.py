"""What a reader of the results should know beside the figures."""

from collections.abc import Mapping, Sequence
from typing import Any

from thalweg.compare.arguments import in_words
from thalweg.compare.design import PROTOCOL, Budget
from thalweg.compare.storage.facts import NOTES, additions
from thalweg.compare.storage.old_designs import is_former
from thalweg.compare.strategy import Strategy
from thalweg.optim.roles import MATRICES, ROLES, Role

SHOWN = 4  # names of parameters of one role
KINDS: Mapping[Role, tuple[str, str]] = {
    "hidden": ("hidden matrix", "hidden matrices"),
    "convolution": ("convolution", "convolutions"),
    "embedding": ("embedding", "embeddings"),
    "head": ("head", "heads"),
    "vector": ("vector", "vectors"),
}


def before_first_step(costs: Mapping[str, int], steps: int) -> str:
    """Returns in words what each run spends before its first step.

    >>> before_first_step({"teacher": 250, "hints": 125}, 1000)
    'each run spends 375 of its 1,000 gradient evaluations before its first step (teacher 250, hints 125)'
    """
    parts = ", ".join(f"{what} {count:,}" for what, count in costs.items())
    spent = f"{sum(costs.values()):,} of its {steps:,} gradient evaluations"
    return f"each run spends {spent} before its first step ({parts})"


def lengths_in_words(budget: Budget, closures: Sequence[str] = ()) -> str:
    """Returns how long runs are.

    Arguments:
        budget: of the study.
        closures: strategies that evaluate the gradient several times a step.

    >>> lengths_in_words(Budget(12, 1525, 10))
    'runs have 1,525 steps'
    >>> each = {"sgd": 1200, "adam": 1200, "lbfgs": 310}
    >>> lengths_in_words(Budget(12, 1200, 10, lengths=each, run_seconds=120.0), ["lbfgs"])
    'runs take 2 min each, trained alone: sgd and adam 1,200 steps, lbfgs 310 gradient evaluations'
    """
    if budget.lengths is None:
        return f"runs have {budget.steps:,} steps"
    alike: dict[str, list[str]] = {}
    for name, steps in budget.lengths.items():
        unit = "gradient evaluations" if name in closures else "steps"
        alike.setdefault(f"{steps:,} {unit}", []).append(name)
    parts = [f"{' and '.join(filter(None, [', '.join(n[:-1]), n[-1]]))} {steps}" for steps, n in alike.items()]
    return f"runs take {in_words(budget.run_seconds or 0.0)} each, trained alone: {', '.join(parts)}"


def partners_in_words(strategies: Sequence[Strategy], roles: Mapping[str, Role]) -> list[str]:
    """Returns what the optimizers of matrices among strategies step of a model, in lines; nothing of those that cannot
    run, since they step nothing."""
    alike: dict[tuple[Role, ...], list[str]] = {}
    for strategy in strategies:
        if strategy.has_partner:
            own = tuple(role for role in strategy.matrix_roles if role in roles.values())
            alike.setdefault(own, []).append(strategy.name)
    return [roles_in_words(names, roles, own) for own, names in alike.items() if own]


def roles_in_words(strategies: Sequence[str], roles: Mapping[str, Role], matrices: Sequence[Role] = MATRICES) -> str:
    """Returns what optimizers of matrices step of a model, those with these roles, and what their partner does.

    >>> roles_in_words(["muon"], {"0.weight": "hidden", "0.bias": "vector", "2.weight": "head", "2.bias": "vector"})
    'muon steps 1 hidden matrix (0.weight); AdamW, with an adamw_lr that is tuned too, 1 head (2.weight) and 2 vectors'
    """
    parts = []
    for own in (True, False):
        found = []
        for role in ROLES:
            names = [name for name, its in roles.items() if its == role and (role in matrices) == own]
            shown = ", ".join(names[:SHOWN]) + ", …" * (len(names) > SHOWN)
            what = KINDS[role][len(names) > 1]
            found += [f"{len(names)} {what}{'' if role == 'vector' else f' ({shown})'}"] if names else []
        parts.append(" and ".join(filter(None, [", ".join(found[:-1]), *found[-1:]])) or "nothing")
    verb = "steps" if len(strategies) == 1 else "step"
    return f"{', '.join(strategies)} {verb} {parts[0]}; AdamW, with an adamw_lr that is tuned too, {parts[1]}"


def notes_of(strategies: Sequence[Mapping[str, Any]], facts: Mapping[str, Any], design: Mapping[str, Any]) -> list[str]:
    """Returns the notes of a study, a sentence or two each."""
    budget = Budget.from_design(design)
    notes = [
        "Seconds to target are the steps to target times the duration of a step, which is measured for each "
        "recommended configuration alone, in turns.",
        "In the expected best at k, a configuration that was stopped at the first rung counts with its value there.",
    ]
    if budget.lengths is not None:
        closures = [s["name"] for s in design["strategies"] if s.get("closure")]
        said = lengths_in_words(budget, closures)
        notes.append(
            f"{said[0].upper()}{said[1:]}. Costs that differ by less than a tenth counted as equal. The first rung, "
            "warm-up and evaluation points lie at the same shares of every run."
        )
    if design["protocol"] < PROTOCOL:
        notes.append(
            "This study was run by a former protocol: the final runs of a strategy share one configuration, which was "
            "chosen on one tuning seed, so the intervals leave out the luck of tuning."
        )
    elif is_former(design):
        notes.append(
            "This study was run by a former protocol of --until decided: each batch added final runs but no trials of "
            "tuning, so it is called decided too often."
        )
    if len({len(s["runs"]) for s in strategies}) > 1:
        notes.append(
            "Batches were added for the strategies still in question alone: the others have fewer trials and runs, and "
            "are compared by the runs that both have."
        )
    notes += added_in_words(additions(facts))
    for s in strategies:
        if s.get("could_not_run"):
            notes.append(f"{s['name']} could not run, in some runs at least: it {s['could_not_run']}.")
        elif s["diverged"] == s["trials"]:
            notes.append(f"{s['name']}: every configuration diverged, so its default configuration was run.")
    for s in strategies:
        if s["charged"]:
            notes.append(f"{s['name']}: {before_first_step(s['charged'], budget.of(s['name']).steps)}.")
    if any(s["failed"]["count"] for s in strategies):
        notes.append(
            "A final run failed if it diverged, or covered less than a tenth of the way from the better of the "
            "untrained and the best constant model to the best strategy's typical run. It counts as lost in every "
            "comparison."
        )
    for s in strategies:
        if s["on_edge"]:
            name, side = s["on_edge"]
            notes.append(
                f"{s['name']}: the best {name} lies on the {side} edge of its range, so a wider range may be better."
            )
    return notes + list(facts.get(NOTES, []))


def added_to(facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns what was added to a study, when, and the verdict that was known then; None where it had none."""
    own = ("when", "strategies", "seeds")
    return [{**{name: one[name] for name in own}, "seen": one["to"]["verdict"]} for one in additions(facts)]


def more_in_words(strategies: Sequence[str], before: int, more: int) -> str:
    """Returns what is added to a study that has so many seeds before.

    >>> more_in_words(["muon", "lion"], 10, 10), more_in_words([], 10, 1)
    ('muon, lion and seeds 11 to 20', 'seed 11')
    """
    runs = f"seeds {before + 1} to {before + more}" if more > 1 else f"seed {before + 1}" if more else ""
    return " and ".join(filter(None, [", ".join(strategies), runs]))


def added_in_words(added: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns what was added to a study, and what that does to its rates of error.

    >>> known = {"strategies": ["sgd", "adam"], "seeds": 10, "verdict": "Use adam: nothing tried is better."}
    >>> one = {"when": "2026-01-31T12:30:59+00:00", "strategies": [], "seeds": 10, "to": known}
    >>> added_in_words([one])[0].partition(": ")[0]
    'Seeds 11 to 20 were added on 2026-01-31, when the result with 10 seeds of sgd, adam was known'
    """
    found = []
    for one in added:
        before, seen = one["to"]["seeds"], one["to"]["verdict"]
        what = more_in_words(one["strategies"], before, one["seeds"])
        first = what[0] if one["strategies"] else what[0].upper()
        verb = "was" if len(one["strategies"]) + one["seeds"] == 1 else "were"
        known = f'when the result with {before} seeds of {", ".join(one["to"]["strategies"])} was known: "{seen}"'
        when = "before the study had a result." if seen is None else known
        found.append(f"{first}{what[1:]} {verb} added on {one['when'][:10]}, {when}")
    return [*found, *error_rates(added)]


def error_rates(added: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns what additions to a study do to the rates of error of its verdict; nothing where no result was known."""
    looks = 1 + sum(one["to"]["verdict"] is not None for one in added)
    if looks == 1:
        return []
    return [
        f"This verdict is look {looks} at one study, and each look is judged as if it were the only one: adding until "
        f"a result pleases finds differences that are not there up to {looks} times as often as the level of the test "
        "says. A study with --until decided plans its looks, which share the level; a study with another --seed "
        "confirms a verdict."
    ]


def findings_in_words(diagnosis: Mapping[str, Any] | None) -> list[str]:
    """Returns a line for each finding above a note."""
    found = [f for f in (diagnosis or {}).get("findings", []) if f["severity"] != "note"]
    return [f"the untrained model: {f['kind']}{_of(f)}: {f['meaning']}{_fix(f)}" for f in found]


def _of(finding: Mapping[str, Any]) -> str:
    """Returns layer, figure and threshold of a finding, as far as it has them."""
    known = (finding["layer"], finding["figure"], finding.get("threshold"))
    layer, figure, bound = (v if isinstance(v, str) or v is None else f"{v:.4g}" for v in known)
    shown = [layer, f"figure {figure}" if figure else "", f"threshold {bound}" if bound else ""]
    return f" ({', '.join(part for part in shown if part)})"


def _fix(finding: Mapping[str, Any]) -> str:
    return f"; fix: {finding['fix']}" if finding["fix"] else ""
