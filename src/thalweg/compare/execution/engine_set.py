"""The engines of a study, on this machine or on Ray's workers."""

from collections.abc import Sequence
from typing import Any, Protocol

from thalweg.compare.execution.choice import Choice
from thalweg.compare.execution.job import Engine, Job
from thalweg.compare.strategy import Strategy


class SerialRunner(Protocol):
    """Runs a strategy by itself, while nothing else runs."""

    def seconds_per_step(self, job: Job) -> float:
        """Returns the seconds of a step of the job."""
        ...

    def constant_test(self) -> float:
        """Returns the test metric of the best constant model; NaN where it is not known which that is."""
        ...

    def untrained_test(self, scheme: str, seed: int) -> float:
        """Returns the test metric of the model before any step."""
        ...


class EngineSet(Protocol):
    """Chooses engines for the strategies of a study, and gives those that were chosen."""

    @property
    def choices(self) -> list[Choice]:
        """What was chosen for each group of strategies, and why."""

    def connect(self) -> None:
        """Connects to what trains, so that a study is begun only where it can be."""

    def close(self) -> None:
        """Lets go of what trains."""

    def choose(self, seed: int) -> None:
        """Measures the engines for a moment, on runs of the first rule's default configuration.

        Raises:
            ValueError: lanes were asked for, and a model cannot be stacked.
        """

    def choose_again(self, seed: int, rung: int) -> None:
        """Measures the engines anew for a rung, by its number, and for those after it."""

    def reuse(self, stored: Sequence[dict[str, Any]]) -> None:
        """Takes up the choices that the store recorded."""

    def extend(self, stored: Sequence[dict[str, Any]], added: Sequence[str], seed: int) -> None:
        """Takes up stored choices, and measures engines for the strategies of these names that were added since.

        Raises:
            ValueError: none of them can train the model.
        """

    def engine_of(self, strategy: Strategy) -> Engine:
        """Returns the engine that trains the strategy."""
        ...

    def serial_of(self, strategy: Strategy) -> SerialRunner:
        """Returns what runs the strategy by itself."""
        ...
