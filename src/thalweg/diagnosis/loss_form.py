"""What a loss takes, found by trying: scores, log-probabilities, or values of the target's own scale."""

import math
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from thalweg.diagnosis.observe import Seen
from thalweg.tensors.private import tree_map

MOST = 2**22  # numbers in double precision that are tried on
Takes = Literal["scores", "log-probabilities", "values"]


class Form(NamedTuple):
    """What a loss takes, and along which dimension the classes are where it compares them; None elsewhere."""

    takes: Takes
    dim: int | None = None


class Trial:
    """The loss as a function of the scores alone, in double precision where it takes that.

    Attributes:
        scores, target: of the batch, in the precision that is used.
        start: the loss there.
        near: differences below are rounding.
    """

    def __init__(self, seen: Seen, scores: Tensor, target: Any) -> None:
        self.seen, self.scores, self.target = seen, scores, target
        self.start = self.at(scores)
        self.near = 1e3 * torch.finfo(scores.dtype).eps * max(abs(self.start or 0.0), 1e-3)

    @property
    def is_float(self) -> bool:
        """Whether the target is one tensor of floating-point numbers."""
        return isinstance(self.target, Tensor) and self.target.is_floating_point()

    @property
    def spread(self) -> float:
        """The deviation of such a target; 1 where it is none."""
        return float(self.target.std()) if self.is_float and self.target.numel() > 1 else 1.0

    def loss(self, scores: Tensor) -> Tensor:
        """Returns the loss at other scores, with its graph."""
        torch.manual_seed(0)
        return self.seen.loss_at(scores, self.target)

    def at(self, scores: Tensor, target: Any = None) -> float | None:
        """Returns the loss at other scores, and at another target; None where it raises."""
        try:
            with torch.no_grad(), torch.random.fork_rng():
                torch.manual_seed(0)
                return float(self.seen.loss_at(scores, self.target if target is None else target))
        except Exception:  # a loss is the user's, and may raise anything on what it was not made for
            return None

    def part(self, rows: slice) -> "Trial":
        """Returns the trial on some of the examples."""
        size = len(self.scores)
        target = tree_map(lambda t: t[rows] if isinstance(t, Tensor) and t.dim() and len(t) == size else t, self.target)
        return Trial(self.seen, self.scores[rows], target)


def trial(seen: Seen) -> Trial | None:
    """Returns the loss to be tried on; None where it depends on no single tensor, or on too large a one."""
    y = seen.scores
    if y is None or not y.numel() or y.numel() > MOST:
        return None
    tried = (Trial(seen, y.double(), tree_map(_double, seen.target)), Trial(seen, y, seen.target))
    return next((t for t in tried if t.start is not None and math.isfinite(t.start)), None)


def form_of(test: Trial) -> Form:
    """Returns what the loss takes.

    Scores: J(y + r) = J(y) for one number r an example, along dimension 1 or the last, as a softmax does not see it;
    or, with targets of 0 and 1, a gradient at y = t that asks for still more. Log-probabilities: J(2y) = 2 J(y) and
    J(y + 1) = J(y) − 1, as it picks numbers and adds them up.

    >>> from torch import nn
    >>> from thalweg.diagnosis.observe import observe
    >>> net, batch = nn.Linear(3, 4), (torch.randn(9, 3), torch.arange(9) % 4)
    >>> [form_of(trial(observe(net, batch, f))) for f in (nn.functional.cross_entropy, nn.functional.nll_loss)]
    [Form(takes='scores', dim=1), Form(takes='log-probabilities', dim=1)]
    """
    y, start, near = test.scores, test.start or 0.0, test.near
    draws = torch.Generator().manual_seed(0)
    for dim in _class_dims(y):
        shape = [1 if i == dim else size for i, size in enumerate(y.shape)]
        moved = test.at(y + torch.randn(shape, generator=draws, dtype=y.dtype).to(y.device))
        turned = test.at(y + torch.randn(y.shape, generator=draws, dtype=y.dtype).to(y.device))
        if moved is not None and turned is not None and abs(moved - start) < near < 0.01 * abs(turned - start):
            return Form("scores", dim)
    target = test.target
    if isinstance(target, Tensor) and not target.is_floating_point():
        double, more = test.at(2 * y), test.at(y + 1)
        if double is not None and more is not None and abs(double - 2 * start) < near and abs(more - start + 1) < near:
            dims = [d for d in _class_dims(y) if y.numel() == target.numel() * y.shape[d]]
            return Form("log-probabilities", dims[0]) if dims else Form("values")
    return Form("scores") if _asks_for_more(test) else Form("values")


def _class_dims(y: Tensor) -> list[int]:
    return [d for d in dict.fromkeys((1, y.dim() - 1)) if 0 < d < y.dim() and y.shape[d] > 1]


def _asks_for_more(test: Trial) -> bool:
    """Returns whether targets are 0 or 1 and the loss at y = t still falls as outputs of 1 rise and those of 0 fall."""
    y, target = test.scores, test.target
    if not isinstance(target, Tensor) or target.numel() != y.numel():
        return False
    t = target.to(y.dtype).reshape(y.shape)
    if not bool(((t == 0) | (t == 1)).all()):
        return False
    here, beyond = test.at(t), test.at(t + 0.5 * (2 * t - 1))
    return here is not None and beyond is not None and beyond < here - 1e-3 * abs(here)


def _double(value: Any) -> Any:
    return value.detach().double() if isinstance(value, Tensor) and value.is_floating_point() else value
