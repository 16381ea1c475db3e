"""The engine that was chosen for a group of strategies."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from thalweg.compare.execution.cannot_run import CannotRun

Stored = Sequence[dict[str, Any]]  # choices as the store has them
OF_RULES = "update rules ("  # the beginning of the group's name


@dataclass(frozen=True)
class Choice:
    """What was chosen for a group of strategies, and why."""

    group: str
    name: str
    reason: str
    trial_steps_per_second: float
    width: int = 1
    set_up_seconds: float = 0.0
    serial_threads: int = 0  # threads of a serial run, also of the finalists that are timed alone
    variant: str = ""  # of the model
    lane_threads: int = 0  # threads of the lanes; 0 for torch's number

    def as_dict(self) -> dict[str, Any]:
        """Returns the choice as plain values."""
        return asdict(self)

    @classmethod
    def of_failure(cls, group: str, failure: CannotRun) -> "Choice":
        """Returns that of a strategy that could not run when it was tried."""
        return cls(group, "serial", f"it {failure}", math.inf)

    @property
    def is_of_rules(self) -> bool:
        """Whether it was made for the strategies that lanes could train, which it was for together."""
        return self.group.startswith(OF_RULES)

    @property
    def can_run(self) -> bool:
        """Whether what was tried could run; else the reason says what it does."""
        return math.isfinite(self.trial_steps_per_second)

    @property
    def title(self) -> str:
        """What it was made for."""
        return f"{self.group} of {self.variant}" if self.variant else self.group
