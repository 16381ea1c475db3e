"""Batches epoch after epoch, with a place that can be kept and gone back to."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, islice
from typing import Any

import torch
from torch import Tensor

from thalweg.training import draws


class Stream:
    """The batches of a loader, epoch after epoch, on a device.

    Its place is kept in one of two ways. A loader, sampler or batch sampler that has a ``state_dict`` and runs in this
    process says itself where it stands. For any other, the draws of the moment when the epoch began are kept, and to
    go back the epoch is begun again and drawn up to its place.

    Before each epoch ``set_epoch(epoch)`` is called, and before each batch ``advance(step)``, on the loader and its
    samplers where they have such methods.
    """

    def __init__(self, data: Iterable[Any], name: str, device: torch.device) -> None:
        self.data, self.name, self.device = data, name, device
        self.epoch, self.position = 0, 0  # epochs ended, and batches taken from the one that runs
        self._iterator: Iterator[Any] | None = None
        self._began: dict[str, Any] = {}
        sampler, batch_sampler = getattr(data, "sampler", None), getattr(data, "batch_sampler", None)
        parts: list[Any] = [data, sampler, batch_sampler, getattr(batch_sampler, "sampler", None)]
        parts = list({id(part): part for part in parts if part is not None}.values())
        self._epochal = [part.set_epoch for part in parts if callable(getattr(part, "set_epoch", None))]
        self._advanced = [part.advance for part in parts if callable(getattr(part, "advance", None))]
        self._stateful = [part for part in parts if _keeps_state(part)]
        self._direct = bool(self._stateful) and not getattr(data, "num_workers", 0)
        generators = [getattr(part, "generator", None) for part in parts]
        self._generators = list({id(g): g for g in generators if isinstance(g, torch.Generator)}.values())

    def take(self, count: int, step: int) -> list[Any]:
        """Returns the next ``count`` batches for a step, or those that the epoch still has, at least one.

        Raises:
            ValueError: an epoch without a single batch.
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
            if self._iterator is not None and self.position == self._length():
                self._see_the_end()
            empty = self.position == 0
            if self._iterator is None:
                self.epoch, self.position = self.epoch + 1, 0
            if taken:
                return taken if self.device.type == "cpu" else [_moved(batch, self.device) for batch in taken]
            if empty:
                raise ValueError(f"stage {self.name!r} has data without a single batch: give it examples")

    def _length(self) -> int | None:
        try:
            return len(self.data)  # type: ignore[arg-type]
        except TypeError:
            return None

    def _see_the_end(self) -> None:
        """Has an iterator that has given all end, so that its sampler's state is that of the next epoch's start."""
        assert self._iterator is not None
        more = next(self._iterator, self)
        self._iterator = None if more is self else chain([more], self._iterator)

    def _begin(self, step: int) -> None:
        for set_epoch in self._epochal:
            set_epoch(self.epoch)
        if not self._direct:
            self._began = {"step": step, "draws": draws.kept(), **self._sources()}
        self._iterator = iter(self.data)

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
        return {"epoch": self.epoch, "position": self.position, "began": began, **self._sources()}

    def load_state_dict(self, state: dict[str, Any], count: int) -> None:
        """Goes back to a place, where ``count`` batches made a step; draws from the global sources meanwhile."""
        self.epoch, self.position, self._began = state["epoch"], state["position"], state["began"]
        if self._direct or not self._began:
            self._put_sources(state)
            if self.position:
                self._iterator = iter(self.data)
                self._put_generators(state)
            return
        draws.put(self._began["draws"])
        self._put_sources(self._began)
        for set_epoch in self._epochal:
            set_epoch(self.epoch)
        self._iterator = iter(self.data)
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


def _moved(batch: Any, device: torch.device) -> Any:
    """Returns the batch with its tensors on the device."""
    if isinstance(batch, Tensor):
        return batch.to(device, non_blocking=True)
    if isinstance(batch, Mapping):
        return {key: _moved(value, device) for key, value in batch.items()}
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(_moved(value, device) for value in batch))
    if isinstance(batch, (tuple, list)):
        return type(batch)(_moved(value, device) for value in batch)
    return batch
