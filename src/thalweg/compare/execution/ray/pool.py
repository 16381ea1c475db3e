"""Ray workers as a pool: calls go out, results come in, and what a dead worker held goes to another.

Each call is answered through one queue, so that an answer costs the same with two workers as with a thousand.
"""

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from queue import Empty, SimpleQueue
from types import ModuleType
from typing import Any

import ray
from ray.exceptions import ActorUnavailableError, RayError, RayTaskError

from thalweg.compare.execution.job import Progress
from thalweg.compare.execution.ray.connection import connect
from thalweg.compare.execution.ray.ledger import Ledger
from thalweg.compare.execution.ray.worker import Worker, pause, versions
from thalweg.compare.user_errors import is_users
from thalweg.compare.user_files import FOLDERS
from thalweg.tensors.error_texts import death_of_worker

TRIES = 3  # workers that a call may cost before it is given up
PATIENCE = 30.0  # seconds without any worker after which a message is shown
_numbers = count(1)


@dataclass(eq=False)
class Call:
    """A method of a worker with its arguments; ``name`` is what it is called when it fails."""

    method: str
    args: tuple[Any, ...]
    name: str = ""
    number: int = field(default_factory=lambda: next(_numbers))
    tries: int = 0
    reported: int = 0  # trial-steps that progress was called with


@dataclass(eq=False)
class _Hand:
    """A worker, and what it does."""

    actor: Any
    call: Call | None = None


class Pool:
    """Workers that are alike.

    Arguments:
        address: of a Ray cluster; None starts one on this machine, unless Ray is connected already.
        cpus, gpus: share of each worker.
        say: receives messages for the user.

    Raises:
        ValueError: no cluster answers.
    """

    def __init__(self, address: str | None, cpus: float, gpus: float, say: Callable[[str], None]) -> None:
        self.say, self.cpus, self.gpus = say, cpus, gpus
        self._own = not ray.is_initialized()
        if self._own:
            connect(address)
        self._worker = ray.remote(num_cpus=cpus, num_gpus=gpus)(Worker)
        self._ledger: Any = ray.remote(num_cpus=0, max_restarts=-1)(Ledger).remote()
        self._events: SimpleQueue[tuple[_Hand | None, Call, Future[Any]]] = SimpleQueue()
        self._hands: set[_Hand] = set()
        self._idle: deque[_Hand] = deque()
        self._wanted = self._failed = 0
        self._polled = time.monotonic()

    def capacity(self) -> tuple[int, int]:
        """Returns how many workers the cluster can hold at present, and on how many nodes."""
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        capacity = [int(node.get("CPU", 0) / self.cpus) for node in nodes]
        if self.gpus:
            capacity = [min(r, int(node.get("GPU", 0) / self.gpus)) for r, node in zip(capacity, nodes, strict=True)]
        return sum(capacity), sum(r > 0 for r in capacity)

    def supply(self, kit: object) -> None:
        """Sends what every worker is made of, once.

        Raises:
            ValueError: it holds what cannot be sent.
        """
        try:
            with _by_value():
                self._kit = ray.put(kit)
        except Exception as error:
            line = (str(error).strip().splitlines() or ["no message"])[0]
            raise ValueError(
                f"the task or a strategy cannot be sent to Ray's workers ({type(error).__name__}: {line}): open "
                "files and create locks inside the functions that use them"
            ) from error

    def hire(self, wanted: int, choices: Sequence[dict[str, Any]] | None) -> None:
        """Starts workers until there are so many; each is ready with these choices."""
        self._choices, self._wanted = choices, wanted
        while len(self._hands) < wanted:
            self._start()

    def map(
        self,
        calls: Sequence[Call],
        progress: Progress = lambda _: None,
        on_results: Callable[[Any], None] = lambda _: None,
    ) -> list[Any]:
        """Returns what the calls return, in their order; each is given to ``on_results`` as it comes.

        Raises:
            ValueError: a call has cost several workers their lives, or no worker starts.
            Exception: what a call raised.
        """
        waiting, results, began = deque(calls), dict[int, Any](), time.monotonic()
        while len(results) < len(calls):
            while waiting and self._idle:
                self._send(self._idle.popleft(), waiting.popleft())
            began = self._patience(began)
            self._poll()
            try:
                hand, call, answer = self._events.get(timeout=0.5)
            except Empty:
                continue
            error = answer.exception()
            if isinstance(error, RayTaskError):
                raise getattr(error, "cause", error) from error
            if hand is None:  # the ledger, which may be lost: it only tells how far they are
                self._note(progress, {} if error else answer.result())
            elif error is not None:
                waiting.extendleft(self._lost(hand, call, error))
            else:
                hand.call = None
                self._idle.append(hand)
                if call.method == "ready":
                    self._failed = 0
                else:
                    results[call.number], steps = answer.result()
                    _report(progress, call, steps)
                    on_results(results[call.number])
        return [results[call.number] for call in calls]

    def close(self) -> None:
        """Ends all workers, and Ray where it was begun here."""
        for actor in (self._ledger, *(hand.actor for hand in self._hands)):
            with suppress(RayError):
                ray.kill(actor)
        self._hands.clear()
        self._idle.clear()
        if self._own:
            ray.shutdown()

    def _start(self) -> None:
        hand = _Hand(self._worker.remote())
        self._hands.add(hand)
        self._send(hand, Call("ready", (versions(), [self._kit], self._choices, self._ledger)))

    def _send(self, hand: _Hand, call: Call) -> None:
        hand.call = call
        self._expect(hand, call, hand.actor.do.remote(call.number, call.method, *call.args))

    def _expect(self, hand: _Hand | None, call: Call, answer: Any) -> None:
        answer.future().add_done_callback(lambda done: self._events.put((hand, call, done)))

    def _poll(self) -> None:
        """Asks, now and then, how far the calls under way are."""
        now = time.monotonic()
        if now - self._polled > pause(self._wanted):
            self._polled = now
            self._expect(None, Call("take", ()), self._ledger.take.remote())

    def _note(self, progress: Progress, steps: Mapping[int, int]) -> None:
        calls = {hand.call.number: hand.call for hand in self._hands if hand.call}
        for number in steps.keys() & calls.keys():
            _report(progress, calls[number], steps[number])

    def _lost(self, hand: _Hand, call: Call, error: BaseException) -> list[Call]:
        """Replaces a worker that died; returns what it held, to be done by another."""
        self._hands.discard(hand)
        with suppress(RayError):  # it may be out of reach only
            ray.kill(hand.actor)
        why = _reason(error)
        if call.method == "ready":
            self._failed += 1
            if self._failed < TRIES * self._wanted:
                self._start()
            elif not self._hands:
                raise ValueError(
                    f"no Ray worker starts ({why}): thalweg and what the task imports must be installed on every node"
                )
            return []
        call.tries += 1
        if call.tries == TRIES:
            raise ValueError(
                f"{call.name} killed {TRIES} Ray workers ({why}): give each worker more with --ray-cpus, or limit "
                "the lanes with --memory; the same command resumes the study"
            )
        self._start()
        self.say(f"a Ray worker died ({why}): {call.name} runs again on another worker")
        return [call]

    def _patience(self, began: float) -> float:
        """Says, once, that no worker could be placed."""
        ready = any(hand.call is None or hand.call.method != "ready" for hand in self._hands)
        if not ready and time.monotonic() - began > PATIENCE:
            self.say("waiting for Ray: the cluster is full, or a worker starts slowly")
            return float("inf")
        return began


def _report(progress: Progress, call: Call, steps: int) -> None:
    """Reports steps that were not reported; a call that is done again reports none until it is where it was."""
    if steps > call.reported:
        progress(steps - call.reported)
        call.reported = steps


def _reason(error: BaseException) -> str:
    """Returns in a few words why a worker died."""
    if isinstance(error, ActorUnavailableError):
        return "it cannot be reached"
    return death_of_worker(str(error)) or type(error).__name__


@contextmanager
def _by_value() -> Iterator[None]:
    """Sends what the user's own files define as it is, not by the names of modules that no other machine has."""
    own = _users_modules()
    for module in own:
        ray.cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        for module in own:
            ray.cloudpickle.unregister_pickle_by_value(module)


def _users_modules() -> list[ModuleType]:
    """Returns the modules that lie beside a file named by path, or below the current folder, and are not installed."""
    files = {
        name: (module, Path(file).resolve())
        for name, module in list(sys.modules.items())
        if isinstance(file := getattr(module, "__file__", None), str) and getattr(module, "__name__", "") == name
    }
    homes = {Path.cwd(), *FOLDERS}
    return [
        module
        for name, (module, path) in files.items()
        if name != "__main__" and is_users(path) and any(path.is_relative_to(home) for home in homes)
    ]
