"""Pages that know when they are out of date: made anew when a study's files changed, once for all who watch."""

import asyncio
import hashlib
import threading
import time
from collections.abc import Callable
from functools import cache, partial
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from jinja2 import Environment

from thalweg.compare.report.page import PLOTLY, asset, contents, environment, inert
from thalweg.compare.user_errors import StudyError
from thalweg.serve.studies import Signature, Study, find

T = TypeVar("T")
POLL = 0.25  # seconds between two looks at the files
AGAIN = 2.0  # seconds after which what could not be read is tried again: a writer may have been at it


class Page:
    """One address' content; ``version`` names it, equal versions are equal pages."""

    def __init__(self) -> None:
        self.version, self.body, self.failed = "", "", False
        self._lock, self._looked = asyncio.Lock(), 0.0

    async def current(self, reading: asyncio.Semaphore) -> "Page":
        """Looks at the files, if that is not a moment ago, and makes the page anew if they changed."""
        async with self._lock:
            if time.monotonic() - self._looked > POLL:
                signature = await asyncio.to_thread(self.signature)
                attempt = time.monotonic() // AGAIN if self.failed else None
                version = hashlib.sha256(repr((signature, attempt)).encode()).hexdigest()[:16]
                if version != self.version:
                    async with reading:
                        body = await asyncio.to_thread(self.make, version)
                    self.version, self.body = version, body
                self._looked = time.monotonic()
        return self

    def signature(self) -> Signature:
        """Returns what differs when the page does."""
        raise NotImplementedError

    def make(self, version: str) -> str:
        """Returns the page; ``failed`` says whether something on it could not be read."""
        raise NotImplementedError


class StudyPage(Page):
    """A study's results, as far as it is."""

    def __init__(self, study: Study, up: bool) -> None:
        super().__init__()
        self.study, self.up = study, up

    def signature(self) -> Signature:
        """Returns the study's."""
        return self.study.signature()

    def make(self, version: str) -> str:
        """Returns the report's page, or one like it of what there is."""

        def page(summary: dict[str, Any] | None, shown: dict[str, Any] | None, failed: str | None) -> str:
            words = {"s": summary, "failed": failed, "name": self.study.name, "up": self.up}
            return _render("study.html.j2", shown, version, **words)

        made, failed = _tried(lambda: page(self.study.summary(), contents(self.study.results()), None))
        self.failed = failed is not None
        return made or page(None, None, failed)


class IndexPage(Page):
    """All studies below the folder, one a row."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.root, self.studies = root, dict[str, Study]()
        self._refreshing, self._next = threading.Lock(), 0.0
        self._deciding: asyncio.Task[None] | None = None

    @property
    def alone(self) -> bool:
        """Whether the folder is a study itself."""
        return any(study.folder == self.root for study in self.studies.values())

    def refresh(self) -> None:
        """Looks for studies that came or went; seldom where the folder is so large that it takes long."""
        with self._refreshing:
            began = time.monotonic()
            if began < self._next:
                return
            known = self.studies
            self.studies = {name: known.get(name) or Study(name, folder) for name, folder in find(self.root).items()}
            self._next = time.monotonic() + max(1.0, 20 * (time.monotonic() - began))

    async def current(self, reading: asyncio.Semaphore) -> "Page":
        """Brings the page up to date; verdicts that are not known yet come by and by."""
        await super().current(reading)
        unread = next((s for s in self.studies.values() if s.finished and s.verdict is None), None)
        if unread and (self._deciding is None or self._deciding.done()):
            self._deciding = asyncio.create_task(self._decide(unread, reading))
        return self

    async def _decide(self, study: Study, reading: asyncio.Semaphore) -> None:
        async with reading:
            await asyncio.to_thread(_tried, study.results)

    def signature(self) -> Signature:
        """Returns all studies'."""
        self.refresh()
        return tuple((name, study.verdict, study.signature()) for name, study in self.studies.items())

    def make(self, version: str) -> str:
        """Returns the table of studies."""
        rows = [(study, *_tried(partial(_row, study))) for study in self.studies.values()]
        self.failed = any(failed for _, _, failed in rows)
        return _render("index.html.j2", None, version, rows=rows, root=self.root.resolve().name)


@cache
def sign_in_page() -> str:
    """Returns the page that asks for the token."""
    return _render("sign_in.html.j2", None, "")


@cache
def assets() -> dict[str, tuple[str, str]]:
    """Returns the files that pages load, all that may ever be asked for: name → (media type, text)."""
    script, style = "text/javascript", "text/css"
    return {
        "plotly.js": (script, asset(PLOTLY)),
        "report.js": (script, asset("report.js")),
        "report.css": (style, asset("report.css")),
        **{name: (script, _own(name)) for name in ("live.js", "sign_in.js")},
        "serve.css": (style, _own("serve.css")),
    }


def _own(name: str) -> str:
    return resources.files("thalweg.serve").joinpath(name).read_text(encoding="utf-8")


def _row(study: Study) -> str:
    """Returns the study's row of the table."""
    return _templates().get_template("row.html.j2").render(study=study, s=study.summary())


def _tried(read: Callable[[], T]) -> tuple[T | None, str | None]:
    """Returns what is read, or why it cannot be: one study that is damaged does not take the others down."""
    try:
        return read(), None
    except StudyError as error:
        return None, str(error)
    except Exception as error:  # a store may hold anything
        return None, f"the study cannot be read ({type(error).__name__}): restore it"


@cache
def _templates() -> Environment:
    found = environment("thalweg.serve")
    digests = {name: hashlib.sha256(text.encode()).hexdigest()[:16] for name, (_, text) in assets().items()}
    found.globals["asset"] = lambda name: f"/assets/{digests[name]}/{name}"
    return found


def _render(template: str, shown: dict[str, Any] | None, version: str, **words: Any) -> str:
    filled = shown or {
        "shown": [],
        "diagnosis": [],
        "strategies": [],
        "r": None,
        "d": None,
        "colours": {},
        "coloured": [],
    }
    figures, diagnosis, strategies = (filled.pop(name) for name in ("shown", "diagnosis", "strategies"))
    words |= filled | {"figures": figures, "diagnosis_figures": diagnosis, "version": version}
    data = inert((*figures, *diagnosis), strategies)
    return _templates().get_template(template).render(data=data, **words)
