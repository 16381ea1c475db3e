"""How many of torch's threads small work gets: others would wait for each other, in a loop that takes their cores."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

_FEW = 1 << 18  # numbers that one thread is done with before others are awake


@contextmanager
def one_thread(size: int) -> Iterator[None]:
    """Runs its body, of so many numbers, on one of torch's threads if that is few."""
    before = torch.get_num_threads()
    if size <= _FEW:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
