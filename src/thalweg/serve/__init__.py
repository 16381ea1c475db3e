"""``thalweg serve``: a live, read-only page over every study below a folder.

A page is made from a study's store as it stands, finished or not, with the report's own template and figures. A
stream of server-sent events says when a page has changed; a browser then takes in what is different.
"""

from thalweg.serve.app import application
from thalweg.serve.server import listen, server, token_for

__all__ = ["application", "listen", "server", "token_for"]
