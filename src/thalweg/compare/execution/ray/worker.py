"""What a Ray worker does: it has engines of its own, and trains what it is sent. Ray is not needed to read this."""

import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch

from thalweg import __version__
from thalweg.compare.arguments import usable_device
from thalweg.compare.design import Budget
from thalweg.compare.execution.context import TaskContext
from thalweg.compare.execution.job import Job, training
from thalweg.compare.execution.lanes import Lanes
from thalweg.compare.execution.local_engines import LocalEngines
from thalweg.compare.execution.memory import free_memory
from thalweg.compare.execution.selection import Name
from thalweg.compare.storage.result import TrialResult
from thalweg.compare.strategy import Strategy
from thalweg.compare.strategy.variants import Variant, built
from thalweg.compare.task import HeldSplit, Task, examples
from thalweg.compare.user_errors import TaskError, describe_error
from thalweg.optim.decay import Decay

Wire = Mapping[str, Any]
Choices = Sequence[dict[str, Any]]


@dataclass(frozen=True)
class Kit:
    """All that a worker is made of, sent to it once.

    Arguments:
        task: the user's, its examples as tensors, so that no worker reads or draws them again.
        strategies, budget, swap, memory, wanted, decay: as :class:`LocalEngines` and :func:`thalweg.compare` take them.
        device: where the worker trains.
        threads: how many it computes with.
        share: its part of its machine's memory, or of its device's.
        workers: how many there are to share the study.
    """

    task: Task
    strategies: Sequence[Strategy]
    budget: Budget
    swap: bool
    memory: int | None
    device: str
    threads: int
    share: float
    workers: int
    wanted: Name = "auto"
    decay: Decay = "all"


def versions() -> dict[str, str]:
    """Returns what must be the same everywhere for records to be the same."""
    return {"thalweg": __version__, "torch": torch.__version__, "Python": platform.python_version()}


def packed(job: Job) -> Wire:
    """Returns the job as it is sent: its strategy by name, for the worker has that already."""
    return {f.name: getattr(job, f.name) for f in fields(job)} | {"strategy": job.strategy.name}


class Worker:
    """Trains jobs in a process of its own, on whatever engines its study has chosen."""

    def __init__(self) -> None:
        self._ledger: Any = None
        self._taken: Choices | None = None
        self._number, self._done, self._noted, self._pause = 0, 0, 0.0, 0.0

    def do(self, number: int, what: str, *args: Any) -> tuple[Any, int]:
        """Calls a method; returns what it returns and how many trial-steps it took."""
        self._number, self._done, self._noted = number, 0, time.monotonic()
        try:
            with training():
                return getattr(self, what)(*args), self._done
        except KeyboardInterrupt as error:  # the user's code raises it: no signal comes here
            raise TaskError(
                f"training {describe_error(error)}: correct it, and resume with the same command"
            ) from error

    def ready(self, there: Mapping[str, str], kit: Sequence[Any], choices: Choices | None, ledger: object) -> None:
        """Unpacks the kit, once it is known to be of this version; takes up the choices, where they are made.

        ``ledger`` occasionally receives the progress of a call.

        Raises:
            ValueError: this node has other versions, or not the device.
        """
        different = [f"{name} {own}, not {there[name]}" for name, own in versions().items() if own != there[name]]
        if different:
            raise ValueError(
                f"the Ray node {platform.node()} has {', '.join(different)}: records would differ: install the same "
                "versions"
            )
        import ray

        own: Kit = ray.get(kit[0])
        self._ledger, self._pause = ledger, pause(own.workers)
        self.open(own)
        if choices is not None:
            self._take(choices)

    def open(self, kit: Kit) -> None:
        """Sets up task contexts and engines."""
        torch.set_num_threads(kit.threads)
        device, data = usable_device(kit.device), examples(kit.task)
        contexts = {
            variant: TaskContext(built(kit.task, variant, kit.swap), data, device, kit.decay)
            for variant in dict.fromkeys([Variant(), *(s.variant for s in kit.strategies)])
        }
        memory = kit.memory if kit.memory is not None else int(kit.share * free_memory(device)) // 2
        self.strategies = {s.name: s for s in kit.strategies}
        self.engines = LocalEngines(contexts, kit.strategies, kit.wanted, memory, kit.budget, kit.workers)

    def choose(self, seed: int) -> Choices:
        """Measures the engines here and returns the choices."""
        self.engines.choose(seed)
        return [choice.as_dict() for choice in self.engines.choices]

    def choose_again(self, choices: Choices, seed: int, rung: int) -> Choices:
        """Measures the engines anew for a rung, and returns what is chosen now."""
        self._take(choices)
        self.engines.choose_again(seed, rung)
        self._taken = None  # only with what the driver makes of them
        return [choice.as_dict() for choice in self.engines.choices]

    def _take(self, choices: Choices) -> None:
        if choices != self._taken:
            self.engines.reuse(choices)
            self._taken = choices

    def plan(self) -> dict[str, tuple[int, int]]:
        """Returns for each strategy which engine trains it, by a number, and how many jobs that takes at once."""
        found: dict[int, int] = {}
        plan = {}
        for name, strategy in self.strategies.items():
            engine = self.engines.engine_of(strategy)
            number = found.setdefault(id(engine), len(found))
            plan[name] = number, engine.width if isinstance(engine, Lanes) else 1
        return plan

    def run(self, choices: Choices, wires: Sequence[Wire]) -> list[TrialResult]:
        """Trains jobs on the one engine chosen for them. Raises TaskError, a line, where the user's code does."""
        self._take(choices)
        jobs = [self._job(wire) for wire in wires]
        with training():
            return self.engines.engine_of(jobs[0].strategy).run(jobs, self._count)

    def seconds_per_step(self, wire: Wire) -> float:
        """Returns the seconds of a step of the job, run alone."""
        job = self._job(wire)
        return self.engines.serial_of(job.strategy).seconds_per_step(job)

    def constant_test(self, name: str) -> float:
        """As :meth:`thalweg.compare.execution.serial.Serial.constant_test`."""
        return self.engines.serial_of(self.strategies[name]).constant_test()

    def untrained_test(self, name: str, scheme: str, seed: int) -> float:
        """Returns the test metric of the strategy's model before any step."""
        return self.engines.serial_of(self.strategies[name]).untrained_test(scheme, seed)

    def _job(self, wire: Wire) -> Job:
        return Job(**{**wire, "strategy": self.strategies[wire["strategy"]]})

    def _count(self, steps: int) -> None:
        self._done += steps
        if time.monotonic() - self._noted > self._pause:
            self._noted = time.monotonic()
            self._ledger.note.remote(self._number, self._done)


def pause(workers: int) -> float:
    """Returns the seconds between two notes of a worker: with many of them, more."""
    return max(1.0, workers / 200)


def portable(task: Task) -> Task:
    """Returns the task with its examples as tensors, for datasets may hold files, or much that is not needed."""
    data = examples(task)
    held: dict[str, Any] = {
        name: split.dataset()
        for name, split in zip(("train", "valid", "test"), data.parts, strict=True)
        if isinstance(split, HeldSplit) and isinstance(split.held, tuple)
    }
    return replace(task, **held)
