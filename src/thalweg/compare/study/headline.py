"""The headline of a report: one sentence of at most 20 words, which says no more than the verdict does."""

from collections.abc import Sequence

from thalweg.compare.study import timed
from thalweg.compare.study.judged import Judged

WORDS = 20
OF_A_NAME = 4  # words of a name in a sentence that would be too long otherwise
CHEAP = 0.1  # share of the least seconds of a run by which one of the cheapest may take longer, and be uncertain by
NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def headline(
    judged: Judged, use: str, candidates: Sequence[str], behind: Sequence[str], fastest: str | None, needed: int
) -> str:
    """Returns the headline of a verdict on several strategies, of which some trained.

    Arguments:
        judged: what was compared.
        use: the strategy to use.
        candidates: those that could be the best.
        behind: the others.
        fastest: the candidate that reaches the target in the fewest steps, by test; None without one.
        needed: runs with which the test can tell strategies apart at all.
    """
    names = [_configured(use, judged), use, brief(use)]
    is_winner = len(candidates) == 1
    if not is_winner and judged.seeds < needed:
        count = len(judged.runs)
        return f"No verdict: it takes at least {needed} seeds to compare {count} strategies (--seeds {needed})."
    if judged.is_timed:
        return fitting(*(_timed(judged, use, name, is_winner, bool(behind)) for name in names))
    if is_winner:
        return fitting(*(f"Use {name}: every other strategy did worse." for name in names))
    merit = "it needs the fewest steps" if fastest else "it is among the cheapest" if is_cheap(judged, use) else ""
    if behind:
        and_merit = f", and {merit}" if merit else ""
        return fitting(*(f"Use {name}: nothing tried is better{and_merit}." for name in names))
    tied = f"of the {in_words(len(candidates))} that tie"
    what = (
        f"which needs the fewest steps {tied}"
        if fastest
        else f"among the cheapest {tied}"
        if merit
        else f"which typically scored best {tied}"
        if all(judged.typical(use) != judged.typical(other) for other in candidates if other != use)
        else f"one {tied}"
    )
    return fitting(*(f"No strategy is surely better; use {name}, {what}." for name in names))


def refusal(judged: Judged, ranked: Sequence[str]) -> str:
    """Returns why nothing can be recommended, in a sentence as short as the headline; empty where something can."""
    if judged.unmeasured:
        names = " and ".join([", ".join(judged.unmeasured[:-1]), judged.unmeasured[-1]]).removeprefix(" and ")
        count = len(judged.unmeasured)
        known = [names, f"{count} strategies" if count > 1 else brief(names)]
        metrics = (judged.metric, brief(judged.metric))
        return fitting(*(f"No verdict: the test {m} of {n} is not a number." for m in metrics for n in known))
    if judged.is_timed and (why := timed.refusal(judged)):
        return fitting(why, timed.refusal(judged, "the target"))
    if all(all(runs.failed) for runs in judged.runs.values()):
        return "No strategy trained the model: every final run failed."
    scores = {x for runs in judged.runs.values() for x in runs.scores}
    if not judged.is_timed and len(scores) == 1 < judged.seeds:
        metrics = (judged.metric, brief(judged.metric))
        return fitting(*(f"No verdict: the test {metric} is the same in all runs." for metric in metrics))
    if len(ranked) == 1:
        only = (ranked[0], brief(ranked[0]))
        return fitting(*(f"Only {name} was run, so there is nothing to compare it with." for name in only))
    return ""


def is_cheap(judged: Judged, name: str) -> bool:
    """Says whether a run of a strategy takes about the least seconds of all that were tried, as far as is measured."""
    costs = judged.costs
    if not judged.runs.keys() <= costs.keys() or judged.precision_of_costs.get(name, 1.0) > CHEAP:
        return False
    return costs[name] <= (1 + CHEAP) * min(costs[other] for other in judged.runs)


def fitting(*sentences: str) -> str:
    """Returns the first of the sentences that has at most 20 words; the last where none has.

    >>> fitting("a " * 21, "b")
    'b'
    """
    return next((s for s in sentences if len(s.split()) <= WORDS), sentences[-1])


def brief(name: str) -> str:
    """Returns the first words of a name that has many.

    >>> brief("adam"), brief("an optimizer that I found in a drawer")
    ('adam', 'an optimizer that I…')
    """
    words = name.split()
    return name if len(words) <= OF_A_NAME else " ".join(words[:OF_A_NAME]) + "…"


def in_words(count: int) -> str:
    """Returns a count as a sentence has it.

    >>> in_words(3), in_words(64)
    ('three', '64')
    """
    return NUMBERS[count] if count < len(NUMBERS) else str(count)


def _configured(name: str, judged: Judged) -> str:
    choice = judged.choices.get(name, "")
    return f"{name} ({choice})" if choice else name


def _timed(judged: Judged, use: str, name: str, is_winner: bool, some_behind: bool) -> str:
    reached = f"reached the target in {timed.count(judged, use)} of {len(judged.runs[use].scores)} runs"
    if is_winner or some_behind:
        others = "every other strategy did worse" if is_winner else "nothing tried is faster"
        return f"Use {name}: it {reached}, and {others}."
    return f"No strategy is surely faster; use {name}, which {reached}."
