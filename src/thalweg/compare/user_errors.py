"""The user's code: whatever it raises, and however it ends the process, is one line that names the place."""

import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

HOME = Path(__file__).resolve().parents[1]  # thalweg's own files
INSTALLED = (HOME, *(Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "purelib", "platlib")))


class TaskError(ValueError):
    """A task that cannot be trained as given; the message is one line with the cause and the remedy."""


class LoadError(ValueError):
    """A name that leads nowhere; the message is one line with the cause and the remedy."""


class StudyError(Exception):
    """A folder that cannot be used as asked; the message is one line with the cause and the remedy."""


class Stopped(BaseException):
    """Ends a run from outside: the user's code has not raised it."""


@contextmanager
def user_errors(
    what: str, remedy: str = "correct it", kind: "type[TaskError] | type[LoadError]" = TaskError
) -> Iterator[None]:
    """Runs its body, which runs the user's code.

    Arguments:
        what: it is that runs, the subject of the sentence.
        remedy: what is to be done, the end of the sentence.
        kind: of the error that is raised.

    Raises:
        TaskError: the body raises anything but a line of thalweg's own, or tries to end the process.

    >>> with user_errors("the model"):
    ...     raise SystemExit(0)
    Traceback (most recent call last):
    thalweg.compare.user_errors.TaskError: the model calls sys.exit(0) (...): correct it
    """
    try:
        yield
    except (KeyboardInterrupt, Stopped, TaskError, LoadError, StudyError):
        raise
    except BaseException as error:
        if isinstance(error, ValueError) and _frames(error)[-1][0].is_relative_to(HOME):
            raise
        raise kind(f"{what} {describe_error(error)}: {remedy}") from error


def describe_error(error: BaseException) -> str:
    """Returns what an error does as a verb, with its first line and the place in the user's code that it came from."""
    file, line = _place(error)
    return f"{_verb(error)} ({file.name}, line {line})"


def place_of_call(frame: FrameType | None) -> str:
    """Returns the file and the line in the user's code that a call comes from, the innermost where none is theirs.

    >>> import sys
    >>> place_of_call(sys._getframe())
    '<doctest ...[1]>, line 1'
    """
    calls = [(Path(outer.f_code.co_filename), line) for outer, line in traceback.walk_stack(frame)]
    file, line = next((place for place in calls if is_users(place[0])), calls[0])
    return f"{file.name}, line {line}"


def brief(error: BaseException) -> str:
    """Returns the kind of an error and its first line.

    >>> brief(RuntimeError("no weights\\nhere")), brief(KeyError())
    ('RuntimeError: no weights', 'KeyError: no message')
    """
    try:
        lines = [line for line in str(error).splitlines() if line.strip()]
    except Exception:  # an error of the user's may not even be written
        lines = []
    return f"{type(error).__name__}: {(lines or ['no message'])[0][:200]}"


def is_users(file: Path) -> bool:
    """Returns whether a file is neither thalweg's nor installed."""
    installed = any(file.is_relative_to(place) for place in INSTALLED)
    return file.is_absolute() and not installed and not {"site-packages", "dist-packages"} & set(file.parts)


def _verb(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f"calls sys.exit({'' if error.code is None else repr(error.code)[:200]})"
    return f"raises {brief(error)}"


def _place(error: BaseException) -> tuple[Path, int]:
    """Returns (file, line) of the innermost frame in the user's files, of the innermost frame where there is none."""
    if isinstance(error, SyntaxError) and error.filename:
        return Path(error.filename), error.lineno or 0
    frames = _frames(error)
    return next((place for place in reversed(frames) if is_users(place[0])), frames[-1])


def _frames(error: BaseException) -> list[tuple[Path, int]]:
    """Returns (file, line) of the frames that the error went through, the innermost last."""
    frames = traceback.walk_tb(error.__traceback__)
    return [(Path(frame.f_code.co_filename), line) for frame, line in frames] or [(Path("?"), 0)]
