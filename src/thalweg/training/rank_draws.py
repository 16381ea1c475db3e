"""Every global source of randomness, seeded for a while and put back, or kept to go on from."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, distributed

from thalweg.tensors.seeds import derive_seed
from thalweg.training.ranks import Ranks


def kept() -> dict[str, Any]:
    """Returns the states of torch's generators, of Python's and NumPy's, as tensors and numbers."""
    version, words, gauss = random.getstate()
    legacy: Any = np.random.get_state()  # noqa: NPY002, datasets draw from it
    _, key, *rest = legacy
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "python": [version, torch.tensor(words), gauss],
        "numpy": [torch.from_numpy(key.astype(np.int64)), *rest],
    }


def put(state: dict[str, Any]) -> None:
    """Puts back what :func:`kept` returned; generators of devices that are no longer there are left out."""
    torch.set_rng_state(state["torch"])
    if torch.cuda.is_available():
        for device, value in enumerate(state["cuda"][: torch.cuda.device_count()]):
            torch.cuda.set_rng_state(value, device)
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words.tolist()), gauss))
    key, pos, has_gauss, gauss = state["numpy"]
    np.random.set_state(("MT19937", key.numpy().astype(np.uint32), pos, has_gauss, gauss))  # noqa: NPY002


@contextmanager
def drawing(seed: int) -> Iterator[None]:
    """Runs its body with every source seeded, and puts their states back.

    >>> before = torch.get_rng_state()
    >>> with drawing(3):
    ...     first = torch.rand(1), random.random()
    >>> with drawing(3):
    ...     again = torch.rand(1), random.random()
    >>> first == again, torch.equal(torch.get_rng_state(), before)
    (True, True)
    """
    before = kept()
    try:
        torch.default_generator.manual_seed(seed)  # torch.manual_seed takes as long as a step of a small model
        if torch.cuda.is_available():
            torch.cuda.manual_seed_all(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        yield
    finally:
        put(before)


class RankDraws:
    """A rank's own stream of torch's generators, of the CPU and of the model's device; none where it is alone.

    What the model draws, such as dropout, comes from it. Data are drawn alike on all ranks; if the model drew from the
    same sources, the first rows of all shares would be dropped out alike, and unequal shares would set the ranks'
    sources apart.

    Arguments:
        ranks: that train together. The stream begins with torch's seed as it is set, which is the same on all.
    """

    def __init__(self, ranks: Ranks) -> None:
        self.ranks = ranks
        self._own: Tensor | None = None
        self._begin(0)

    def _begin(self, step: int) -> None:
        if self.ranks.size > 1:
            common = self._now()
            torch.manual_seed(derive_seed(torch.initial_seed(), "rank", self.ranks.rank, self.ranks.size, step))
            self._own = self._now()
            self._put(common)

    @contextmanager
    def drawing(self) -> Iterator[None]:
        """Runs its body on the stream."""
        if self._own is None:
            yield
            return
        common = self._now()
        self._put(self._own)
        try:
            yield
        finally:
            self._own = self._now()
            self._put(common)

    def state(self) -> Tensor | None:
        """Returns where the streams of all ranks are ``(W, bytes)``; None of one alone."""
        if self._own is None:
            return None
        own = self._own.to(self.ranks.device)
        rows = own.new_empty(self.ranks.size, len(own))
        distributed.all_gather(list(rows), own, group=self.ranks.group)
        return rows.cpu()

    def load(self, state: Tensor | None, step: int) -> None:
        """Goes on with this rank's stream; begins a new one where there were not as many ranks."""
        if state is not None and self._own is not None and state.shape == (self.ranks.size, len(self._own)):
            self._own = state[self.ranks.rank].clone()
        else:
            self._begin(step)

    def _now(self) -> Tensor:
        states = [torch.get_rng_state()]
        if self.ranks.device.type == "cuda":
            states.append(torch.cuda.get_rng_state(self.ranks.device))
        return torch.cat(states)

    def _put(self, state: Tensor) -> None:
        length = len(torch.get_rng_state())
        torch.set_rng_state(state[:length])
        if self.ranks.device.type == "cuda":
            torch.cuda.set_rng_state(state[length:], self.ranks.device)
