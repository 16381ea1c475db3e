"""``thalweg serve``: a live, read-only page over every study below a folder.

A page is made from a study's store as it stands, finished or not, with the report's own template and figures. A
stream of server-sent events says when a page has changed; a browser then takes in what is different. What a study's
state is, :mod:`thalweg.serve.studies` reads, for ``thalweg watch`` too.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from thalweg.serve.app import application
    from thalweg.serve.listening import listen, server, token_for

__all__ = ["application", "listen", "server", "token_for"]


def __getattr__(name: str) -> Any:
    """Loads what needs the packages of a server when it is first used."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = "app" if name == "application" else "listening"
    return getattr(import_module(f"{__name__}.{home}"), name)
