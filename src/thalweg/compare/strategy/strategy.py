"""What is compared: an optimizer, how its parameters start, and its learning-rate schedule."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from thalweg.compare.names import check_name
from thalweg.compare.ranges import Bounds, as_range
from thalweg.compare.strategy.factories import PARTNERS_LR, takes, takes_matrices_alone
from thalweg.compare.strategy.guidances import GUIDANCES
from thalweg.compare.strategy.hyperparameters import OF_SCHEDULE, ends_of, missing, of_factory, schedule_of
from thalweg.compare.strategy.search import with_ranges, with_values
from thalweg.compare.strategy.second_order import SECOND_ORDER
from thalweg.compare.strategy.settings import checked_defaults, checked_space
from thalweg.compare.strategy.switches import refuse_switches, switched_rule
from thalweg.compare.strategy.third_party import LR_RANGE, own_rate, space_of
from thalweg.compare.strategy.tuned import more_ranges
from thalweg.compare.strategy.variants import Variant
from thalweg.compare.strategy.words import axis_of, check_known, parts_of
from thalweg.compare.task.loading import load_object
from thalweg.compare.user_errors import LoadError
from thalweg.compare.user_files import shown
from thalweg.optim import ClosureOptimizer
from thalweg.optim.roles import MATRICES, Role
from thalweg.rules import ADAMW_LRS, FIRST_LR, RULES, SPACES, AdamW, Partnered, Rule
from thalweg.rules.schedules import SCHEDULES, Schedule

DEFAULT_STRATEGIES = ("sgd", "momentum", "nesterov", "adagrad", "adadelta", "rmsprop", "rmsprop-nesterov", "adam")


@dataclass(frozen=True)
class Strategy:
    """One entry of a comparison.

    Arguments:
        name: the name of the strategy in the report.
        rule: the update rule, or None if ``factory`` makes an optimizer.
        factory: a callable ``(params, **hyperparameters) -> torch.optim.Optimizer``; such a strategy runs serially. If
            its first argument is called ``named_parameters``, it is given pairs of names and parameters; an argument
            that is called ``model`` is given the model. A class that refuses vectors, as Muon does, is given the hidden
            matrices, and AdamW steps everything else, with a learning rate ``adamw_lr`` that is searched, too; so is a
            function if ``space`` or ``defaults`` name ``adamw_lr``.
        defaults: the hyperparameters of the default configuration; a rule's own values are used for those left out.
        space: the search range of each tuned hyperparameter: ``(low, high)``, which is logarithmic, or a
            :class:`thalweg.Range` or :class:`thalweg.OneOf`.
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
    space: Mapping[str, Bounds] = field(default_factory=lambda: {"lr": LR_RANGE})
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
            tuned = GUIDANCES[self.guidance]  # what is given already stays, and what is set is not tuned
            more = {name: bounds for name, bounds in tuned.space.items() if name not in {*self.defaults, *self.space}}
            object.__setattr__(self, "space", {**self.space, **more})
            object.__setattr__(self, "defaults", {**self.defaults, **_without(tuned.defaults, self.defaults)})
        if isinstance(self.defaults, Mapping) and isinstance(self.space, Mapping) and self.has_partner:
            if PARTNERS_LR not in {*self.defaults, *self.space}:
                object.__setattr__(self, "space", {**self.space, PARTNERS_LR: ADAMW_LRS})
            object.__setattr__(self, "defaults", {PARTNERS_LR: AdamW.defaults["lr"], **self.defaults})
        try:
            check_known(self.schedule_name, SCHEDULES, "schedule")
            object.__setattr__(self, "defaults", checked_defaults(self.defaults))
            object.__setattr__(self, "space", checked_space(self.space, self.defaults))
            if self.rule is not None:
                own = missing(self.rule, self.defaults, self.space)
                object.__setattr__(self, "defaults", {**self.defaults, **own})
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

    def switched(self, words: Sequence[str]) -> "Strategy":
        """Returns the strategy with what the words, of :data:`thalweg.rules.SWITCHES`, switch on around its rule."""
        return replace(self, rule=switched_rule(self, words)) if words else self

    def with_space(self, ranges: Mapping[str, Any] | None = None, /, **more: Any) -> "Strategy":
        """Returns the strategy with other or more hyperparameters searched, each ``(low, high)`` or a range.

        A pair is logarithmic in 1 − x for decay rates such as β and momentum, logarithmic for the learning rate and for
        positive ranges whose ends have a ratio of 10 or more, and else linear. Texts such as ``"0:0.2:linear"`` are
        understood too, and names that are no words of Python can be given as a mapping.

        Raises:
            ValueError: the strategy has no such hyperparameter, or it cannot have the values of the range.

        >>> Strategy.parse("adamw").with_space({"betas.1": (0.9, 0.9999)}, weight_decay=(1e-4, 1e-1)).space["beta2"]
        Range(low=0.9, high=0.9999, scale='one-minus', whole=False)
        """
        return replace(self, **with_ranges(self, {**(ranges or {}), **more}))

    def with_settings(self, settings: Mapping[str, Any] | None = None, /, **more: Any) -> "Strategy":
        """Returns the strategy with hyperparameters set, which are then not searched.

        Raises:
            ValueError: the strategy has no such hyperparameter, or it cannot have the value.

        >>> Strategy.parse("adam@cosine").with_settings(lr=0.01, warmup=0.1).default_configuration()["schedule.warmup"]
        0.1
        """
        return replace(self, **with_values(self, {**(settings or {}), **more}))

    def more_tuned(self) -> "Strategy":
        """Returns a built-in strategy with the ranges added that are published for it; others stay as they are.

        >>> list(Strategy.parse("momentum").more_tuned().space)
        ['lr', 'momentum']
        """
        ranges = more_ranges(self)
        return self.with_space(ranges) if ranges else self

    @property
    def has_partner(self) -> bool:
        """Whether it steps hidden matrices alone, and AdamW, with a learning rate of its own, everything else."""
        if self.factory is None or self.closure:
            return isinstance(self.rule, Partnered)
        if PARTNERS_LR in {*self.defaults, *self.space}:
            return PARTNERS_LR not in of_factory(self.factory)
        return takes_matrices_alone(self.factory)

    @property
    def matrix_roles(self) -> tuple[Role, ...]:
        """The roles of the parameters that it steps as matrices; none where it steps all parameters alike."""
        if not self.has_partner:
            return ()
        return MATRICES if self.factory is None or takes(self.factory, 4) else ("hidden",)

    @property
    def schedule(self) -> Schedule:
        """The learning-rate schedule, with what the defaults set of it."""
        return self.schedule_with(self.defaults)

    def schedule_with(self, hyper: Mapping[str, float]) -> Schedule:
        """Returns the learning-rate schedule with what a configuration says of it.

        >>> Strategy.parse("adam@cosine").schedule_with({"schedule.warmup": 0.2}).warmup
        0.2
        """
        return schedule_of(self.schedule_name, hyper)

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
        middle = {name: as_range(bounds).middle for name, bounds in self.space.items()}
        return self.rounded({**middle, **self.defaults})

    def ends(self) -> list[dict[str, float]]:
        """Returns the default configuration with each tuned hyperparameter at each end of its range.

        >>> [hyper["lr"] for hyper in Strategy.parse("adam").ends()]
        [1e-05, 0.1]
        """
        first = self.default_configuration()
        return [
            self.rounded({**first, name: value}) for name, bounds in self.space.items() for value in ends_of(bounds)
        ]

    def stepping(self, hyper: Mapping[str, float]) -> dict[str, float]:
        """Returns the hyperparameters that are the optimizer's own."""
        guided = GUIDANCES[self.guidance].space if self.guidance in GUIDANCES else {}
        others = {*guided, *(["batches"] if self.closure else [])}
        return {n: value for n, value in hyper.items() if n not in others and not n.startswith(OF_SCHEDULE)}

    def rounded(self, hyper: Mapping[str, float]) -> dict[str, float]:
        """Returns the hyperparameters with the whole ones rounded, to at least 1 where their range does not say."""
        found = {name: max(1, round(value)) if name in self.whole else value for name, value in hyper.items()}
        ranges = {name: as_range(bounds) for name, bounds in self.space.items() if name in found}
        return found | {name: bounds.rounded(found[name]) for name, bounds in ranges.items()}

    def describe(self) -> dict[str, Any]:
        """Returns what identifies the strategy, for the store's fingerprint and the report."""
        return {
            "name": self.name,
            "optimizer": repr(self.rule) if self.rule else _qualified(self.factory),
            "defaults": dict(self.defaults),
            "space": {name: as_range(bounds).stored() for name, bounds in self.space.items()},
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

        A WORD is an initialization, ``batch-norm``, ``polyak`` or ``ema``, a guidance such as ``curriculum``, a switch
        such as ``cautious``, or an architecture of the task's. OPTIMIZER is a name that ``thalweg list strategies``
        shows, ``my.py:name`` (a Strategy, an optimizer class or a function of the parameters), or an installed class
        such as ``torch.optim.Muon``. A relative path starts from ``here``, the current folder by default.

        Raises:
            LoadError: an unknown name; the message gives the nearest one.
        """
        if not isinstance(text, str):
            raise LoadError(f"{text!r} is not a strategy: give its name, or a thalweg.Strategy")
        optimizer, words, schedule = parts_of(text)
        if not all(words) or text.endswith("@"):
            raise LoadError(f"a word is missing in {text!r}: write OPTIMIZER, OPTIMIZER+WORD or OPTIMIZER@SCHEDULE")
        schedule = schedule or "constant"
        check_known(schedule, SCHEDULES, "schedule")
        axes: Any = {"initialization": "default"}
        switches = [word for word in words if axis_of(word) == "switch"]
        for word in (word for word in words if word not in switches):
            axis = axis_of(word)
            if axis in axes and (axis != "initialization" or axes[axis] != "default"):
                raise LoadError(f"{text!r} names two of {axis}: {axes[axis]} and {word}; omit one")
            axes[axis] = word
        if "." in optimizer or ":" in optimizer:
            found = load_object(optimizer, here)
            if isinstance(found, cls):
                return found._with_words(text.rsplit(":", 1)[-1], schedule, axes).switched(switches)
            refuse_switches(optimizer, switches)
            if not callable(found):
                raise LoadError(f"{optimizer} is neither a Strategy nor a callable that makes an optimizer")
            label = text.rsplit(":", 1)[-1] if ":" in text else text
            several = isinstance(found, type) and issubclass(found, (ClosureOptimizer, torch.optim.LBFGS))
            lr = own_rate(found)
            defaults = {**({} if lr is None else {"lr": lr}), **({"batches": 16.0} if several else {})}
            return cls(
                label,
                None,
                found,
                defaults,
                space_of(found),
                schedule_name=schedule,
                whole=("batches",) if several else (),
                closure=several,
                **axes,
            )
        check_known(optimizer, {**RULES, **SECOND_ORDER}, "strategy")
        if optimizer in SECOND_ORDER:
            refuse_switches(optimizer, switches)
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
        return cls(text, rule, None, defaults, SPACES[optimizer], schedule_name=schedule, **axes).switched(switches)


def _without(values: Mapping[str, float], given: Mapping[str, Any]) -> dict[str, float]:
    return {name: value for name, value in values.items() if name not in given}


def _qualified(factory: Callable[..., object] | None) -> str:
    """Returns the factory's name; of a file of the user's without its folder, which may be moved."""
    module = shown(getattr(factory, "__module__", None) or "?")
    return f"{module}.{getattr(factory, '__qualname__', type(factory).__name__)}"
