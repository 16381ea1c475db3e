"""What a strategy may change beside the optimizer: how the model is built, and which parameters are judged."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from difflib import get_close_matches
from typing import Literal, NamedTuple

from torch import nn

from thalweg.averaging import EMA, Averaging, Polyak
from thalweg.compare.task import Task, build_model
from thalweg.compare.user_errors import TaskError
from thalweg.initialization import SCHEMES
from thalweg.normalization import add_batch_norm, convert_batch_norm

# By its name a scheme is the published one; under NAME-gain it has the gain of the nonlinearity that follows.
INITIALIZATIONS: Mapping[str, tuple[str, Literal["nonlinearity"] | None]] = {
    **{name: (name, None) for name in SCHEMES},
    **{f"{name}-gain": (name, "nonlinearity") for name, scheme in SCHEMES.items() if scheme and scheme.heeds},
}
NORMALIZATIONS = ("batch-norm",)
AVERAGINGS: Mapping[str, Callable[[int], Averaging]] = {
    "polyak": lambda steps: Polyak().tail(0.5, steps),
    "ema": lambda steps: EMA.over(max(steps / 10, 1.0)),
}


class Variant(NamedTuple):
    """How the model is built: its architecture, by the task's name for it, and its normalization."""

    architecture: str = ""
    normalization: str = "none"

    def __str__(self) -> str:
        return "+".join(word for word in self if word not in ("", "none"))


def averaging_of(name: str, steps: int) -> Averaging | None:
    """Returns the averaging of that name over a run of so many steps, None for ``"none"``.

    ``polyak`` averages the second half of the run, ``ema`` with a memory of a tenth of it.

    >>> averaging_of("polyak", 100), averaging_of("ema", 1000)
    (Polyak(start=50), EMA(start=0, decay=0.99, correction='bias'))
    """
    return AVERAGINGS[name](steps) if name in AVERAGINGS else None


def built(task: Task, variant: Variant, swap: bool = False) -> Task:
    """Returns the task with its model as the variant has it.

    Arguments:
        task: with ``architectures``, if the variant names one.
        variant: architecture and normalization.
        swap: whether torch's batch normalizations are replaced by ours, which can be stacked.

    Raises:
        TaskError: an architecture that the task does not have, or a model that cannot be normalized.
    """
    source = task.model
    if variant.architecture:
        if variant.architecture not in task.architectures:
            raise TaskError(_unknown(variant.architecture, task))
        source = task.architectures[variant.architecture]
    plain = replace(task, model=source)

    def build() -> nn.Module:
        model = build_model(plain)
        if swap:
            convert_batch_norm(model)
        if variant.normalization == "batch-norm":
            try:
                add_batch_norm(model)
            except ValueError as error:
                raise TaskError(f"batch normalization cannot be added to this model: {error}") from error
        return model

    if not swap and variant.normalization == "none":
        return plain
    return replace(task, model=build() if isinstance(source, nn.Module) else build)


def _unknown(word: str, task: Task) -> str:
    near = get_close_matches(word, [*task.architectures, *INITIALIZATIONS, *NORMALIZATIONS, *AVERAGINGS], n=1)
    known = f"it has {', '.join(task.architectures)}" if task.architectures else "it names none"
    hint = f"did you mean {near[0]!r}?" if near else f"{known}; give them as Task(architectures={{name: model}})"
    return (
        f"{word!r} is neither an initialization, a normalization, an averaging nor an architecture of this task: {hint}"
    )
