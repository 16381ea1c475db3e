"""Whether somebody listens at an address, asked before a client tries for minutes."""

import socket
from urllib.parse import urlsplit

PORTS = {"http": 80, "https": 443}


def check_reachable(address: str) -> None:
    """Raises OSError where nobody listens at the host and port of an address, if it has such.

    >>> check_reachable("auto"), check_reachable("sqlite:///runs.db")
    (None, None)
    """
    found = urlsplit(address if "://" in address else f"//{address}")
    port = found.port or PORTS.get(found.scheme)
    if found.hostname and port:
        socket.create_connection((found.hostname, port), timeout=20).close()
