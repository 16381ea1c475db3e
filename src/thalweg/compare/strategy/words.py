"""The words of a strategy's name: which axis each belongs to, and strategies crossed with the words of axes."""

import difflib
from collections.abc import Iterable, Mapping, Sequence

from thalweg.compare.strategy.guidances import GUIDANCES
from thalweg.compare.strategy.variants import AVERAGINGS, INITIALIZATIONS, NORMALIZATIONS
from thalweg.compare.user_errors import LoadError
from thalweg.rules.switches import SWITCHES

_WORDS: Mapping[str, Iterable[str]] = {
    "initialization": INITIALIZATIONS,
    "normalization": NORMALIZATIONS,
    "averaging": AVERAGINGS,
    "guidance": GUIDANCES,
    "switch": SWITCHES,
}


def axis_of(word: str) -> str:
    """Returns what a word of a strategy's name says; what nothing else is called is an architecture.

    >>> [axis_of(word) for word in ("he", "batch-norm", "ema", "residual")]
    ['initialization', 'normalization', 'averaging', 'architecture']
    """
    return next((axis for axis, words in _WORDS.items() if word in words), "architecture")


def crossed(strategies: Sequence[str], axes: Mapping[str, Sequence[str]]) -> list[str]:
    """Returns every strategy with every word of each axis; one that has a word of that axis stays as it is.

    >>> crossed(["adam@cosine", "sgd+he"], {"initialization": ["default", "orthogonal"]})
    ['adam+default@cosine', 'adam+orthogonal@cosine', 'sgd+he']
    >>> crossed(["adam"], {"normalization": ["none", "batch-norm"], "averaging": ["none", "ema"]})
    ['adam', 'adam+ema', 'adam+batch-norm', 'adam+batch-norm+ema']

    Raises:
        LoadError: a word that the axis does not have.
    """
    names = list(strategies)
    for axis, words in axes.items():
        for word in words:
            if axis in _WORDS:
                check_known(word, dict.fromkeys(["none", *_WORDS[axis]]), axis)
            elif word != "none" and axis_of(word) != axis:
                raise LoadError(f"{word!r} is not an {axis}: it is an {axis_of(word)}")
        names = [name for text in names for name in _with(text, axis, words)]
    return names


def _with(text: str, axis: str, words: Sequence[str]) -> list[str]:
    optimizer, own, schedule = parts_of(text)
    if any(axis_of(word) == axis for word in own):
        return [text]
    body, at = "+".join([optimizer, *own]), "@" if schedule else ""
    return [f"{body}{'' if word == 'none' else f'+{word}'}{at}{schedule}" for word in words]


def parts_of(text: str) -> tuple[str, list[str], str]:
    """Returns optimizer, words and schedule; what leads to a file may hold any letters.

    >>> parts_of("../c++/my.py:slow+he@cosine")
    ('../c++/my.py:slow', ['he'], 'cosine')
    """
    folder, end, rest = text.rpartition(".py:")
    body, _, schedule = rest.partition("@")
    name, *words = body.split("+")
    return f"{folder}{end}{name}", words, schedule


def check_known(name: str, table: Iterable[str], kind: str) -> None:
    """Raises LoadError, which names the nearest one, where a name is not in a table."""
    if name not in (names := list(table)):
        raise LoadError(f"unknown {kind} {name!r}: {nearest(name, names)}")


def nearest(name: str, names: Iterable[str]) -> str:
    """Returns a question after the nearest of the names, or all of them where none is near.

    >>> nearest("adm", ["sgd", "adam"]), nearest("lion", ["sgd", "adam"])
    ("did you mean 'adam'?", 'there are sgd, adam')
    """
    near = difflib.get_close_matches(name, names := list(names), n=1)
    return f"did you mean {near[0]!r}?" if near else f"there are {', '.join(names)}"
