"""The words of a strategy's name that switch something on around its update rule, as in ``adamw+cautious``."""

from collections.abc import Sequence

from thalweg.compare.strategy.hyperparameters import Searched
from thalweg.compare.user_errors import LoadError
from thalweg.rules import Partnered, Rule, switched


def switched_rule(strategy: Searched, words: Sequence[str]) -> Rule:
    """Returns the strategy's rule with what the words switch on around it.

    Raises:
        LoadError: the strategy has no rule, or one that a word does not go around.
    """
    if strategy.rule is None:
        raise _refused(strategy.name, words)
    if strategy.guidance != "none" and {"sam", "asam"} & set(words):
        raise LoadError(
            f"{strategy.name!r}: SAM evaluates two gradients a step, which {strategy.guidance} does not: omit one"
        )
    if isinstance(strategy.rule, Partnered):
        raise LoadError(f"{strategy.name!r} steps matrices, around which {words[0]} does not go: omit one")
    try:
        return switched(strategy.rule, words)
    except ValueError as error:
        raise LoadError(f"{strategy.name!r}: {error}") from error


def refuse_switches(name: str, words: Sequence[str]) -> None:
    """Raises LoadError if there are any words, for what is no update rule of this library."""
    if words:
        raise _refused(name, words)


def _refused(name: str, words: Sequence[str]) -> LoadError:
    return LoadError(f"{words[0]} goes around this library's update rules only, not {name}: omit it")
