"""A server in a thread and raw requests to it, which no client library tidies on the way."""

import http.client
import json
import re
import socket
import threading
from contextlib import contextmanager

from tests.waiting import LONG
from thalweg.serve import listen, server


class Running:
    """A server's address, and requests to it."""

    def __init__(self, port, served):
        self.port, self.address, self.served = port, f"http://127.0.0.1:{port}", served

    @property
    def open(self):
        """The number of open connections."""
        return len(self.served.server_state.connections)

    def ask(self, path, method="GET", **headers):
        """Returns (status, headers, text) of the answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=LONG)
        try:
            connection.request(method, path, headers={k.replace("_", "-"): v for k, v in headers.items()})
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read().decode()
        finally:
            connection.close()

    def page(self, path):
        """Returns the text of a page that is there."""
        status, _, text = self.ask(path)
        assert status == 200, text
        return text

    def version(self, path):
        """Returns the version that a page names."""
        return re.search('data-version="([^"]*)"', self.page(path))[1]

    @contextmanager
    def events(self, path, **headers):
        """Opens a stream; yields a function that waits for the next version."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=LONG) as stream:
            lines = [f"GET {path} HTTP/1.1", "Host: localhost", *(f"{k}: {v}" for k, v in headers.items())]
            stream.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
            reader = stream.makefile("rb")
            assert reader.readline().split()[1] == b"200"

            def following():
                while not (line := reader.readline()).startswith(b"data: "):
                    assert line, "the stream ended"
                return json.loads(line[6:])["version"]

            yield following


@contextmanager
def running(root, token=None, port=0, limits=None):
    """Serves the studies below ``root`` on loopback, on a free port where none is given."""
    listener = listen("127.0.0.1", port)
    served = server(root, listener, token, limits)
    thread = threading.Thread(target=served.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield Running(listener.getsockname()[1], served)
    finally:
        served.should_exit = True
        thread.join()
