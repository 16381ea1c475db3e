"""What became of a trial: its status, its learning curve, the state at its end."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor


@dataclass
class Curve:
    """Points of a learning curve; ``train_loss`` is the mean minibatch loss since the point before."""

    step: list[int] = field(default_factory=list)
    train_loss: list[float] = field(default_factory=list)
    valid_loss: list[float] = field(default_factory=list)
    valid_metric: list[float] = field(default_factory=list)

    def add(self, step: int, train_loss: float, valid_loss: float, valid_metric: float) -> None:
        """Appends one point."""
        self.step.append(step)
        self.train_loss.append(train_loss)
        self.valid_loss.append(valid_loss)
        self.valid_metric.append(valid_metric)


@dataclass
class TrialResult:
    """What became of a job: its status, its curve, and the state at its end.

    The status is ``finished``, ``diverged``, ``timed out`` or ``could not run``, of which ``reason`` says why.
    """

    key: str
    status: str
    steps: int
    curve: Curve
    first_loss: float
    test: float | None = None
    snapshot: Mapping[str, Tensor] | None = None
    reason: str = ""
