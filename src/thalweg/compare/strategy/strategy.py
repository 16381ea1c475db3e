"""What is compared: an optimizer, how its parameters start, and its learning-rate schedule."""

import difflib
import inspect
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from thalweg.compare.names import check_name
from thalweg.compare.strategy.guidances import GUIDANCES
from thalweg.compare.strategy.second_order import SECOND_ORDER
from thalweg.compare.strategy.settings import checked_defaults, checked_space
from thalweg.compare.strategy.variants import AVERAGINGS, INITIALIZATIONS, NORMALIZATIONS, Variant
from thalweg.compare.task.loading import load_object
from thalweg.compare.user_errors import LoadError
from thalweg.compare.user_files import shown
from thalweg.optim import ClosureOptimizer
from thalweg.rules import FIRST_LR, RULES, SPACES, Rule
from thalweg.rules.schedules import SCHEDULES, Schedule

DEFAULT_STRATEGIES = ("sgd", "momentum", "nesterov", "adagrad", "adadelta", "rmsprop", "rmsprop-nesterov", "adam")
LR_RANGE = (1e-4, 1.0)


@dataclass(frozen=True)
class Strategy:
    """One entry of a comparison.

    Arguments:
        name: the name of the strategy in the report.
        rule: the update rule, or None if ``factory`` makes an optimizer.
        factory: a callable ``(params, **hyperparameters) -> torch.optim.Optimizer``; such a strategy runs serially.
        defaults: the hyperparameters of the default configuration.
        space: the log-uniform search range ``(low, high)`` of each tuned hyperparameter.
        whole: the hyperparameters that are whole numbers.
        closure: whether a step evaluates the loss several times. The optimizer then receives a large batch that
            consists of ``batches`` minibatches (a hyperparameter, 16 by default), and each evaluation is charged.
        initialization: a name of :data:`thalweg.initialization.SCHEMES`; with the suffix ``-gain``, the weights have
            the gain of the nonlinearity that follows each layer.
        architecture: one of the task's ``architectures``; if empty, its ``model``.
        normalization: ``"batch-norm"``, which adds batch normalization to the model, or ``"none"``.
        averaging: ``"polyak"`` or ``"ema"``, with which the average of the parameters is evaluated, or ``"none"``.
        guidance: a name of :data:`thalweg.compare.strategy.guidances.GUIDANCES`, whose hyperparameters are tuned too,
            or ``"none"``.
        schedule: the factor of the learning rate over the run; ``schedule_name`` is its name.

    >>> Strategy.parse("adam+he@cosine").schedule_name
    'cosine'
    """

    name: str
    rule: Rule | None = None
    factory: Callable[..., torch.optim.Optimizer] | None = None
    defaults: Mapping[str, float] = field(default_factory=dict)
    space: Mapping[str, tuple[float, float]] = field(default_factory=lambda: {"lr": LR_RANGE})
    initialization: str = "default"
    schedule_name: str = "constant"
    whole: tuple[str, ...] = ()
    closure: bool = False
    architecture: str = ""
    normalization: str = "none"
    averaging: str = "none"
    guidance: str = "none"

    def __post_init__(self) -> None:
        check_name("a strategy", self.name)
        if (self.rule is None) == (self.factory is None):
            raise ValueError(f"strategy {self.name!r} needs either a rule or a factory")
        if self.closure and self.averaging != "none":
            raise ValueError(f"strategy {self.name!r}: averaging requires a method that uses one minibatch per step")
        if self.closure and self.guidance not in ("none", "transfer"):
            raise ValueError(
                f"strategy {self.name!r}: {self.guidance} requires a method that uses one minibatch per step"
            )
        if self.guidance in GUIDANCES and isinstance(self.defaults, Mapping) and isinstance(self.space, Mapping):
            tuned = GUIDANCES[self.guidance]
            object.__setattr__(self, "defaults", {**self.defaults, **tuned.defaults})
            object.__setattr__(self, "space", {**self.space, **tuned.space})
        try:
            _known(self.schedule_name, SCHEDULES, "schedule")
            object.__setattr__(self, "defaults", checked_defaults(self.defaults))
            object.__setattr__(self, "space", checked_space(self.space, self.defaults))
        except ValueError as error:
            raise ValueError(f"strategy {self.name!r}: {error}") from error

    def _with_words(self, name: str, schedule: str, axes: Mapping[str, str]) -> "Strategy":
        """Returns the strategy with the words that stand behind its name, which its own must not contradict."""
        words: dict[str, Any] = {axis: word for axis, word in axes.items() if word != "default"}
        words |= {"schedule_name": schedule} if schedule != "constant" else {}
        for axis, word in words.items():
            own = getattr(self, axis)
            if own not in ("", "none", "default", "constant", word):
                raise LoadError(f"{name!r} names two of {axis.removesuffix('_name')}: {own} and {word}; omit one")
        rest = name.partition("@")
        tail = "".join(f"+{word}" for word in rest[0].split("+")[1:]) + rest[1] + rest[2]
        return replace(self, name=self.name + tail, **words) if words else self

    @property
    def schedule(self) -> Schedule:
        """The learning-rate schedule."""
        return SCHEDULES[self.schedule_name]

    @property
    def variant(self) -> Variant:
        """How the model is built."""
        return Variant(self.architecture, self.normalization)

    @property
    def start(self) -> str:
        """What decides where a run of a seed begins: initialization and variant."""
        return "+".join(filter(None, [self.initialization, str(self.variant)]))

    def default_configuration(self) -> dict[str, float]:
        """Returns the default hyperparameters, and the middle of the range where there is no default."""
        middle = {name: math.sqrt(low * high) for name, (low, high) in self.space.items()}
        return self.rounded({**middle, **self.defaults})

    def stepping(self, hyper: Mapping[str, float]) -> dict[str, float]:
        """Returns the hyperparameters that are the optimizer's own."""
        guided = GUIDANCES[self.guidance].space if self.guidance in GUIDANCES else {}
        others = {*guided, *(["batches"] if self.closure else [])}
        return {name: value for name, value in hyper.items() if name not in others}

    def rounded(self, hyper: Mapping[str, float]) -> dict[str, float]:
        """Returns the hyperparameters with the whole ones rounded, to at least 1."""
        return {name: max(1, round(value)) if name in self.whole else value for name, value in hyper.items()}

    def describe(self) -> dict[str, Any]:
        """Returns what identifies the strategy, for the store's fingerprint and the report."""
        return {
            "name": self.name,
            "optimizer": repr(self.rule) if self.rule else _qualified(self.factory),
            "defaults": dict(self.defaults),
            "space": {name: list(bounds) for name, bounds in self.space.items()},
            "initialization": self.initialization,
            "schedule": self.schedule_name,
            "start": self.start,
            "averaging": self.averaging,
            "guidance": self.guidance,
            **({"closure": True, "whole": list(self.whole)} if self.closure else {}),
        }

    @classmethod
    def parse(cls, text: str, here: Path | None = None) -> "Strategy":
        """Returns the strategy written as ``OPTIMIZER[+WORD…][@SCHEDULE]``.

        A WORD is an initialization, ``batch-norm``, ``polyak`` or ``ema``, a guidance such as ``curriculum``, or an
        architecture of the task's. OPTIMIZER is a name that ``thalweg list strategies`` shows, ``my.py:name`` (a
        Strategy, an optimizer class or a function of the parameters), or an installed class such as
        ``torch.optim.Muon``. A relative path starts from ``here``, the current folder by default.

        Raises:
            LoadError: an unknown name; the message gives the nearest one.
        """
        if not isinstance(text, str):
            raise LoadError(f"{text!r} is not a strategy: give its name, or a thalweg.Strategy")
        optimizer, words, schedule = _parts(text)
        if not all(words) or text.endswith("@"):
            raise LoadError(f"a word is missing in {text!r}: write OPTIMIZER, OPTIMIZER+WORD or OPTIMIZER@SCHEDULE")
        schedule = schedule or "constant"
        _known(schedule, SCHEDULES, "schedule")
        axes: Any = {"initialization": "default"}
        for word in words:
            axis = axis_of(word)
            if axis in axes and (axis != "initialization" or axes[axis] != "default"):
                raise LoadError(f"{text!r} names two of {axis}: {axes[axis]} and {word}; omit one")
            axes[axis] = word
        if "." in optimizer or ":" in optimizer:
            found = load_object(optimizer, here)
            if isinstance(found, cls):
                return found._with_words(text.rsplit(":", 1)[-1], schedule, axes)
            if not callable(found):
                raise LoadError(f"{optimizer} is neither a Strategy nor a callable that makes an optimizer")
            label = text.rsplit(":", 1)[-1] if ":" in text else text
            several = isinstance(found, type) and issubclass(found, (ClosureOptimizer, torch.optim.LBFGS))
            defaults = {**_own_defaults(found), **({"batches": 16.0} if several else {})}
            return cls(
                label,
                None,
                found,
                defaults,
                schedule_name=schedule,
                whole=("batches",) if several else (),
                closure=several,
                **axes,
            )
        _known(optimizer, {**RULES, **SECOND_ORDER}, "strategy")
        if optimizer in SECOND_ORDER:
            method = SECOND_ORDER[optimizer]
            return cls(
                text,
                None,
                method.make,
                dict(method.defaults),
                method.space,
                schedule_name=schedule,
                whole=tuple(method.whole),
                closure=True,
                **axes,
            )
        rule = RULES[optimizer]
        defaults = {**rule.defaults, "lr": FIRST_LR.get(optimizer, rule.defaults["lr"])}
        return cls(text, rule, None, defaults, SPACES[optimizer], schedule_name=schedule, **axes)


_WORDS: Mapping[str, Iterable[str]] = {
    "initialization": INITIALIZATIONS,
    "normalization": NORMALIZATIONS,
    "averaging": AVERAGINGS,
    "guidance": GUIDANCES,
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
                _known(word, dict.fromkeys(["none", *_WORDS[axis]]), axis)
            elif word != "none" and axis_of(word) != axis:
                raise LoadError(f"{word!r} is not an {axis}: it is an {axis_of(word)}")
        names = [name for text in names for name in _with(text, axis, words)]
    return names


def _with(text: str, axis: str, words: Sequence[str]) -> list[str]:
    optimizer, own, schedule = _parts(text)
    if any(axis_of(word) == axis for word in own):
        return [text]
    body, at = "+".join([optimizer, *own]), "@" if schedule else ""
    return [f"{body}{'' if word == 'none' else f'+{word}'}{at}{schedule}" for word in words]


def _parts(text: str) -> tuple[str, list[str], str]:
    """Returns optimizer, words and schedule; what leads to a file may hold any letters.

    >>> _parts("../c++/my.py:slow+he@cosine")
    ('../c++/my.py:slow', ['he'], 'cosine')
    """
    folder, end, rest = text.rpartition(".py:")
    body, _, schedule = rest.partition("@")
    name, *words = body.split("+")
    return f"{folder}{end}{name}", words, schedule


def _known(name: str, table: Mapping[str, object], kind: str) -> None:
    if name not in table:
        near = difflib.get_close_matches(name, table, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(table)}"
        raise LoadError(f"unknown {kind} {name!r}: {hint}")


def _own_defaults(factory: Callable[..., object]) -> dict[str, float]:
    """Returns the learning rate that the factory itself takes by default, as far as its signature tells."""
    try:
        lr = inspect.signature(factory).parameters["lr"].default
    except (KeyError, TypeError, ValueError):
        return {}
    return {"lr": float(lr)} if isinstance(lr, (int, float)) and lr > 0 else {}


def _qualified(factory: Callable[..., object] | None) -> str:
    """Returns the factory's name; of a file of the user's without its folder, which may be moved."""
    module = shown(getattr(factory, "__module__", None) or "?")
    return f"{module}.{getattr(factory, '__qualname__', type(factory).__name__)}"
