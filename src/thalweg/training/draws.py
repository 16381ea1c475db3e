"""Every global source of randomness, seeded for a while and put back, or kept to go on from."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


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
