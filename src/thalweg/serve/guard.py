"""Who may ask for what: GET alone, from this machine's own names or with the token, under a strict policy."""

import hmac
from http.cookies import CookieError, SimpleCookie
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from thalweg.serve.pages import sign_in_page

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


class Guard:
    """Wraps an application.

    With a ``token``, every page needs it, as ``Authorization: Bearer …`` or as the cookie that ``/session`` sets for
    who shows it so. Without one, only ``hosts`` may be named as host, so that a page of another site whose name is
    made to point here (DNS rebinding) learns nothing.
    """

    def __init__(self, app: ASGIApp, token: str | None, hosts: frozenset[str]) -> None:
        self.app, self.token, self.hosts = app, token, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers, or hands on."""

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                headers.setdefault("cache-control", "no-store")
            await send(message)

        if scope["type"] == "http":
            await (self._refusal(scope) or self.app)(scope, receive, guarded)

    def _refusal(self, scope: Scope) -> Response | None:
        headers, path = Headers(scope=scope), scope["path"]
        if scope["method"] != "GET":
            return PlainTextResponse("only GET is answered here", 405, {"allow": "GET"})
        if self.token is None:
            return None if _host(headers.get("host", "")) in self.hosts else PlainTextResponse("unknown host", 421)
        if path.startswith("/assets/"):
            return None
        cookie = f"thalweg-{(scope.get('server') or ('', 0))[1]}"  # cookies do not tell ports apart
        bearer = headers.get("authorization", "").removeprefix("Bearer ")
        if path == "/session":
            if not self._is_token(bearer):
                return PlainTextResponse("wrong token", 401)
            response = Response(status_code=204)
            response.set_cookie(cookie, self.token, httponly=True, samesite="strict", path="/")
            return response
        if self._is_token(bearer) or self._is_token(_cookie(headers.get("cookie", ""), cookie)):
            return None
        return HTMLResponse(sign_in_page(), 401)

    def _is_token(self, shown: str) -> bool:
        return self.token is not None and hmac.compare_digest(shown.encode(), self.token.encode())


def _host(header: str) -> str | None:
    try:
        return urlsplit(f"//{header}").hostname
    except ValueError:
        return None


def _cookie(header: str, name: str) -> str:
    try:
        morsel = SimpleCookie(header).get(name)
    except CookieError:
        return ""
    return morsel.value if morsel else ""
