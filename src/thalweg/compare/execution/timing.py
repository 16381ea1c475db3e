"""Seconds of what is compared, measured in turns: what else the machine does then befalls all of them alike."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch

from thalweg.tensors.compiling import wait_for

LONG = 5.0  # seconds of measuring after which two rounds are enough


def now(threads: int) -> float:
    """Returns the seconds from some moment on.

    Those for which a single thread waits for a processor that other programs have are left out, where the system counts
    them, as Linux does. Several threads wait for each other too, which nothing counts: they have the wall clock.
    """
    if threads > 1:
        return time.perf_counter()
    while True:
        before, seconds = _held_up(), time.perf_counter()
        if _held_up() == before:  # else it was held up between the two readings
            return seconds - before


def _held_up() -> float:
    try:
        with open("/proc/thread-self/schedstat") as file:
            return 1e-9 * int(file.read().split()[1])
    except (OSError, ValueError, IndexError):
        return 0.0


def in_turns(measures: Sequence[Callable[[], float]], rounds: int = 3) -> list[float]:
    """Returns the least that each function measures, called in turns.

    A load makes every measure larger and none smaller. One that comes and goes spares a round, or hits all functions
    in it; one that stays slows all of them down.

    Arguments:
        measures: each measures for about the same time, and returns the mean seconds of a step.
        rounds: how many turns each gets; two where those take long.
    """
    return [min(column) for column in all_turns(measures, rounds)]


def all_turns(measures: Sequence[Callable[[], float]], rounds: int = 3) -> list[list[float]]:
    """Returns all that each function measures, called in turns, see :func:`in_turns`; every other turn goes back."""
    began, found = time.perf_counter(), [[measure() for measure in measures]]
    while len(found) < 2 or (len(found) < rounds and time.perf_counter() - began < LONG):
        order = -1 if len(found) % 2 else 1
        found.append([measure() for measure in measures[::order]][::order])
    return [list(column) for column in zip(*found, strict=True)]


def mean_seconds(
    step: Callable[[int], object], device: torch.device, threads: int, budget: float = 0.1, most: int = 300
) -> float:
    """Returns the mean seconds of a step.

    Arguments:
        step: takes the step of a number, from 0 on.
        device: is waited for, at the beginning and at the end.
        threads: how many compute it, see :func:`now`.
        budget: seconds after which no further step is taken.
        most: steps at most.
    """
    wait_for(device)
    began, end, count = now(threads), time.perf_counter() + budget, 0
    while count == 0 or (count < most and time.perf_counter() < end):
        step(count)
        count += 1
    wait_for(device)
    return (now(threads) - began) / count


@contextmanager
def with_threads(count: int) -> Iterator[None]:
    """Runs its body with so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
