"""The engines of a study: for each variant of the model a workshop, and what trains which strategy there."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from thalweg.compare.design import Budget
from thalweg.compare.engines.choose import Choice, Chooser, Name
from thalweg.compare.engines.job import Engine, Job, Unstackable, Workshop
from thalweg.compare.engines.serial import Serial
from thalweg.compare.strategy import Strategy
from thalweg.compare.variants import Variant
from thalweg.tensors import derive_seed


class Fleet:
    """Chooses engines for all strategies, each among those of its variant.

    ``shops`` are the variants' workshops, ``memory`` bounds the bytes that lanes may take, ``workers`` fleets like this
    one share the study.
    """

    def __init__(
        self,
        shops: Mapping[Variant, Workshop],
        strategies: Sequence[Strategy],
        wanted: Name,
        memory: int | None,
        budget: Budget,
        workers: int = 1,
    ) -> None:
        self.budget, self.workers = budget, workers
        self._mine = {v: [s for s in strategies if s.variant == v] for v in shops}
        self._choosers = {
            variant: Chooser(shops[variant], wanted, memory, _shared(budget.rungs(len(mine)), workers), str(variant))
            for variant, mine in self._mine.items()
            if mine
        }

    def choose(self, seed: int) -> None:
        """Measures the engines for a moment, on runs of the first rule's default configuration.

        Raises:
            ValueError: lanes were asked for, and a model cannot be stacked.
        """
        for variant, chooser in self._choosers.items():
            try:
                chooser.choose(self._mine[variant], self._specimen(variant, seed))
            except Unstackable as error:
                raise ValueError(
                    f"--engine lanes is not possible for this model: {error}; use --engine auto"
                ) from error

    def choose_again(self, seed: int, rung: int) -> None:
        """Measures the engines anew for a rung, by its number, and for those after it."""
        for variant, chooser in self._choosers.items():
            mine = self._mine[variant]
            left = _shared(self.budget.rungs(len(mine)), self.workers)[rung:]
            chooser.choose_again(mine, self._specimen(variant, seed), left)

    def _specimen(self, variant: Variant, seed: int) -> Job:
        """Returns a run of the variant's first rule, else of its first strategy."""
        some, steps = self._mine[variant], self.budget.steps
        strategy = next((s for s in some if s.rule is not None), some[0])
        own = derive_seed(seed, "specimen") % 2**31
        plain, hyper = replace(strategy, guidance="none"), strategy.stepping(strategy.default_configuration())
        return Job("specimen", plain, hyper, own, 0, steps, steps, steps, limit=self.budget.trial_seconds)

    def reuse(self, stored: Sequence[dict[str, Any]]) -> None:
        """Takes up the choices that the store recorded."""
        for variant, chooser in self._choosers.items():
            chooser.reuse(self._mine[variant], stored)

    @property
    def choices(self) -> list[Choice]:
        """What was chosen for each group of strategies, and why."""
        return [choice for chooser in self._choosers.values() for choice in chooser.choices]

    def engine_of(self, strategy: Strategy) -> Engine:
        """Returns the engine that trains the strategy."""
        return self._choosers[strategy.variant].engine_of(strategy)

    def serial_of(self, strategy: Strategy) -> Serial:
        """Returns the engine that runs the strategy alone."""
        return self._choosers[strategy.variant].serial


def _shared(rungs: Sequence[tuple[int, int]], workers: int) -> list[tuple[int, int]]:
    """Returns the (number of runs, steps of each) that fall to one of so many workers."""
    return [(-(-runs // workers), steps) for runs, steps in rungs]
