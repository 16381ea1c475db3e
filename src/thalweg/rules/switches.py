"""What can be switched on around a rule, in which order, and with which hyperparameters."""

from collections.abc import Callable, Iterable, Mapping

from thalweg.rules.around import Around
from thalweg.rules.cautious import Cautious
from thalweg.rules.lookahead import Lookahead
from thalweg.rules.mars import Mars
from thalweg.rules.rule import Rule
from thalweg.rules.sam import SAM

# From the innermost to the outermost, whichever way they are named.
SWITCHES: Mapping[str, Callable[[Rule], Rule]] = {
    "mars": Mars,
    "cautious": Cautious,
    "lookahead": Lookahead,
    "sam": SAM,
    "asam": lambda rule: SAM(rule, adaptive=True),
}


def innermost(rule: Rule) -> Rule:
    """Returns the rule without what is switched on around it."""
    return innermost(rule.inner) if isinstance(rule, Around) else rule


def switched(rule: Rule, names: Iterable[str]) -> Rule:
    """Returns the rule with these switched on.

    Raises:
        ValueError: one does not go around the rule, or both forms of SAM are named.

    >>> from thalweg.rules import RULES
    >>> switched(RULES["adamw"], ["cautious", "mars"]).name
    'adamw+mars+cautious'
    """
    given = set(names)
    if {"sam", "asam"} <= given:
        raise ValueError("sam and asam are two forms of one method: name one of them")
    for name, around in SWITCHES.items():
        rule = around(rule) if name in given else rule
    return rule
