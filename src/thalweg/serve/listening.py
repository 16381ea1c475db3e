"""Listening: loopback without a token, any other address with one."""

import ipaddress
import secrets
import socket
from functools import partial
from pathlib import Path

import uvicorn

from thalweg.serve.app import application
from thalweg.serve.connections import Connection, Limits

BACKLOG = 256  # connections that wait to be taken


def listen(host: str, port: int) -> socket.socket:
    """Returns a listening socket; port 0 picks a free one.

    Raises:
        ValueError: the address is not this machine's, or taken.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family, backlog=BACKLOG)
    except (OSError, OverflowError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise ValueError(f"cannot listen on {host} port {port} ({why}): choose another --host or --port") from error


def server(root: Path, listener: socket.socket, token: str | None, limits: Limits | None = None) -> uvicorn.Server:
    """Returns a server of the studies below ``root``, to be run; it logs nothing, so that no log can hold a token."""
    hosts = frozenset({"localhost", listener.getsockname()[0]})
    config = uvicorn.Config(
        application(root, token, hosts),
        log_level="critical",
        access_log=False,
        lifespan="off",
        ws="none",
        server_header=False,
        timeout_graceful_shutdown=1,
        http=partial(Connection, limits or Limits()),  # type: ignore[arg-type]
    )
    return uvicorn.Server(config)


def token_for(listener: socket.socket) -> str | None:
    """Returns a new random token, None where only this machine can connect.

    >>> with socket.create_server(("127.0.0.1", 0)) as listener:
    ...     token_for(listener)
    """
    local = ipaddress.ip_address(listener.getsockname()[0].partition("%")[0]).is_loopback
    return None if local else secrets.token_urlsafe(32)
