"""The application: an index, a page a study, the files that they load, and a stream that says when a page changed."""

import asyncio
import json
import time
from collections import OrderedDict
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from thalweg.serve.guard import Guard
from thalweg.serve.pages import POLL, IndexPage, Page, StudyPage, assets, sign_in_page

KEPT = 256  # pages in memory
READERS = 2  # studies read at once
ALIVE = 15.0  # seconds after which a silent stream sends a comment, so that one whose browser is gone is noticed


class _Pages:
    """The pages that were asked for of late."""

    def __init__(self, root: Path) -> None:
        self.index = IndexPage(root)
        self.reading = asyncio.Semaphore(READERS)
        self.kept: OrderedDict[str, StudyPage] = OrderedDict()

    async def of(self, name: str | None) -> Page:
        """Returns the page of a study that was found below the folder; of the index without a name."""
        if name is None:
            return await self.index.current(self.reading)
        if name not in self.index.studies:
            await asyncio.to_thread(self.index.refresh)
        # A name is looked up among those found and never made into a path, so none leads out of the folder.
        study = self.index.studies.get(name)
        if study is None:
            self.kept.pop(name, None)
            raise HTTPException(404, "there is no such study")
        page = self.kept.get(name)
        if page is None or page.study is not study:
            page = self.kept[name] = StudyPage(study, up=not self.index.alone)
        self.kept.move_to_end(name)
        while len(self.kept) > KEPT:
            self.kept.popitem(last=False)
        return await page.current(self.reading)


def application(root: Path, token: str | None = None, hosts: frozenset[str] = frozenset({"localhost"})) -> ASGIApp:
    """Returns the ASGI application over the studies below ``root``.

    Arguments:
        root: folder; nothing outside of it is read, nothing in it written.
        token: what every page asks for; None for none.
        hosts: names under which the application answers when there is no token.

    It belongs in a process of its own: the check whether a study is running ends the locks that this process itself may
    have on the study.

    Source: Server-sent events, HTML Living Standard §9.2.
    """
    pages = _Pages(root)
    sign_in_page()  # so that the first visitor does not wait for templates and figures' script to be read

    async def page(request: Request) -> Response:
        shown, index = await pages.of(request.path_params.get("name")), pages.index
        if shown is index and index.alone:
            return RedirectResponse(f"/study/{quote(next(iter(index.studies)))}")
        return HTMLResponse(shown.body)

    async def events(request: Request) -> Response:
        name = request.path_params.get("name")
        await pages.of(name)

        async def stream() -> AsyncIterator[str]:
            sent, silent = None, 0.0
            while True:
                try:
                    version = (await pages.of(name)).version
                except HTTPException:  # the study was taken away: its page says so
                    version = "gone"
                if version != sent:
                    event = json.dumps({"version": version, "now": time.time()})
                    yield f"data: {event}\n\n"
                    sent, silent = version, 0.0
                elif silent >= ALIVE:
                    yield ":\n\n"
                    silent = 0.0
                await asyncio.sleep(POLL)
                silent += POLL

        return StreamingResponse(stream(), media_type="text/event-stream")

    async def file(request: Request) -> Response:
        known = assets().get(request.path_params["name"])
        if known is None:
            raise HTTPException(404)
        return Response(
            known[1], media_type=known[0], headers={"cache-control": "private, max-age=31536000, immutable"}
        )

    routes = [
        Route("/", page),
        Route("/events", events),
        Route("/study/{name:path}", page),
        Route("/events/{name:path}", events),
        Route("/assets/{digest}/{name}", file),
    ]
    served = Starlette(routes=routes)
    served.router.redirect_slashes = False  # it would send to whatever host the request names
    return Guard(served, token, hosts)
