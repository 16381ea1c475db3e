"""The global generators of torch, NumPy and Python: seeded for a while and put back, or kept to go on from."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.utils.data import get_worker_info

States = tuple[Any, Any, Any, list[Any]]  # of torch on the CPU, of NumPy, of Python, of torch on each CUDA device


def _has_cuda() -> bool:
    """Says whether CUDA devices can be asked, as no worker of a loader that was forked can."""
    return get_worker_info() is None and torch.cuda.is_initialized()


def seed_torch(seed: int) -> None:
    """Seeds torch's generators of the CPU and, where they are in use, of CUDA devices.

    They are not in a process that a ``DataLoader`` forks off, which may not even ask them.
    ``torch.manual_seed`` takes as long as a step of a small model: it keeps the stack of each call for devices that are
    not there.
    """
    torch.default_generator.manual_seed(seed)
    if _has_cuda():
        torch.cuda.manual_seed_all(seed)


def global_states() -> States:
    """Returns the states of the global generators."""
    legacy: Any = np.random.get_state()  # noqa: NPY002, the user's code draws from it
    cuda = torch.cuda.get_rng_state_all() if _has_cuda() else []
    return torch.get_rng_state(), legacy, random.getstate(), cuda


def restore_states(states: States) -> None:
    """Puts back what :func:`global_states` returned; generators of devices that are no longer there are left out."""
    torch.set_rng_state(states[0])
    np.random.set_state(states[1])  # noqa: NPY002
    random.setstate(states[2])
    if _has_cuda():
        for device, state in enumerate(states[3][: torch.cuda.device_count()]):
            torch.cuda.set_rng_state(state, device)


@contextmanager
def own_draws(seed: int) -> Iterator[None]:
    """Runs its body with the global generators seeded, and puts their states back.

    >>> before = torch.get_rng_state()
    >>> with own_draws(3):
    ...     first = torch.rand(1), random.random()
    >>> with own_draws(3):
    ...     again = torch.rand(1), random.random()
    >>> first == again, torch.equal(torch.get_rng_state(), before)
    (True, True)
    """
    before = global_states()
    try:
        seed_torch(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        random.seed(seed)
        yield
    finally:
        restore_states(before)


def packed_states() -> dict[str, Any]:
    """Returns the states of the global generators as tensors and numbers, to be stored."""
    states = global_states()
    version, words, gauss = states[2]
    _, key, *rest = states[1]
    return {
        "torch": states[0],
        "cuda": states[3],
        "python": [version, torch.tensor(words), gauss],
        "numpy": [torch.from_numpy(key.astype(np.int64)), *rest],
    }


def restore_packed(state: dict[str, Any]) -> None:
    """Puts back what :func:`packed_states` returned."""
    version, words, gauss = state["python"]
    key, pos, has_gauss, cached = state["numpy"]
    legacy = ("MT19937", key.numpy().astype(np.uint32), pos, has_gauss, cached)
    restore_states((state["torch"], legacy, (version, tuple(words.tolist()), gauss), list(state["cuda"])))
