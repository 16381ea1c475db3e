"""What training may be guided by: the names, what is tuned of each, and what a task gives them to work with."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor, nn

from thalweg.pretraining.blocks import Blocks

if TYPE_CHECKING:
    from thalweg.compare.task import Task


class Tuned(NamedTuple):
    """Hyperparameters that a guidance has beside the optimizer's: defaults, and the ranges in which they are tuned."""

    defaults: Mapping[str, float] = {}
    space: Mapping[str, tuple[float, float]] = {}


_OVER = Tuned({"over": 0.5}, {"over": (0.1, 0.9)})  # share of the run at whose end all examples are admitted

GUIDANCES: Mapping[str, Tuned] = {
    "greedy": Tuned(),
    "transfer": Tuned(),
    "fitnet": Tuned(),
    "curriculum": _OVER,
    "curriculum-stochastic": _OVER,
    "anti-curriculum": _OVER,
    "random-curriculum": _OVER,
    "smoothing": Tuned({"sigma": 0.03}, {"sigma": (1e-3, 0.3)}),
}


@dataclass(frozen=True)
class Guides:
    """What guided strategies take from a task; each needs only its own.

    Arguments:
        teacher: for ``fitnet``, and for the difficulties of curricula, where the task's own model teaches by default: a
            function that builds it, trained in each run and charged to it, or a trained module, which is not charged.
        hint, guided: a layer of the teacher and one of the model, or as many of both, for ``fitnet``.
        blocks: the model's hidden blocks for ``greedy``, where it is no ``nn.Sequential``.
        source: a related task, whose trained model ``transfer`` takes parts of.
        parts: names of those parts, or how many of the first blocks; half of the blocks by default.
        difficulty: one number a training example ``(n,)``, larger for harder, for curricula.

    Source: Deep Learning, §8.7.4 and §8.7.6.
    """

    teacher: Callable[[], nn.Module] | nn.Module | None = None
    hint: str | Sequence[str] = ""
    guided: str | Sequence[str] = ""
    blocks: Blocks | None = None
    source: "Callable[[], Task] | None" = None
    parts: int | Sequence[str] | None = None
    difficulty: Tensor | None = None
