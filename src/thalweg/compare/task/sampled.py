"""The indices that a sampler of the user's gives, drawn without reading an example.

They are those that its loader would take, with the same draws of the global generators and of its own, so that a trial
that goes on later skips what it has had.
"""

import copy
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from thalweg.compare.task.nested import same
from thalweg.compare.task.streaming import Reader
from thalweg.compare.user_errors import TaskError, brief
from thalweg.tensors.draws import own_draws

TRIED = 3  # batches that are read to see whether the indices depend on that
PASSES = 20  # over the data, after which an epoch is taken to be endless
SEEDS = 128  # whose samplers are kept
RECENT = 1024  # batches whose indices are kept
CPU = torch.device("cpu")
PARTS = ("sampler", "batch_sampler", "generator")  # of a loader, that say what it reads


class Undrawable(Exception):
    """The indices cannot be drawn by themselves; the message is the reason."""


class Sampled:
    """The indices of a loader's batches under each seed.

    Arguments:
        loader: of a map-style data set.
        part: the name of the part in messages.
        streamed: ``(loader, seed) -> batches`` of an epoch.

    Raises:
        Undrawable: what is drawn depends on what was read, or is something else each time.
    """

    def __init__(
        self, loader: DataLoader[Any], part: str, streamed: Callable[[DataLoader[Any], int], Iterator[Any]]
    ) -> None:
        self.loader, self.part, self.streamed = loader, part, streamed
        self._drawn: OrderedDict[int, tuple[Reader, deque[list[Any]]]] = OrderedDict()
        try:
            self.first = self._first_epoch()
        except TaskError:
            raise
        except Exception as error:
            raise Undrawable(f"its sampler cannot be copied ({brief(error)})") from error
        self._check()
        self._before = copy.deepcopy(self._state())

    @property
    def count(self) -> int | None:
        """The number of examples of an epoch; None where it has no end."""
        return None if self.first is None else sum(map(len, self.first))

    def positions(self, seed: int, t: int) -> list[Any]:
        """Returns the indices of the batch of a step."""
        if seed in self._drawn and t < self._drawn[seed][0].next - len(self._drawn[seed][1]):
            del self._drawn[seed]  # drawn anew from its start
        if seed not in self._drawn:
            while len(self._drawn) >= SEEDS:
                self._drawn.popitem(last=False)
            self._drawn[seed] = self._reader(seed), deque(maxlen=RECENT)
        self._drawn.move_to_end(seed)
        reader, recent = self._drawn[seed]
        while reader.next <= t:
            recent.append(reader.at(reader.next))
        return recent[t - reader.next]

    def check_unchanged(self) -> None:
        """Raises TaskError where the sampler is no longer what it was, since something in training has changed it."""
        if not all(map(same, self._before, self._state())):
            raise TaskError(
                f"the sampler of the {self.part} data changes as a model trains, and all trials share it: let it "
                "follow from the seed alone, or take the batches from a function (seed) -> iterable of batches"
            )

    def _reader(self, seed: int) -> Reader:
        """Returns a reader of the indices from their start, with samplers of its own, which may count their epochs."""
        indices = self._copied(_Indices(), {"num_workers": 0, "timeout": 0, "worker_init_fn": None})
        return Reader(partial(self.streamed, indices), self.part, False, CPU, seed)

    def _copied(self, dataset: Any, changed: dict[str, Any]) -> Any:
        """Returns the loader with a sampler of its own, which reads another data set."""
        own, memo = copy.copy(self.loader), dict[int, Any]({id(self.loader.dataset): self.loader.dataset})
        for holder in self._samplers():
            if type(holder).__module__.startswith("torch."):  # which write into none of their weights
                memo |= {id(value): value for value in vars(holder).values() if isinstance(value, torch.Tensor)}
        parts = {name: copy.deepcopy(vars(own)[name], memo) for name in PARTS}
        plain = {"collate_fn": _as_it_is, "pin_memory": False, "persistent_workers": False, "prefetch_factor": None}
        vars(own).update(parts, dataset=dataset, **plain, **changed)
        return own

    def _first_epoch(self) -> list[list[Any]] | None:
        """Returns the indices of an epoch, None where it has no end."""
        reader, batches, count = self._reader(0), [], 0
        while (batch := reader.read()) is not None:
            batches.append(batch)
            count += len(batch)
            if count > PASSES * len(self.loader.dataset) + RECENT:  # type: ignore[arg-type]
                return None
        return batches

    def _check(self) -> None:
        """Reads a few batches as the loader does, each example with draws of its own."""
        taken: list[Any] = []
        reading = self._copied(_Noted(self.loader.dataset, taken), {"num_workers": 0, "timeout": 0})
        reader = Reader(partial(self.streamed, reading), self.part, False, CPU, 0)
        drawn: list[Any] = []
        for t in range(TRIED):
            reader.at(t)
            drawn += self.positions(0, t)
        if taken != drawn:
            raise Undrawable("what its sampler draws depends on what was read")

    def _state(self) -> list[Any]:
        """Returns what the user's samplers hold, but for the data and generators, which whoever draws moves on."""
        left = (Dataset, torch.Generator, type(self.loader.dataset))
        return [
            {key: value for key, value in vars(holder).items() if not isinstance(value, left)}
            for holder in self._samplers()
        ]

    def _samplers(self) -> list[Any]:
        """Returns the user's samplers."""
        loader = self.loader
        holders = (loader.sampler, loader.batch_sampler, getattr(loader.batch_sampler, "sampler", None))
        return [holder for holder in holders if hasattr(holder, "__dict__")]


class _Indices(Dataset[Any]):
    """Each example is its index."""

    def __getitem__(self, index: Any) -> Any:
        return index


class _Noted(Dataset[Any]):
    """The user's examples, each read with draws of its own, beside their indices."""

    def __init__(self, dataset: Dataset[Any], taken: list[Any]) -> None:
        self.dataset, self.taken = dataset, taken

    def __getitem__(self, index: Any) -> Any:
        self.taken.append(index)
        with own_draws(0):
            self.dataset[index]
        return index


def _as_it_is(batch: Iterable[Any]) -> Any:
    return batch
