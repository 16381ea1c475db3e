"""Between a rung and the store: results go there as they come, and snapshots stay there until they are wanted."""

import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Any

from torch import Tensor

from thalweg.compare.execution.job import Job
from thalweg.compare.storage.facts import failure_of
from thalweg.compare.storage.result import TrialResult
from thalweg.compare.storage.store import Store

PAUSE = 0.5  # seconds between two writes: each waits for the disk


class ResultWriter:
    """Writes results of a rung, those of half a second together, and the rest when it is left.

    ``owners`` names the strategy of each job, by its key; ``snapshots`` says whether they go on in another rung;
    ``first`` is the position of the first job in the rung. What is written is freed of its snapshot.
    """

    def __init__(
        self,
        store: Store,
        rung: str,
        jobs: Sequence[Job],
        owners: Mapping[str, str],
        snapshots: bool,
        first: int = 0,
    ) -> None:
        self.store, self.rung, self.snapshots = store, rung, snapshots
        self._about = {job.key: (i, owners[job.key], job.hyper, job.seed) for i, job in enumerate(jobs, first)}
        self._waiting: list[TrialResult] = []
        self._written = time.monotonic()

    def __call__(self, results: Sequence[TrialResult]) -> None:
        """Takes results that belong together."""
        if not self.snapshots:
            for result in results:
                result.snapshot = None
        self._waiting += results
        if time.monotonic() - self._written > PAUSE:
            self._write()

    def __enter__(self) -> "ResultWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._write()

    def _write(self) -> None:
        if self._waiting:
            self.store.add(self.rung, [(*self._about[result.key], result) for result in self._waiting])
            for result in self._waiting:
                result.snapshot = None
                if result.reason:
                    self.store.add_fact(failure_of(self._about[result.key][1]), result.reason)
        self._waiting, self._written = [], time.monotonic()


class StoredSnapshot(Mapping[str, Tensor]):
    """A snapshot in the store, read when it is wanted; a dictionary where it is sent."""

    def __init__(self, store: Store, rung: str, position: int) -> None:
        self._read = partial(store.snapshot, rung, position)

    def __getitem__(self, name: str) -> Tensor:
        return self._read()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._read())

    def __len__(self) -> int:
        return len(self._read())

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (self._read(),)
