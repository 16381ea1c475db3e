"""How the process ends: by a signal, by the user's code, or because nobody reads its output any more."""

import ctypes
import io
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from types import FrameType
from typing import Any

from thalweg.compare.user_errors import Stopped, place_of_call

PIPE = 141  # exit code of a process that SIGPIPE ends, as shells show it
_ENDS = ("_exit", "execv", "execve")  # which the others of their kind call
_MODULES = (os, import_module(os.name))  # os has them from the module of its system


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
    """Runs its body; where that calls ``os._exit`` or ``os.exec*`` in this process, reports it and exits with ``code``.

    Children that were forked from it may call either.
    """
    plain = {(module, name): getattr(module, name) for module in _MODULES for name in _ENDS}
    process, exit_, over = os.getpid(), os._exit, False

    def reported(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def end(*args: Any) -> Any:
            if os.getpid() != process:
                return function(*args)
            if over:  # kept until Python ends, as by atexit
                return getattr(os, name)(*args)
            given = f"({args[0]!r})"[:200] if name == "_exit" else ""
            report(f"the process was ended by os.{name}{given} ({place_of_call(sys._getframe(1))})")
            return exit_(code)

        return end

    for (module, name), function in plain.items():
        setattr(module, name, reported(name, function))
    try:
        yield
    finally:
        over = True
        for (module, name), function in plain.items():
            setattr(module, name, function)


def keep_exit_code(code: int) -> None:
    """Lets no ``os._exit(0)`` hide from here on that this process ends with another code."""
    process, exit_ = os.getpid(), os._exit
    os._exit = lambda status: exit_(status or code * (os.getpid() == process))


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
