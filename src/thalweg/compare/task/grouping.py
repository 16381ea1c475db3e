"""Parameters that have a learning rate or a weight decay of their own, or are not trained, named by patterns.

A pattern is compared with the whole name of a parameter or of a module that holds it, ``*`` and ``?`` standing for any
text and any character; one that matches none of them is compared with the ends of names, from a dot on. So ``encoder``
and ``encoder.layer.?`` name modules, and ``bias`` and ``LayerNorm.weight`` name all parameters that are called so.
"""

import difflib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from numbers import Real
from typing import Any, NamedTuple

from torch import nn

from thalweg.compare.user_errors import TaskError
from thalweg.optim import no_decay_groups
from thalweg.rules.matrix_rule import OF_PARTNER

Groups = Mapping[str, Mapping[str, Any]]
NoDecay = bool | Sequence[str]
WORDS = ("lr_scale", "weight_decay", "frozen")
RATES = ("lr", f"{OF_PARTNER}lr")  # hyperparameters that are learning rates, of a partner too
DECAYS = {"weight_decay", f"{OF_PARTNER}weight_decay"}


class Setting(NamedTuple):
    """What a parameter has of its own.

    Arguments:
        lr_scale: factor on the strategy's learning rate.
        weight_decay: in place of the strategy's; None for the strategy's.
    """

    lr_scale: float = 1.0
    weight_decay: float | None = None

    def of(self, hyper: Mapping[str, Any]) -> dict[str, Any]:
        """Returns a strategy's hyperparameters as this parameter has them.

        >>> Setting(0.1, 0.0).of({"lr": 1.0, "weight_decay": 0.01, "momentum": 0.9})
        {'lr': 0.1, 'weight_decay': 0.0, 'momentum': 0.9}
        """
        own = {} if self.weight_decay is None else dict.fromkeys(DECAYS & hyper.keys(), self.weight_decay)
        rates = {name: hyper[name] * self.lr_scale for name in RATES if name in hyper}
        return {**hyper, **rates, **own}


@dataclass(frozen=True)
class Grouping:
    """Which parameters of a model have which settings; see :class:`thalweg.Task`.

    Arguments:
        no_decay: True, or patterns of parameters without weight decay.
        groups: settings by pattern; where two name a parameter, the later one holds, setting by setting.

    Raises:
        TaskError: something else is given.

    >>> model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    >>> own = Grouping(True, {"0": {"lr_scale": 0.1}}).settings(model)
    >>> [tuple(own[id(p)]) for p in model.parameters()]
    [(0.1, None), (0.1, 0.0), (1.0, None), (1.0, 0.0)]
    """

    no_decay: NoDecay = False
    groups: Groups = field(default_factory=dict)

    def __post_init__(self) -> None:
        listed = isinstance(self.no_decay, Sequence) and not isinstance(self.no_decay, str)
        if not isinstance(self.no_decay, bool) and not (listed and all(isinstance(p, str) for p in self._spared)):
            raise TaskError(f"no_decay is {self.no_decay!r}: give True, or a list of names of parameters")
        if not isinstance(self.groups, Mapping):
            raise TaskError(f"groups is {self.groups!r}: give {{name of parameters: {{'lr_scale': 0.1}}}}")
        for pattern, words in self.groups.items():
            self._check(pattern, words)

    def _check(self, pattern: Any, words: Any) -> None:
        what = f"groups[{pattern!r}]"
        if not isinstance(pattern, str) or not isinstance(words, Mapping) or not words:
            raise TaskError(f"{what} is {words!r}: give settings by name, such as {{'lr_scale': 0.1}}")
        for word, value in words.items():
            if word not in WORDS:
                raise TaskError(f"{what} has no setting {word!r}: use {', '.join(WORDS)}")
            if word == "frozen":
                if not isinstance(value, bool):
                    raise TaskError(f"{what} has frozen={value!r}: use True or False")
            elif isinstance(value, bool) or not isinstance(value, Real) or not 0 <= float(value) < math.inf:
                raise TaskError(f"{what} has {word}={value!r}: give a finite number of at least 0")
            elif word == "lr_scale" and value == 0:
                raise TaskError(f"{what} has lr_scale=0: write frozen=True, so that nothing is spent on it")

    def __bool__(self) -> bool:
        return bool(self.no_decay) or bool(self.groups)

    @property
    def _spared(self) -> Sequence[str]:
        return () if isinstance(self.no_decay, bool) else self.no_decay

    @property
    def described(self) -> dict[str, Any]:
        """What it is, as far as anything is given, in lists, since the order of patterns counts."""
        spared = self.no_decay if isinstance(self.no_decay, bool) else [*self.no_decay]
        groups = [[pattern, dict(words)] for pattern, words in self.groups.items()]
        return {name: value for name, value in (("no_decay", spared), ("groups", groups)) if value}

    def freeze(self, model: nn.Module) -> None:
        """Has the parameters that are to be frozen require no gradient.

        Raises:
            TaskError: a pattern matches nothing.
        """
        if any(words.get("frozen") for words in self.groups.values()):
            frozen, named = self._words(model), dict(model.named_parameters())
            for p in named.values():
                if frozen.get(id(p), {}).get("frozen"):
                    p.requires_grad_(False)

    def settings(self, model: nn.Module) -> dict[int, Setting]:
        """Returns the settings of the model's parameters by their ``id``.

        Raises:
            TaskError: a pattern matches nothing, or what it says is all replaced by later ones.
        """
        spared: set[int] = set()
        if self.no_decay is True:
            parts = [g["params"] for g in no_decay_groups(model) if g.get("weight_decay") == 0.0]
            spared = {id(p) for part in parts for p in part}
        for pattern in self._spared:
            spared |= {key for key, _ in matched(pattern, model, "no_decay")}
        words, found = self._words(model), {}
        for p in model.parameters():
            own = words.get(id(p), {})
            decay = 0.0 if id(p) in spared else own.get("weight_decay")
            found[id(p)] = Setting(float(own.get("lr_scale", 1.0)), None if decay is None else float(decay))
        return found

    def lines(self, model: nn.Module) -> Iterator[str]:
        """Yields what the settings are, in words."""
        if self.no_decay:
            own = self.settings(model)
            trained = [p for p in model.parameters() if p.requires_grad]
            spared = sum(own[id(p)].weight_decay == 0 for p in trained)
            yield f"weight decay, where a strategy has any, leaves out {spared} of {len(trained)} parameter tensors"
        for pattern, words in self.groups.items():
            count = len({key for key, _ in matched(pattern, model, "groups")})
            said = {"lr_scale": "learning rate times {:g}", "weight_decay": "weight decay {:g}"}
            parts = [said[word].format(value) for word, value in words.items() if word in said]
            parts += ["not trained" if words["frozen"] else "trained"] if "frozen" in words else []
            yield f"{pattern}: {count} parameter tensor{'s' * (count > 1)}, {', '.join(parts)}"

    def _words(self, model: nn.Module) -> dict[int, dict[str, Any]]:
        """Returns what the groups say of each parameter."""
        words: dict[int, dict[str, Any]] = {}
        by: dict[tuple[int, str], str] = {}  # which pattern has the last word
        for pattern, said in self.groups.items():
            for key, _ in matched(pattern, model, "groups"):
                words[key] = {**words.get(key, {}), **said}
                by |= {(key, word): pattern for word in said}
        for pattern in self.groups:
            if pattern not in by.values():
                raise TaskError(
                    f"groups[{pattern!r}] changes nothing, since later patterns match all that it does: write the "
                    "narrower pattern last"
                )
        return words


def matched(pattern: str, model: nn.Module, argument: str) -> list[tuple[int, str]]:
    """Returns ids and names of the parameters that a pattern matches, a tied one under each of its names.

    Raises:
        TaskError: there are none.
    """
    named = [(id(p), name) for name, p in model.named_parameters(remove_duplicate=False)]
    for names in (_wholes, _ends):
        if found := [(key, name) for key, name in named if any(fnmatchcase(one, pattern) for one in names(name))]:
            return found
    known = list(dict.fromkeys(part for _, name in named for part in (*_wholes(name), *_ends(name))))
    near = difflib.get_close_matches(pattern, known, n=3, cutoff=0.5) or [name for _, name in named][:3]
    raise TaskError(
        f"{argument} names {pattern!r}, which matches no parameter of the model: the nearest names are "
        f"{', '.join(near)}"
    )


def _wholes(name: str) -> list[str]:
    """Returns the name of a parameter and those of the modules that hold it.

    >>> _wholes("encoder.0.bias"), _ends("encoder.0.bias")
    (['encoder.0.bias', 'encoder.0', 'encoder'], ['0.bias', 'bias'])
    """
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(len(parts), 0, -1)]


def _ends(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[count:]) for count in range(1, len(parts))]
