"""How the process ends: by a signal, by the user's code, or because nobody reads its output any more."""

import ctypes
import io
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

from thalweg.compare.user_errors import Stopped

PIPE = 141  # exit code of a process that SIGPIPE ends, as shells show it


class Interrupted(KeyboardInterrupt):
    """SIGINT came; the user's code raises a plain KeyboardInterrupt."""


class Terminated(Stopped):
    """SIGTERM came."""


class OutputError(ValueError):
    """Standard output takes no more; the message is one line with the cause and the remedy.

    ``quiet`` says that its reader has gone, as ``head`` does when it has seen enough: no fault.
    """

    def __init__(self, error: OSError) -> None:
        super().__init__(f"cannot write to standard output ({error.strerror}): redirect it, or free some space")
        self.quiet = isinstance(error, BrokenPipeError)


@contextmanager
def raised_by(number: signal.Signals, kind: type[BaseException]) -> Iterator[None]:
    """Runs its body, where a signal raises an error of that kind; a signal that is ignored stays so."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(number) is signal.SIG_IGN:
        yield
        return

    def end(number: int, frame: FrameType | None) -> None:
        raise kind

    before = signal.signal(number, end)
    try:
        yield
    finally:
        signal.signal(number, before)


@contextmanager
def exit_reported(report: Callable[[str], Any], code: int) -> Iterator[None]:
    """Runs its body; where that ends this process by ``os._exit``, reports it in a line and exits with ``code``."""
    exit_, process = os._exit, os.getpid()

    def end(status: int) -> None:
        if os.getpid() == process:  # no child that was forked
            frame = sys._getframe(1)
            report(
                f"the process was ended by os._exit({status}) ({Path(frame.f_code.co_filename).name}, line "
                f"{frame.f_lineno})"
            )
            status = code
        exit_(status)

    os._exit = end  # type: ignore[assignment]
    try:
        yield
    finally:
        os._exit = exit_


class _Kept(io.TextIOWrapper):
    """A stream that the user's code cannot close."""

    def close(self) -> None:
        pass


class _Output(_Kept):
    """Standard output that raises :class:`OutputError`."""

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except OSError as error:
            raise OutputError(error) from error

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            raise OutputError(error) from error


@contextmanager
def output() -> Iterator[None]:
    """Runs its body, in which what cannot be written to standard output raises :class:`OutputError`.

    Letters that its encoding lacks are written as escapes.
    """
    plain = sys.stdout
    if plain is None:
        raise ValueError("standard output is closed: redirect it to a file or to /dev/null")
    own = _Output(plain.buffer, plain.encoding, "backslashreplace", line_buffering=plain.isatty(), write_through=True)
    sys.stdout = own
    try:
        yield
        own.flush()
    except OutputError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), own.fileno())  # where what is left goes, when Python ends
        raise
    finally:
        sys.stdout = plain
        own.detach()


@contextmanager
def own_output(apart: bool) -> Iterator[None]:
    """Runs the user's code, after which ``sys.stdout`` is as it was.

    With ``apart`` all that is printed meanwhile goes to standard error, by child processes and code in C too.
    """
    own, kept, errors = sys.stdout, os.dup(1), sys.stderr
    aside = _Kept(errors.buffer, errors.encoding, "backslashreplace", write_through=True) if apart and errors else None
    try:
        if aside is not None:
            sys.stdout = aside
            os.dup2(2, 1)
        yield
    finally:
        if aside is not None:
            aside.detach()
            with suppress(OSError, AttributeError):  # where there is no such library
                ctypes.CDLL(None).fflush(None)  # what code in C has printed so far
        os.dup2(kept, 1)
        os.close(kept)
        sys.stdout = own
