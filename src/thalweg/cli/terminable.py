"""SIGTERM as a way to stop that cleans up: files closed, the terminal as it was, a line on how to go on."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class _Terminated(BaseException):
    """The process was asked to end."""


@contextmanager
def terminable() -> Iterator[None]:
    """Runs its body; ends the process with code 143 once it is asked to end, after what is open was closed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: FrameType | None) -> None:
        raise _Terminated

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    except _Terminated:
        print("terminated: nothing finished is lost; the same command goes on", file=sys.stderr)
        sys.exit(143)
    finally:
        signal.signal(signal.SIGTERM, before)
