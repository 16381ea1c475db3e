"""The order in which examples are admitted: a permutation from easy to hard, whose prefixes are the curriculum."""

from collections.abc import Sized
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator

from thalweg.tensors.seeds import generator

Order = Literal["easy-first", "hard-first", "random"]
ORDERS = ("easy-first", "hard-first", "random")
Indices = NDArray[np.int32]


def order_of(difficulty: Any, order: Order = "easy-first", classes: Any = None, seed: int = 0) -> Indices:
    """Returns the examples ``(n,)`` in the order in which they are admitted; equally hard ones in random order.

    With classes the order is that of each example's rank among its own class, as a share of the class: every prefix
    then has each class's easiest, in the proportion of the whole as nearly as whole numbers allow (Webster's method).

    Arguments:
        difficulty: one number an example ``(n,)``, larger for harder: a tensor, an array or a sequence.
        order: ``"easy-first"``; ``"hard-first"``, the anti-curriculum; ``"random"``, which ignores the difficulty and
            shows what the growing number of examples does by itself.
        classes: class of each example ``(n,)``, integers or whatever NumPy sorts.
        seed: of the random order.

    Raises:
        ValueError: no example, a wrong shape, NaN, classes of another length, an unknown order.

    >>> order_of([0.3, 0.1, 0.2]).tolist(), order_of([0.3, 0.1, 0.2], "hard-first").tolist()
    ([1, 2, 0], [0, 2, 1])
    >>> order_of([1, 2, 3, 4, 5, 6], classes=[0, 0, 0, 0, 1, 1])[:3].tolist()  # a third of the fours, one of the twos
    [0, 4, 1]
    """
    if order not in ORDERS:
        raise ValueError(f"unknown order {order!r}: choose among {', '.join(ORDERS)}")
    values = check(difficulty)
    if order == "random":
        values = np.zeros(len(values), np.float32)
    admitted = _order(values, order == "hard-first", generator(seed, "ties"))
    return admitted if classes is None else _balanced(admitted, classes)


def check(difficulty: Any, data: Sized | None = None) -> NDArray[Any]:
    """Returns the difficulty as an array of numbers.

    Raises:
        ValueError: no example, another number of them than in the data, a wrong shape, NaN.
    """
    values = difficulty.detach().cpu() if isinstance(difficulty, torch.Tensor) else difficulty
    if isinstance(values, torch.Tensor) and values.dtype == torch.bfloat16:
        values = values.float()  # NumPy has no such type
    values = np.asarray(values)
    if values.ndim != 1 or values.dtype.kind not in "buif":
        raise ValueError(
            f"difficulty is {values.dtype} of shape {values.shape}: give one number per example, of shape (n,)"
        )
    if not 0 < len(values) < 2**31:
        raise ValueError(f"difficulty has {len(values)} examples: give one number for each of 1 to 2³¹ − 1 examples")
    if data is not None and len(values) != len(data):
        raise ValueError(f"difficulty has {len(values)} numbers for {len(data)} examples: give one for each")
    if values.dtype.kind == "f" and np.isnan(values).any():
        example = int(np.isnan(values).argmax())
        raise ValueError(f"difficulty of example {example} is NaN: give a number; inf puts an example last")
    return values


def _order(values: NDArray[Any], reverse: bool, ties: Generator) -> Indices:
    with np.errstate(over="ignore", invalid="ignore"):
        short = values.astype(np.float32)
        same = short.astype(values.dtype) == values  # in their own type: float64 takes large integers for one another
    if same.all():
        bits = (short + np.float32(0)).view(np.uint32)  # −0 becomes 0
        words = np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31))  # in the order of the numbers
        return _sorted(~words if reverse else words, ties)
    at = np.argsort(values).astype(np.int32)
    at = at[::-1].copy() if reverse else at
    ordered = values[at]
    harder = ordered[1:] != ordered[:-1]
    if harder.all():
        return at
    run = np.concatenate(([0], np.cumsum(harder))).astype(np.uint32)
    tied = np.bincount(run)[run] > 1
    keys = (run[tied].astype(np.uint64) << np.uint64(32)) | at[tied].astype(np.uint64)
    keys.sort()  # whatever order the sort above left them in
    at[tied] = keys.astype(np.uint32)[_sorted(run[tied], ties)]
    return at


def _sorted(words: NDArray[np.uint32], ties: Generator) -> Indices:
    """Returns the order of the words, ties in random order: word and random place are sorted as one, which is fast."""
    shuffled = torch.randperm(len(words), dtype=torch.int32, generator=ties).numpy()
    keys = words[shuffled].astype(np.uint64) << np.uint64(32)
    keys |= np.arange(len(words), dtype=np.uint64)
    keys.sort()
    return shuffled[keys.astype(np.uint32)]


def _balanced(admitted: Indices, classes: Any) -> Indices:
    labels = np.asarray(classes.cpu() if isinstance(classes, torch.Tensor) else classes)
    if labels.shape != admitted.shape:
        raise ValueError(f"classes have shape {labels.shape}: give the class of each of {len(admitted)} examples")
    _, labels, counts = np.unique(labels[admitted], return_inverse=True, return_counts=True)
    by_class = np.argsort(labels, kind="stable")
    rank = np.empty(len(labels))
    rank[by_class] = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    return admitted[np.argsort((rank + 0.5) / counts[labels], kind="stable")]
