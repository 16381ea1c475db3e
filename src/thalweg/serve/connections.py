"""Connections: how many of them are open at once, and how long one may keep a place that others wait for.

Nobody is turned away. Where all places are taken, the newcomer has that of the client with most connections: of one
that waits for its request, and of those the oldest. So what is left half-sent, on purpose or not, locks nobody out.
"""

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol


@dataclass(frozen=True)
class Limits:
    """What connections may take.

    Arguments:
        connections: open at once.
        each: of them, for one client's address.
        patience: seconds in which a request must be whole, and in which a reader must take some of what it asked for.
        rate: bytes a second that a reader must take at least.
    """

    connections: int = 256
    each: int = 128
    patience: float = 10.0
    rate: float = 1024.0


class Connection(H11Protocol):
    """A connection within limits."""

    def __init__(self, limits: Limits, **given: Any) -> None:
        super().__init__(**given)
        self.limits = limits
        self._left, self._since = 0, 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Takes a place, an other's where all are taken."""
        super().connection_made(transport)
        alike = [other for other in self._all() if other.host == self.host]
        if len(alike) > self.limits.each:
            _oldest(alike, self).end()
        connections = self._all()
        if len(connections) > self.limits.connections:
            ((most, _),) = Counter(other.host for other in connections).most_common(1)
            _oldest([other for other in connections if other.host == most], self).end()
        self._since = self.loop.time()
        self._start_timer()

    def on_response_complete(self) -> None:
        """Waits for the next request."""
        self._since = self.loop.time()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Gives the place back."""
        self._timer.cancel()
        super().connection_lost(exc)

    @property
    def host(self) -> str:
        """The client's address."""
        return self.client[0] if self.client else ""

    @property
    def waits(self) -> bool:
        """Whether the connection neither answers nor has anything left to send."""
        answered = self.cycle is None or self.cycle.response_complete
        return answered and not self.transport.get_write_buffer_size()

    def end(self) -> None:
        """Ends the connection at once."""
        self.connections.discard(self)
        self.transport.abort()

    def _all(self) -> list["Connection"]:
        return [other for other in self.connections if isinstance(other, Connection)]

    def _start_timer(self) -> None:
        self._timer = self.loop.call_later(self.limits.patience, self._check)

    def _check(self) -> None:
        """Ends the connection where its request does not come, or its reader takes too little."""
        left, patience = self.transport.get_write_buffer_size(), self.limits.patience
        stalled = self._left and left > max(0.0, self._left - self.limits.rate * patience)
        if stalled or (self.waits and self.loop.time() - self._since >= patience):
            self.end()
            return
        self._left = left
        self._start_timer()


def _oldest(among: list[Connection], but: Connection) -> Connection:
    """Returns the one to end: one that waits for its request, if there is any, and of those the oldest."""
    others = [other for other in among if other is not but] or [but]
    return min(others, key=lambda other: (not other.waits, other._since))
