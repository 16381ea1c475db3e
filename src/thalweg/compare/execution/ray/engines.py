"""``--engine ray``: the trials of a study on the workers of a Ray cluster.

Each worker has engines of its own and trains with the serial engine or in lanes, as one machine would, so that records
are the same. What is sent together depends on the study alone, not on how many workers there are: one job, or as many
as there are lanes. Only this process, the driver, writes the store.
"""

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from thalweg.compare.design import Budget
from thalweg.compare.execution.choice import Choice
from thalweg.compare.execution.job import Job, Progress, ResultCallback, ignore_results
from thalweg.compare.execution.ray.worker import Kit, packed, portable
from thalweg.compare.execution.selection import Name
from thalweg.compare.storage.result import TrialResult
from thalweg.compare.strategy import Strategy
from thalweg.compare.task import Task
from thalweg.extras import needs
from thalweg.optim.decay import Decay

if TYPE_CHECKING:
    from thalweg.compare.execution.ray.pool import Call, Pool

# On a busy machine Ray's processes wait for each other longer than Ray itself allows.
_WAITS = ("worker_register_timeout_seconds", "gcs_server_port_wait_time_s", "gcs_server_request_timeout_seconds")
PATIENT = {f"RAY_{name}": "600" for name in _WAITS}
PATIENT |= {"RAY_agent_register_timeout_ms": "600000", "RAY_health_check_timeout_ms": "120000"}
# The second keeps every port that Ray opens on loopback; its name speaks of the systems where that is the rule.
LOCAL = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", **PATIENT}
# What a node that dies has to say, some thirty lines of its log, does not belong into the study's output.
QUIET = {"RAY_DEDUP_LOGS_SKIP_REGEX": "."}


@dataclass(frozen=True)
class Cluster:
    """Where Ray runs and what each worker gets of it.

    Arguments:
        address: of a cluster, as ``ray start --head`` prints it, or of its client server (``ray://``); that of
            ``RAY_ADDRESS`` where it is set, as it is in a Ray job, or else Ray is started here, on loopback, and ended
            with the study.
        workers: number of workers; by default as many as the cluster can hold.
        cpus: CPUs of a worker, which computes with so many threads.
        gpus: GPUs of a worker; 0.5 lets two share one.

    Raises:
        ValueError: a share or a number that cannot be, or Ray is not installed.
    """

    address: str | None = None
    workers: int | None = None
    cpus: float = 1.0
    gpus: float = 0.0

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise ValueError(f"--ray-workers must be at least 1, not {self.workers}")
        if not 0 < self.cpus < math.inf:
            raise ValueError(f"--ray-cpus must be more than 0, not {self.cpus:g}")
        if not 0 <= self.gpus < math.inf or (self.gpus > 1 and self.gpus % 1):
            raise ValueError(f"--ray-gpus must be a share of one GPU or a whole number of them, not {self.gpus:g}")
        with needs("ray", "--engine ray"):
            import ray  # noqa: F401

    def device(self, asked: str | None) -> str:
        """Returns the device of a worker: CUDA where it gets a GPU.

        Raises:
            ValueError: the requested device does not fit the share of GPUs.
        """
        device = asked or ("cuda" if self.gpus else "cpu")
        if device.startswith("cuda") != bool(self.gpus):
            raise ValueError(f"--device {device} cannot be combined with --ray-gpus {self.gpus:g}: omit one")
        return device


class RayEngines:
    """The engines of Ray's workers as one engine, which trains all strategies.

    Ray is started when it is first needed: a study that is whole is read without it. ``say`` receives what the user
    should know; ``wanted`` narrows what a worker may choose among; ``decay`` is as in :func:`thalweg.compare`.
    """

    name = "ray"

    def __init__(
        self,
        task: Task,
        strategies: Sequence[Strategy],
        budget: Budget,
        cluster: Cluster,
        *,
        device: str = "cpu",
        memory: int | None = None,
        swap: bool = False,
        say: Callable[[str], None] = lambda _: None,
        wanted: Name = "auto",
        decay: Decay = "all",
    ) -> None:
        self.task, self.strategies, self.budget, self.cluster, self.say = task, strategies, budget, cluster, say
        self.device, self.memory, self.swap, self.wanted, self.decay = device, memory, swap, wanted, decay
        self.choices: list[Choice] = []
        self._pool: Pool | None = None
        self._plan: Mapping[str, tuple[int, int]] | None = None
        self._workers = 0

    def choose(self, seed: int) -> None:
        """Lets one worker, while no other disturbs it, measure the engines."""
        pool = self._started()
        pool.hire(1, None)
        (found,) = pool.map([_call("choose", seed)])
        self.choices = [self._of_all(Choice(**choice)) for choice in found]

    def choose_again(self, seed: int, rung: int) -> None:
        """Lets one worker, while the others have nothing to do, measure the engines anew for a rung."""
        self._started()
        own = [replace(c, trial_steps_per_second=c.trial_steps_per_second / self._workers) for c in self.choices]
        found = self.ask("choose_again", [choice.as_dict() for choice in own], seed, rung)
        self.choices, self._plan = [self._of_all(Choice(**choice)) for choice in found], None

    def _of_all(self, choice: Choice) -> Choice:
        """Returns what a worker has chosen as it stands for all of them."""
        many = f"; in each of {_workers(self._workers)}" if self._workers > 1 else "; in a Ray worker"
        reason = choice.reason.removesuffix(many) + many
        return replace(choice, reason=reason, trial_steps_per_second=choice.trial_steps_per_second * self._workers)

    def reuse(self, stored: Sequence[dict[str, Any]]) -> None:
        """Takes up the choices that the store recorded."""
        self.choices, self._plan = [Choice(**choice) for choice in stored], None

    def extend(self, stored: Sequence[dict[str, Any]], added: Sequence[str], seed: int) -> None:
        """Takes up stored choices. Raises ValueError where strategies were added since."""
        if added:
            raise ValueError(
                f"strategy {added[0]!r} cannot be added to a study that Ray trains, as seeds can: choose another --out"
            )
        self.reuse(stored)

    def engine_of(self, strategy: Strategy) -> "RayEngines":
        """Returns the engine that trains the strategy."""
        return self

    def serial_of(self, strategy: Strategy) -> "RaySerialRunner":
        """Returns what runs the strategy by itself."""
        return RaySerialRunner(self, strategy)

    def run(
        self, jobs: Sequence[Job], progress: Progress, on_results: ResultCallback = ignore_results
    ) -> list[TrialResult]:
        """Trains every job to its end; those that were sent together are kept together.

        Raises:
            ValueError: a job has cost several workers their lives, or no worker can be had.
        """
        plan = self._planned()
        groups: dict[int, list[int]] = {}  # of jobs that one engine trains
        for i in sorted(range(len(jobs)), key=lambda i: jobs[i].strategy.name):  # alike ones share kernels in lanes
            groups.setdefault(plan[jobs[i].strategy.name][0], []).append(i)
        parts = []
        for group in groups.values():
            width = plan[jobs[group[0]].strategy.name][1]
            parts += [group[i : i + width] for i in range(0, len(group), width)]
        titles = [_title([jobs[i].key for i in part]) for part in parts]
        stored = [choice.as_dict() for choice in self.choices]
        calls = [_call("run", stored, [packed(jobs[i]) for i in p], name=t) for p, t in zip(parts, titles, strict=True)]
        results: dict[int, TrialResult] = {}
        for part, found in zip(parts, self._hired().map(calls, progress, on_results), strict=True):
            results |= dict(zip(part, found, strict=True))
        return [results[i] for i in range(len(jobs))]

    def ask(self, method: str, *args: Any) -> Any:
        """Returns what a worker's method returns."""
        return self._hired().map([_call(method, *args)])[0]

    def connect(self) -> None:
        """Starts Ray or reaches its cluster, which is done anyway when it is first needed.

        Raises:
            ValueError: no cluster can be used.
        """
        self._started()

    def close(self) -> None:
        """Ends the workers, and Ray if it was started here."""
        if self._pool:
            self._pool.close()
            self._pool = None

    def _planned(self) -> Mapping[str, tuple[int, int]]:
        if self._plan is None:
            self._plan = self.ask("plan")
        return self._plan

    def _hired(self) -> "Pool":
        pool = self._started()
        pool.hire(self._workers, [choice.as_dict() for choice in self.choices])
        return pool

    def _started(self) -> "Pool":
        """Returns the pool, connected and with all that a worker is made of, but no worker yet."""
        if self._pool:
            return self._pool
        cluster, address = self.cluster, self.cluster.address or os.environ.get("RAY_ADDRESS")
        with _environment(QUIET if address else LOCAL):  # before Ray is imported, which reads it then
            from thalweg.compare.execution.ray.pool import Pool

            self._pool = pool = Pool(address, cluster.cpus, cluster.gpus, self.say)
        capacity, nodes = pool.capacity()
        share = f"{cluster.cpus:g} CPU" + (f" and {cluster.gpus:g} GPU" if cluster.gpus else "")
        if not capacity and cluster.workers is None:
            raise ValueError(f"no node of the Ray cluster has {share} for a worker: lower --ray-cpus or --ray-gpus")
        most = max(runs for runs, _ in self.budget.rungs(len(self.strategies)))
        self._workers = min(cluster.workers or capacity, most)
        on_nodes = f"{nodes} node{'s' * (nodes != 1)}"
        each = " each" if self._workers > 1 else ""
        self.say(f"{_workers(self._workers)} of {share}{each}; the cluster can hold {capacity} on {on_nodes}")
        threads = max(1, int(cluster.cpus))
        share_of_memory = min(1.0, cluster.gpus if cluster.gpus else threads / (os.cpu_count() or 1))
        pool.supply(
            Kit(
                portable(self.task),
                self.strategies,
                self.budget,
                self.swap,
                self.memory,
                self.device,
                threads,
                share_of_memory,
                self._workers,
                self.wanted,
                self.decay,
            )
        )
        return pool


@dataclass(frozen=True)
class RaySerialRunner:
    """Runs a strategy by itself, on a worker."""

    engines: RayEngines
    strategy: Strategy

    def seconds_per_step(self, job: Job) -> float:
        """Returns the seconds of a step of the job."""
        return float(self.engines.ask("seconds_per_step", packed(job)))

    def constant_test(self) -> float:
        """As :meth:`thalweg.compare.execution.serial.Serial.constant_test`."""
        return float(self.engines.ask("constant_test", self.strategy.name))

    def untrained_test(self, scheme: str, seed: int) -> float:
        """Returns the test metric of the model before any step."""
        return float(self.engines.ask("untrained_test", self.strategy.name, scheme, seed))


def _call(method: str, *args: Any, name: str = "") -> "Call":
    from thalweg.compare.execution.ray.pool import Call

    return Call(method, args, name or method)


def _workers(count: int) -> str:
    return f"{count} Ray worker{'s' * (count > 1)}"


def _title(keys: Sequence[str]) -> str:
    """Returns what jobs that are sent together are called.

    >>> _title(["adam/0"]), _title(["adam/0", "adam/1", "sgd/0"])
    ('adam/0', 'adam/0 and 2 more')
    """
    return keys[0] + (f" and {len(keys) - 1} more" if len(keys) > 1 else "")


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Runs its body, and what processes it starts, with these variables where the user has not set them."""
    own = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(own)
    try:
        yield
    finally:
        for name in own:
            del os.environ[name]
