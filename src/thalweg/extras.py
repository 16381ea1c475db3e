"""Packages that are installed with an extra: where one is missing, one line names the command that installs it."""

from collections.abc import Iterator
from contextlib import contextmanager


class MissingExtraError(ImportError, ValueError):
    """A package that is installed with an extra cannot be imported; the message names the command that installs it."""


@contextmanager
def needs(extra: str, what: str) -> Iterator[None]:
    """Runs its body, which imports the packages of an extra.

    Arguments:
        extra: the extra's name in ``pip install 'thalweg[extra]'``.
        what: what needs the packages, as the message begins.

    Raises:
        MissingExtraError: one of them cannot be imported.

    >>> with needs("compare", "a report"):
    ...     import package_that_nobody_has
    Traceback (most recent call last):
    thalweg.extras.MissingExtraError: a report needs more packages (No module named 'package_that_nobody_has'):
    pip install 'thalweg[compare]'
    """
    try:
        yield
    except MissingExtraError:
        raise
    except ImportError as error:
        raise MissingExtraError(f"{what} needs more packages ({error}): pip install 'thalweg[{extra}]'") from error
