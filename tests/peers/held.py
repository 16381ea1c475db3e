"""Holds one optimizer, as compare runs it, to its author's loop."""

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

import numpy as np

from tests.peers.cases import Case
from tests.peers.task import STEPS, context_of, cut, job_of, straight
from thalweg import Strategy
from thalweg.compare.storage.result import TrialResult
from thalweg.compare.user_errors import LoadError

BOUND = 1e-6


@dataclass(frozen=True)
class Held:
    """What came of it: the largest difference of a validation loss from the author's loop, or why there is none."""

    straight: float | None
    cut: float | None
    note: str

    @property
    def passes(self) -> bool:
        return all(gap is not None and gap <= BOUND for gap in (self.straight, self.cut))


def installed(case: Case) -> str | None:
    """Returns the version of the package of a case, None where it is not installed."""
    try:
        return version(case.distribution)
    except PackageNotFoundError:
        return None


def hold(case: Case, steps: int = STEPS) -> Held:
    """Trains as compare does, straight and cut at a third, and as the author does, for so many steps."""
    try:
        strategy = _strategy(case)
    except LoadError as error:
        return Held(None, None, str(error))
    context, job = context_of(case.build), job_of(strategy, case.cost, steps)
    found = [straight(context, job), cut(context, job)]
    for result in found:
        if result.status != "finished":
            return Held(None, None, result.reason or result.status)
    loop = case.kind(context, job, case.cost)
    own = case.make(loop.model, job.total) if case.make else _plain(strategy, loop)
    case.loop(loop, own)
    gaps = [_gap(result, loop.points) for result in found]
    return Held(*gaps, case.note)


def _strategy(case: Case) -> Strategy:
    if case.factory is None:
        return Strategy.parse(case.name)
    lr = (case.factory.__defaults__ or (1e-3,))[-1]
    return Strategy("own", factory=case.factory, defaults={"lr": lr})


def _plain(strategy: Strategy, loop: object) -> object:
    """Returns the optimizer at its author's defaults, with the first learning rate tried where there is none."""
    hyper = strategy.default_configuration()
    return strategy.factory(loop.model.parameters(), **hyper)


def _gap(result: TrialResult, points: list[float]) -> float:
    if len(result.curve.valid_loss) != len(points):
        return float("inf")
    return float(np.max(np.abs(np.subtract(result.curve.valid_loss, points))))
