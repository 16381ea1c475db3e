"""The curriculum as a sampler: which examples a minibatch is drawn from, as training goes on."""

import math
import zlib
from collections.abc import Callable, Iterator, Mapping, Sized
from typing import Any

import numpy as np
import torch
from torch.utils.data import Sampler

from thalweg.curriculum.order import Order, check, order_of
from thalweg.curriculum.pacing import Pacing
from thalweg.curriculum.passes import Independent, Passes
from thalweg.curriculum.self_paced import SelfPaced
from thalweg.tensors.ranges import is_whole, is_within
from thalweg.tensors.seeds import generator

Moment = tuple[int, int]  # step, and indices already given in it


class CurriculumSampler(Sampler[int]):
    """Gives the indices of easy examples first: draws from the easiest share λ(t), and some from all if asked.

        P(example at rank r of n) = (1 − w) [r < ⌈λ(t) n⌉] / ⌈λ(t) n⌉ + w / n

    With the mixture w = 0 it is a hard cut-off. With w in (0, 1) it is stochastic: every stretch of training has easy
    and hard examples, and the average share of the hard ones rises with λ. The controls: ``order="hard-first"``,
    the anti-curriculum; ``order="random"``, as many examples admitted at each step but any; ``mixture=1``, all
    from the start, as ``shuffle=True``.

    Without replacement both parts come in passes: the pool of those admitted is gone through in random order, each
    example once, and those admitted meanwhile join in. What step t draws depends on the arguments and t alone, not
    on workers that fetch ahead. An epoch ended early goes on where it was left.

    Arguments:
        difficulty: one number an example ``(n,)``, larger for harder, or :class:`SelfPaced`.
        pacing: λ, a :class:`Pacing` or a function of the step with values in (0, 1]; where it falls, a new pass begins.
        batch_size: that of the loader; a step is one batch of it, the last of an epoch may be smaller.
        mixture: w in [0, 1], the share of draws from all examples; exact over steps, at random places of a batch.
        order: ``"easy-first"``, ``"hard-first"`` or ``"random"``.
        classes: class of each example ``(n,)``: each class's easiest share is admitted.
        replacement: whether each draw is independent of those before.
        num_samples: indices an epoch on this rank; by default n, divided among the ranks and rounded up.
        num_replicas, rank: as those of ``DistributedSampler``: all ranks draw the same large batch, and each takes its
            share of it. Seeds have to agree.
        seed: of all draws.
        data: the data set, if it is to be checked that each of its examples has a difficulty.

    Raises:
        ValueError: difficulty of a wrong shape or length, or with NaN; a share out of range, as of a pacing that admits
            nothing.

    >>> from torch.utils.data import DataLoader
    >>> data = torch.arange(8) * 10
    >>> sampler = CurriculumSampler(data, Pacing("linear", start=0.25, over=3), batch_size=2)
    >>> [sorted(batch.tolist()) for batch in DataLoader(data, batch_size=2, sampler=sampler)]
    [[0, 10], [20, 30], [40, 50], [60, 70]]

    Source: Deep Learning, §8.7.6; Bengio et al. 2009; Zaremba & Sutskever 2014 (mixture).
    """

    def __init__(
        self,
        difficulty: Any,
        pacing: Pacing | Callable[[int], float],
        *,
        batch_size: int,
        mixture: float = 0.0,
        order: Order = "easy-first",
        classes: Any = None,
        replacement: bool = False,
        num_samples: int | None = None,
        num_replicas: int = 1,
        rank: int = 0,
        seed: int = 0,
        data: Sized | None = None,
    ) -> None:
        if not is_within(mixture, 0, 1):
            raise ValueError(f"mixture must be in [0, 1], not {mixture}: it is the share of draws from all examples")
        if not (is_whole(num_replicas) and is_whole(rank, 0) and rank < num_replicas):
            raise ValueError(f"rank must be in [0, {num_replicas}), not {rank}: num_replicas is the number of ranks")
        self._source = difficulty if isinstance(difficulty, SelfPaced) else None
        values = check(difficulty if self._source is None else np.zeros(len(self._source), np.float32), data)
        self._length = len(values)
        self.num_samples = num_samples if num_samples is not None else math.ceil(self._length / num_replicas)
        if not (is_whole(batch_size) and is_whole(self.num_samples)):
            raise ValueError(f"batch_size {batch_size}, num_samples {self.num_samples}: give at least 1 of each")
        self.pacing, self.batch_size, self.mixture, self.seed = pacing, batch_size, mixture, seed
        self.num_replicas, self.rank = num_replicas, rank
        self._order, self._classes = order, classes
        self._difficulty: Any = values
        admission = order_of(values, order, classes, seed)
        kind: type[Passes | Independent] = Independent if replacement else Passes
        self._streams = {
            name: kind(admission, seed, name)
            for name, share in (("admitted", 1 - mixture), ("all", mixture))
            if share > 0
        }
        self._settings = {
            "examples": self._length,
            "batch_size": batch_size,
            "mixture": float(mixture),
            "order": order,
            "replacement": replacement,
            "num_samples": self.num_samples,
            "num_replicas": num_replicas,
            "seed": seed,
            "pacing": repr(pacing) if isinstance(pacing, Pacing) else None,
            "admission": 0 if self._source is not None else zlib.crc32(admission.data),
        }
        self._steps = math.ceil(self.num_samples / batch_size)
        self._now: Moment = (0, 0)
        self._next = 0  # the step that the streams draw next
        self._last: list[int] = []  # what they drew last
        self.share(0)

    def __len__(self) -> int:
        return self.num_samples

    def __iter__(self) -> Iterator[int]:
        epoch = self._now[0] // self._steps
        while self._now[0] // self._steps == epoch:
            step, given = self._now
            indices = self._indices(step)
            for i, index in enumerate(indices[given:], given + 1):
                self._now = (step, i) if i < len(indices) else (step + 1, 0)
                yield index

    def share(self, step: int) -> float:
        """Returns λ at a step.

        Raises:
            ValueError: the pacing gives a number out of (0, 1].
        """
        by_epoch = isinstance(self.pacing, Pacing) and self.pacing.by == "epoch"
        share = float(self.pacing(step // self._steps if by_epoch else step))
        if not 0 < share <= 1:
            meaning = "no example is admitted" if share <= 0 else "no share of the examples"
            raise ValueError(f"pacing gives {share} at step {step}, {meaning}: return a number in (0, 1]")
        return share

    def state_dict(self, step: int | None = None) -> dict[str, Any]:
        """Returns the place, and what it takes to go back to it: numbers, text, and self-paced difficulties.

        Arguments:
            step: number of batches trained on so far, where a loader's workers have fetched more; by default the place
                is that after the last index given.
        """
        difficulty = torch.from_numpy(self._difficulty.copy()) if self._source is not None else None
        return {**self._settings, "place": list(self._now) if step is None else [step, 0], "difficulty": difficulty}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes to a place; the passes under way there are repeated, which takes about as long as drawing them did.

        Raises:
            ValueError: a state of other data, difficulties or arguments; nothing is changed then.
        """
        missing = [name for name in (*self._settings, "place", "difficulty") if name not in state]
        if missing:
            raise ValueError(f"this is not the state of a curriculum: it lacks {', '.join(missing)}")
        for name, own in self._settings.items():
            if state[name] != own:
                raise ValueError(f"the state is of another sampler: its {name} is {state[name]!r}, not {own!r}")
        step, given = state["place"]
        first = 0
        if self._source is not None:
            self._admit(check(state["difficulty"], self._difficulty))
            first = max(step - 1, 0) // self._source.every * self._source.every
        for name, stream in self._streams.items():
            stream.go_to(step, lambda past, name=name: self._counts(past)[name], first)  # type: ignore[misc]
        self._now, self._next = (step, given), step

    def _indices(self, step: int) -> list[int]:
        """Returns this rank's indices of the next step, or again of the last."""
        if step == self._next:
            if self._source is not None and step % self._source.every == 0:
                self._admit(check(self._source(), self._difficulty))
            found = [i for name, counts in self._counts(step).items() for i in self._streams[name].draw(step, *counts)]
            if len(self._streams) > 1:
                places = torch.randperm(len(found), generator=generator(self.seed, "places", step)).tolist()
                found = [found[place] for place in places]
            self._last, self._next = found[self.rank :: self.num_replicas], step + 1
        return self._last

    def _admit(self, difficulty: Any) -> None:
        """Takes self-paced difficulties on: new passes begin."""
        self._difficulty = difficulty
        admission = order_of(difficulty, self._order, self._classes, self.seed)
        for stream in self._streams.values():
            stream.begin(admission)

    def _counts(self, step: int) -> dict[str, tuple[int, int]]:
        """Returns, a stream, how many examples the step draws on all ranks and how many are admitted."""
        epoch, place = divmod(step, self._steps)
        before = self.num_replicas * (epoch * self.num_samples + place * self.batch_size)
        count = self.num_replicas * min(self.batch_size, self.num_samples - place * self.batch_size)
        of_all = math.floor(self.mixture * (before + count)) - math.floor(self.mixture * before)
        admitted = min(self._length, math.ceil(round(self.share(step) * self._length, 6)))
        counts = {"admitted": (count - of_all, admitted), "all": (of_all, self._length)}
        return {name: counts[name] for name in self._streams}
