"""A stream of draws of each rank's own."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, distributed

from thalweg.tensors.draws import seed_torch
from thalweg.tensors.seeds import derive_seed
from thalweg.training.ranks import Ranks


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
            seed_torch(derive_seed(torch.initial_seed(), "rank", self.ranks.rank, self.ranks.size, step))
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
