"""The terminal, which gets no control character but its own, and what ``--quiet`` of all verbs leaves out."""

from collections.abc import Iterable
from contextvars import ContextVar
from typing import Annotated

import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from thalweg.compare.names import printable


class Terminal(Console):
    """A console that shows the control characters of a text as escapes."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yields the segments of what is printed."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=printable(segment.text))


_QUIET: ContextVar[bool] = ContextVar("quiet", default=False)


def _remember(value: bool) -> None:
    _QUIET.set(value)


# An option of every verb.
Quiet = Annotated[
    bool,
    typer.Option(
        "--quiet",
        "-q",
        callback=_remember,
        help="Print the result and errors alone, without progress.",
    ),
]


def progress_terminal(as_json: bool = False, quiet: bool = False) -> Terminal:
    """Returns where progress goes: to standard error where a result is printed as JSON, nowhere with ``--quiet``."""
    return Terminal(stderr=as_json, quiet=quiet or _QUIET.get())


def result_terminal(as_json: bool = False, quiet: bool = False) -> Terminal:
    """Returns where a result goes as text: to standard error where it is printed as JSON too, unless ``--quiet``."""
    return Terminal(stderr=as_json, quiet=quiet or (as_json and _QUIET.get()))
