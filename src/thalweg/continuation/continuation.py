"""Continuation: a family of costs of rising difficulty, each solved from the last one's solution.

The way in t from the easiest cost to the true one is in steps fixed beforehand, or goes on when a cost has stopped
falling.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from thalweg.tensors.ranges import is_whole

Family = Callable[[Any, Any, float], Tensor]  # (model, batch, t) -> loss


@dataclass(frozen=True)
class Fixed:
    """t = min(1, ⌊levels · step/steps⌋ / levels): each of the costs J⁰ … Jⁿ⁻¹ has as many steps, and Jⁿ the rest.

    Arguments:
        steps: the first step at t = 1.
        levels: n; None lets t rise at every step.

    Raises:
        ValueError: less than one of each.

    >>> [Fixed(steps=4, levels=2).t(step) for step in range(6)]
    [0.0, 0.0, 0.5, 0.5, 1.0, 1.0]
    """

    steps: int
    levels: int | None = None

    def __post_init__(self) -> None:
        if not (is_whole(self.steps) and (self.levels is None or is_whole(self.levels))):
            raise ValueError(f"steps is {self.steps} and levels is {self.levels}: give at least 1 of each")

    def t(self, step: int) -> float:
        """Returns t at a step."""
        levels = self.levels or self.steps
        return min(step * levels // self.steps, levels) / levels

    def observe(self, step: int, loss: Tensor) -> None:
        """Nothing depends on what is found."""


class Adaptive:
    """t rises by 1/levels when the cost has stopped falling: no downward trend in its last losses is significant.

    The losses of a level are looked at a window at a time. Kendall's rank test asks whether a later loss tends to be
    lower than an earlier one: it takes the losses' order alone, so that neither their scale nor outliers count. A
    cost that is level is left at the next look with probability 1 − α; a fall of a hundredth of the noise a step is
    noticed in a window of 100 nine times in ten, in one of 50 one time in four.

    Arguments:
        levels: n, costs J⁰ … Jⁿ.
        window: losses that are looked at together, at least 8.
        alpha: α, how easily a trend is believed; larger stays longer.
        most: steps on a level after which t rises anyhow; unlimited by default, so that a budget may end below t = 1.

    Raises:
        ValueError: numbers out of range.

    >>> import torch
    >>> path = Adaptive(levels=2, window=8)
    >>> found = []
    >>> for step in range(20):
    ...     found.append(path.t(step))
    ...     path.observe(step, torch.tensor(max(8.0 - step, 0.0)))  # falls for 8 steps
    >>> found.count(0.0), found.count(0.5)
    (16, 4)
    """

    def __init__(self, levels: int = 10, window: int = 50, *, alpha: float = 0.05, most: int | None = None) -> None:
        if not (is_whole(levels) and is_whole(window, 8) and 0 < alpha < 1 and (most is None or is_whole(most))):
            raise ValueError(
                f"levels {levels}, window {window}, alpha {alpha}, most {most}: "
                "give levels >= 1, window >= 8, alpha in (0, 1), most >= 1"
            )
        self.levels, self.window, self.alpha, self.most = levels, window, alpha, most
        self._level, self._taken, self._step = 0, 0, -1
        self._losses: list[Tensor | float] = []  # on their device: reading each would wait for it

    def t(self, step: int) -> float:
        """Returns t at a step, the same for all evaluations in it."""
        if step != self._step and self._level < self.levels and self._done():
            self._level, self._taken = self._level + 1, 0
            self._losses.clear()
        return self._level / self.levels

    def observe(self, step: int, loss: Tensor) -> None:
        """Takes note of a step's loss, the first where several evaluations belong to one step."""
        if step != self._step and self._level < self.levels:
            self._losses.append(loss.detach())
            self._taken += 1
        self._step = step

    def _done(self) -> bool:
        if self.most is not None and self._taken >= self.most:
            return True
        if len(self._losses) < self.window:
            return False
        from scipy.stats import kendalltau  # takes a second to import

        losses = [float(loss) for loss in self._losses]
        self._losses.clear()
        return not kendalltau(range(len(losses)), losses, alternative="less").pvalue <= self.alpha

    def state_dict(self) -> dict[str, Any]:
        """Returns the level, and the losses since the last look."""
        losses = [float(loss) for loss in self._losses]
        return {"level": self._level, "taken": self._taken, "step": self._step, "losses": losses}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes a state on."""
        self._level, self._taken, self._step = state["level"], state["taken"], state["step"]
        self._losses = list(state["losses"])


class Continuation:
    """The costs J⁰, …, Jⁿ = J of a family in sequence, as one objective ``(model, batch, step) -> loss``.

    Arguments:
        family: ``(model, batch, t) -> scalar``, the easiest cost at t = 0, the true one at t = 1: one of this package's
            or your own.
        path: how t rises: :class:`Fixed` or :class:`Adaptive`.

    Attributes: ``t``, of the last evaluation.

    >>> import torch
    >>> family = lambda model, batch, t: (1 - t) * model**2 + t * torch.sin(model)
    >>> objective = Continuation(family, Fixed(steps=10))
    >>> [round(objective(torch.tensor(2.0), None, step).item(), 3) for step in (0, 5, 10)]
    [4.0, 2.455, 0.909]

    Source: Deep Learning, §8.7.6; Mobahi & Fisher 2015.
    """

    def __init__(self, family: Family, path: Fixed | Adaptive) -> None:
        self.family, self.path, self.t = family, path, 0.0

    def __call__(self, model: Any, batch: Any, step: int) -> Tensor:
        """Returns the loss of a batch at a step, 0 for the first."""
        self.t = self.path.t(step)
        loss = self.family(model, batch, self.t)
        self.path.observe(step, loss)
        return loss

    def state_dict(self) -> dict[str, Any]:
        """Returns the states of the path and the family, where they have one."""
        return {name: part.state_dict() for name, part in self._stateful().items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes a state on.

        Raises:
            ValueError: a state of another kind of path or family; nothing is changed then.
        """
        parts = self._stateful()
        if set(state) != set(parts):
            raise ValueError(f"the state is of another continuation: it has {sorted(state)}, not {sorted(parts)}")
        for name, part in parts.items():
            part.load_state_dict(state[name])

    def _stateful(self) -> dict[str, Any]:
        parts = {"family": self.family, "path": self.path}
        return {name: part for name, part in parts.items() if hasattr(part, "state_dict")}
