"""What stops a run from outside: too little memory for so many lanes, or more seconds than a trial may take."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import torch

from thalweg.compare.user_errors import Stopped
from thalweg.tensors.error_texts import lacks_memory


class TookTooLong(Stopped):
    """A trial passed its limit; no ``except Exception`` of the user's holds it up."""


@contextmanager
def within(seconds: float | None) -> Iterator[None]:
    """Runs its body, for so many seconds at most.

    The limit holds in the main thread of a process on Unix, and for what returns to Python now and then, as a loop
    or a wait in a loss does; elsewhere, and with None, there is none.

    Raises:
        TookTooLong: it took longer.

    >>> with within(0.01):
    ...     while True:
    ...         pass
    Traceback (most recent call last):
    thalweg.compare.execution.shortage.TookTooLong
    """
    if seconds is None or not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def ring(number: int, frame: FrameType | None) -> None:
        raise TookTooLong

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def out_of_memory(error: Exception) -> bool:
    """Says whether it tells that memory ran out, on the device or, in torch's words, on the CPU."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or lacks_memory(error)
