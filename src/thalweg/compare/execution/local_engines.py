"""The engines of a study: for each variant of the model its context, and the engine that trains each strategy."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from thalweg.compare.design import Budget
from thalweg.compare.execution.choice import Choice
from thalweg.compare.execution.context import TaskContext
from thalweg.compare.execution.job import Engine, Job
from thalweg.compare.execution.selection import EngineSelector, Name
from thalweg.compare.execution.serial import Serial
from thalweg.compare.execution.stackable import Unstackable
from thalweg.compare.strategy import Strategy
from thalweg.compare.strategy.variants import Variant
from thalweg.tensors import derive_seed


class LocalEngines:
    """Chooses engines for all strategies, each among those of its variant.

    ``contexts`` are those of the variants; ``memory`` bounds the bytes that lanes may take; so many ``workers`` with
    engines of their own share the study. ``first`` are the gradient evaluations of the first rung of each strategy, by
    default those of the budget.
    """

    def __init__(
        self,
        contexts: Mapping[Variant, TaskContext],
        strategies: Sequence[Strategy],
        wanted: Name,
        memory: int | None,
        budget: Budget,
        workers: int = 1,
        first: Mapping[str, int] | None = None,
    ) -> None:
        self.budget, self.workers = budget, workers
        self._groups = {v: [s for s in strategies if s.variant == v] for v in contexts}
        first = first or {s.name: budget.of(s.name).rung for s in strategies}
        self._selectors = {
            variant: EngineSelector(
                contexts[variant], wanted, memory, _shared(budget, group, workers), str(variant), first
            )
            for variant, group in self._groups.items()
            if group
        }

    def connect(self) -> None:
        """Does nothing: this process trains."""

    def close(self) -> None:
        """Does nothing: the process stays."""

    def choose(self, seed: int) -> None:
        """Measures the engines for a moment, on runs of the first rule's default configuration.

        Raises:
            ValueError: lanes were asked for, and a model cannot be stacked; or no strategy can train its model.
        """
        self.extend([], [s.name for group in self._groups.values() for s in group], seed)

    def extend(self, stored: Sequence[dict[str, Any]], added: Sequence[str], seed: int) -> None:
        """Takes up stored choices, and measures engines for the strategies of these names that were added since.

        Raises:
            ValueError: as for :meth:`choose`, of those that were added.
        """
        for variant, selector in self._selectors.items():
            try:
                selector.choose(self._groups[variant], self._specimen(variant, seed), stored)
            except Unstackable as error:
                raise ValueError(
                    f"--engine lanes is not possible for this model: {error}; use --engine auto"
                ) from error
        failures = {name: failure for s in self._selectors.values() for name, failure in s.failures.items()}
        if added and len(failures) == len(added):
            raise next(failure.refusal(name) for name, failure in failures.items())

    def choose_again(self, seed: int, rung: int) -> None:
        """Measures the engines anew for a rung, by its number, and for those after it."""
        for variant, selector in self._selectors.items():
            group = self._groups[variant]
            left = _shared(self.budget, group, self.workers)[rung:]
            selector.choose_again(group, self._specimen(variant, seed), left)

    def _specimen(self, variant: Variant, seed: int) -> Job:
        """Returns a run of the variant's first rule, else of its first strategy."""
        some = self._groups[variant]
        strategy = next((s for s in some if s.rule is not None and not s.has_partner), some[0])
        steps = self.budget.of(strategy.name).steps
        own = derive_seed(seed, "specimen") % 2**31
        plain, hyper = replace(strategy, guidance="none"), strategy.stepping(strategy.default_configuration())
        return Job("specimen", plain, hyper, own, 0, steps, steps, steps, limit=self.budget.trial_seconds)

    def reuse(self, stored: Sequence[dict[str, Any]]) -> None:
        """Takes up the choices that the store recorded."""
        for variant, selector in self._selectors.items():
            selector.reuse(self._groups[variant], stored)

    @property
    def choices(self) -> list[Choice]:
        """What was chosen for each group of strategies, and why."""
        return [choice for selector in self._selectors.values() for choice in selector.choices]

    def engine_of(self, strategy: Strategy) -> Engine:
        """Returns the engine that trains the strategy."""
        return self._selectors[strategy.variant].engine_of(strategy)

    def serial_of(self, strategy: Strategy) -> Serial:
        """Returns the engine that runs the strategy alone."""
        return self._selectors[strategy.variant].serial


def _shared(budget: Budget, group: Sequence[Strategy], workers: int) -> list[tuple[int, int]]:
    """Returns the (number of runs, steps of each) of strategies that fall to one of so many workers."""
    stages = budget.stages_of([s.name for s in group])
    return [(-(-len(group) * stage.runs // workers), stage.steps) for stage in stages]
