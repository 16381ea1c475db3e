"""Batches epoch after epoch, with a place that can be kept and gone back to."""

from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import Any

import torch

from thalweg.tensors.draws import packed_states, restore_packed
from thalweg.training.checkpoint import CheckpointError
from thalweg.training.ranks import Part, Ranks, mapped


class Stream:
    """The batches of a loader, epoch after epoch, of each the rows of this rank, on a device.

    Its place is kept in one of two ways. A loader, sampler or batch sampler that has a ``state_dict`` and runs in this
    process says itself where it stands. For any other, the draws of the moment when the epoch began are kept, and to
    go back the epoch is begun again and drawn up to its place.

    Before each epoch ``set_epoch(epoch)`` is called, and before each batch ``advance(step)``, on the loader and its
    samplers where they have such methods.

    Of several ranks all draw the same batches, and each takes its rows; a sampler with ``num_replicas`` and ``rank``
    divides them itself.
    """

    def __init__(self, data: Iterable[Any], name: str, device: torch.device, ranks: Ranks) -> None:
        self.data, self.name, self.device, self.ranks = data, name, device, ranks
        self.epoch, self.position = 0, 0  # epochs ended, and batches taken from the one that runs
        self._iterator: Iterator[Any] | None = None
        self._length: int | None = None  # batches of the epoch that runs, where it is known
        self._began: dict[str, Any] = {}
        sampler, batch_sampler = getattr(data, "sampler", None), getattr(data, "batch_sampler", None)
        parts: list[Any] = [data, sampler, batch_sampler, getattr(batch_sampler, "sampler", None)]
        parts = list({id(part): part for part in parts if part is not None}.values())
        self._divided = ranks.size > 1 and any(_divides(part, ranks, name) for part in parts)
        self._epochal = [part.set_epoch for part in parts if callable(getattr(part, "set_epoch", None))]
        self._advanced = [part.advance for part in parts if callable(getattr(part, "advance", None))]
        self._stateful = [part for part in parts if _keeps_state(part)]
        self._direct = bool(self._stateful) and not getattr(data, "num_workers", 0)
        generators = [getattr(part, "generator", None) for part in parts]
        self._generators = list({id(g): g for g in generators if isinstance(g, torch.Generator)}.values())

    def take(self, count: int, step: int) -> list[Part]:
        """Returns this rank's part of the next ``count`` batches for a step, or those that the epoch has, at least one.

        Raises:
            ValueError: an epoch without a single batch; one that cannot be divided among ranks.
        """
        while True:
            if self._iterator is None:
                self._begin(step)
            assert self._iterator is not None
            taken = []
            for _ in range(count):
                for advance in self._advanced:
                    advance(step)
                batch = next(self._iterator, self)
                if batch is self:
                    self._iterator = None
                    break
                taken.append(batch)
            self.position += len(taken)
            if self._iterator is not None and self.position == self._length:
                self._see_the_end()
            empty = self.position == 0
            if self._iterator is None:
                self.epoch, self.position = self.epoch + 1, 0
            if taken:
                return [self._moved(part) for part in self.ranks.parts(taken, self._divided)]
            if empty and self.epoch > 1:
                raise ValueError(
                    f"stage {self.name!r} needs more than one pass over data that are exhausted after one, as a "
                    "generator is: "
                    "give a list, a loader or Batches"
                )
            if empty:
                raise ValueError(f"stage {self.name!r} has data without a batch: give it examples")

    def _moved(self, part: Part) -> Part:
        """Returns the part with its tensors on the device."""
        if self.device.type == "cpu":
            return part
        return part._replace(batch=mapped(part.batch, lambda t: t.to(self.device, non_blocking=True)))

    def _see_the_end(self) -> None:
        """Has an iterator that has given all end, so that its sampler's state is that of the next epoch's start."""
        assert self._iterator is not None
        more = next(self._iterator, self)
        self._iterator = None if more is self else chain([more], self._iterator)

    def _begin(self, step: int) -> None:
        for set_epoch in self._epochal:
            set_epoch(self.epoch)
        if not self._direct:
            self._began = {"step": step, "draws": packed_states(), **self._sources()}
        self._open()

    def _open(self) -> None:
        self._iterator = iter(self.data)
        try:
            self._length = len(self.data)  # type: ignore[arg-type]
        except TypeError:
            self._length = None

    def _sources(self) -> dict[str, Any]:
        return {
            "samplers": [part.state_dict() for part in self._stateful],
            "generators": [g.get_state() for g in self._generators],
        }

    def _put_sources(self, state: dict[str, Any]) -> None:
        for part, value in zip(self._stateful, state["samplers"], strict=True):
            part.load_state_dict(value)
        self._put_generators(state)

    def _put_generators(self, state: dict[str, Any]) -> None:
        for generator, value in zip(self._generators, state["generators"], strict=True):
            generator.set_state(value)

    def state_dict(self) -> dict[str, Any]:
        """Returns its place."""
        began = self._began if self._iterator is not None else {}
        ranks = self.ranks.size if self._divided else 1
        return {"epoch": self.epoch, "position": self.position, "ranks": ranks, "began": began, **self._sources()}

    def load_state_dict(self, state: dict[str, Any], count: int) -> None:
        """Goes back to a place, where ``count`` batches made a step; draws from the global sources meanwhile.

        Raises:
            CheckpointError: data that a sampler divided among another number of ranks.
        """
        before, now = state.get("ranks", 1), self.ranks.size if self._divided else 1
        if before != now:
            raise CheckpointError(
                f"cannot resume: the sampler divided the data among {before} ranks, not {now}: resume with the same "
                "number"
            )
        self.epoch, self.position, self._began = state["epoch"], state["position"], state["began"]
        if self._direct or not self._began:
            self._put_sources(state)
            if self.position:
                self._open()
                self._put_generators(state)
            return
        restore_packed(self._began["draws"])
        self._put_sources(self._began)
        for set_epoch in self._epochal:
            set_epoch(self.epoch)
        self._open()
        assert self._iterator is not None
        if not self._advanced:
            next(islice(self._iterator, self.position, self.position), None)
        else:
            for i in range(self.position):
                for advance in self._advanced:
                    advance(self._began["step"] + i // count)
                next(self._iterator)
        self._put_generators(state)


def _keeps_state(part: Any) -> bool:
    return callable(getattr(part, "state_dict", None)) and callable(getattr(part, "load_state_dict", None))


def _divides(part: Any, ranks: Ranks, name: str) -> bool:
    """Returns whether a sampler gives each rank its own share; raises ValueError where it is for other ranks."""
    replicas, rank = getattr(part, "num_replicas", None), getattr(part, "rank", None)
    if not isinstance(replicas, int) or not isinstance(rank, int) or replicas == 1:
        return False
    if (replicas, rank) != (ranks.size, ranks.rank):
        raise ValueError(
            f"stage {name!r} has a sampler for rank {rank} of {replicas}, on rank {ranks.rank} of {ranks.size}: make "
            "it with num_replicas and rank of the process group"
        )
    return True
