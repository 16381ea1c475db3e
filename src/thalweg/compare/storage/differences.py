"""In what a study that is stored is another than the one that is asked for, in the words of the command line."""

from collections.abc import Iterator, Mapping
from typing import Any

from thalweg.compare.arguments import in_words

Difference = tuple[str, Any, Any]  # what differs, the value that is stored, the value that is asked for
MOST = 4  # differences that are named
LONGEST, BEFORE = 48, 12  # letters of a value, and those of them before where two of them begin to differ
MISSING = "not given"
FIRST = ("task", "strategies", "budget")  # the other parts of a design follow from the command line alone
TASK = {
    "range": "the range of the metric",
    "train_size": "the number of training examples",
    "valid_size": "the number of validation examples",
    "test_size": "the number of test examples",
    "parameters": "the number of parameters",
    "batch_size": "the batch size",
    "digest": "the digest of data, starting weights and code",
}
GIVEN = ("trials", "steps", "seeds", "looks", "study_seconds")  # of a budget; the rest follows from these


def different(held: Mapping[str, Any], asked: Mapping[str, Any]) -> list[Difference]:
    """Returns in what a stored design is another than the one that is asked for, as (what, there, here).

    What a budget did not state when the study began is not compared, nor how long a trial may take: that may change
    while a study goes on. What follows from another difference is left out.

    >>> held = {"task": {}, "strategies": [], "seed": 0, "budget": {"steps": 300}}
    >>> different(held, {**held, "budget": {"steps": 300, "warmup": 2}})
    []
    >>> different(held, {**held, "seed": 1, "budget": {"steps": 400}})
    [('steps', 300, 400), ('seed', 0, 1)]
    """
    found = [*_of_task(held["task"], asked["task"])]
    strategies = [*_of_strategies(held["strategies"], asked["strategies"])]
    if strategies and [what for what, _, _ in found] == [TASK["digest"]]:
        found = []  # it is also of the models that strategies ask for
    found += strategies
    found += _of_budget(held, asked, found)
    looks = (design["budget"].get("looks", 1) for design in (held, asked))
    apart = "protocol" if len({*looks}) == 1 else None  # which otherwise follows from them
    rest = [name for name in {**held, **asked} if name not in FIRST and (name != "protocol" or apart)]
    return [*found, *((name, held.get(name), asked.get(name)) for name in rest if held.get(name) != asked.get(name))]


def in_a_line(found: list[Difference]) -> str:
    """Returns differences in words, the first of them where there are many.

    >>> in_a_line([("steps", 300, 400), ("within", None, 0.01)])
    'steps is 300 there and 400 here; within is not given there and 0.01 here'
    """
    words = [_sentence(*one) for one in found[:MOST]]
    return "; ".join([*words, *([f"{len(found) - MOST} more differ"] if len(found) > MOST else [])])


def _sentence(what: str, there: Any, here: Any) -> str:
    one, two = _shown(what, there), _shown(what, here)
    if one == two:
        one, two = repr(there), repr(here)
    one, two = _shortened(one, two)
    return f"{what} {'are' if what == 'strategies' else 'is'} {one} there and {two} here"


def _shown(what: str, value: Any) -> str:
    """Returns a value in words, on one line."""
    if value is None or value == "":
        return MISSING
    if what == "budget":
        return in_words(value)
    if what.startswith("space "):
        if isinstance(value, Mapping):
            return "|".join(f"{one:g}" for one in value["values"])
        return ":".join(f"{one:g}" if isinstance(one, (int, float)) else one for one in value)
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_shown('', one)}" for name, one in value.items())
    if isinstance(value, list):
        return ", ".join(_shown("", one) for one in value)
    return " ".join(str(value).split())


def _shortened(one: str, two: str) -> tuple[str, str]:
    """Returns two texts, shortened to where they begin to differ.

    >>> _shortened("a" * 50 + "b", "a" * 50 + "c")
    ('…aaaaaaaaaaaab', '…aaaaaaaaaaaac')
    """
    if max(len(one), len(two)) <= LONGEST:
        return one, two
    same = next((i for i, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), min(len(one), len(two)))
    start = max(0, same - BEFORE)
    cut = [f"{'…' * (start > 0)}{text[start:]}" for text in (one, two)]
    first, second = (f"{text[:LONGEST]}…" if len(text) > LONGEST else text for text in cut)
    return first, second


def _of_task(held: Mapping[str, Any], asked: Mapping[str, Any]) -> Iterator[Difference]:
    """Yields the differences of tasks; of another task its name, and its digest where nothing else says why."""
    if held.get("name") != asked.get("name"):
        yield "task", held.get("name"), asked.get("name")
        return
    parts = [name for name in {**held, **asked} if held.get(name) != asked.get(name)]
    for name in parts if parts == ["digest"] else (name for name in parts if name != "digest"):
        there, here = held.get(name), asked.get(name)
        if name == "guides":
            yield from _inside("the guidance's {}", there or {}, here or {})
        elif name == "is_given":
            there, here = ("as given" if given else "anew" for given in (there, here))
            yield "start", there, here
        else:
            yield TASK.get(name, name.replace("_", "-")), there, here


def _of_strategies(held: list[dict[str, Any]], asked: list[dict[str, Any]]) -> Iterator[Difference]:
    """Yields the differences of strategies: in which there are, and in what makes those that both have."""
    there, here = ([strategy["name"] for strategy in some] for some in (held, asked))
    if there != here:
        yield "strategies", there, here
    others = {strategy["name"]: strategy for strategy in asked}
    for one in held:
        whose, two = one["name"], others.get(one["name"], one)
        parts = [name for name in {**one, **two} if one.get(name) != two.get(name)]
        for name in parts if parts == ["start"] else (name for name in parts if name != "start"):
            if name in ("space", "defaults"):
                option = "space" if name == "space" else "set"
                yield from _inside(f"{option} {whose}.{{}}", one.get(name) or {}, two.get(name) or {})
            else:
                yield f"{name} of {whose}", one.get(name), two.get(name)


def _of_budget(held: Mapping[str, Any], asked: Mapping[str, Any], others: list[Difference]) -> Iterator[Difference]:
    """Yields the differences of budgets, as far as the stored one states its parts."""
    one, two = held["budget"], asked["budget"]
    parts = [name for name in one if name != "trial_seconds" and one[name] != two.get(name)]
    if "study_seconds" in parts:
        parts = [name for name in parts if name != "steps"]  # which follow from it
    for name in [name for name in parts if name in GIVEN] or (parts if not others else []):
        there, here = one[name], two.get(name)
        if name == "study_seconds":
            yield "budget", there, here
        elif name == "looks":
            there, here = ("decided" if looks and looks > 1 else None for looks in (there, here))
            yield "until", there, here
        elif name == "warmup":
            yield "the longest warm-up", there, here
        elif name == "lengths":
            yield from _inside("steps of {}", there or {}, here or {})
        else:
            yield name.replace("_", "-"), there, here


def _inside(label: str, there: Mapping[str, Any], here: Mapping[str, Any]) -> Iterator[Difference]:
    for name in {**there, **here}:
        if there.get(name) != here.get(name):
            yield label.format(name), there.get(name), here.get(name)
