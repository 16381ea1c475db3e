"""``thalweg serve`` with an artificial study of 1,000 trials: its first page, an update during writing, and 50 readers.

The server is a separate process, started for the measurement. The first page is a fresh server's response to its first
request, for which it reads the study and draws the figures; the following page is requested again without a change. An
update is the time from the commit of a rung until the reader has the changed page, which the event stream announces.
Each of 50 readers holds a stream and fetches the page at every change; memory is the server's resident set.
"""

import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.measure import seconds, table
from tests.serve.synthetic import RUNGS, Writer

READERS = 50
TRIALS = {"trials": 124, "steps": 1000, "seeds": 10}  # of 8 strategies, with the default one of each: 1,000
ROUNDS = 5
ASKED = {"first page, s": 0.3, "update, s": 1.0, "slowest of 50 updates, s": 1.0}


def measure() -> dict[str, Any]:
    """Returns the seconds of each, and the server's memory in MB."""
    rows = [_round() for _ in range(ROUNDS)]
    return {name: median(row[name] for row in rows) for name in rows[0]}


def show(found: dict[str, Any]) -> str:
    """Returns the table."""
    rows = [[name, value, ASKED.get(name)] for name, value in found.items()]
    return table(["what", "median", "goal: at most"], rows)


def _round() -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        writer = Writer(Path(folder) / "study", **TRIALS)
        writer.begin()
        for rung in RUNGS[:2]:
            writer.rung(rung)
        served = _Server(Path(folder))
        try:
            found = {"first page, s": seconds(served.page), "following page, s": seconds(served.page)}
            found["page, MB"] = len(served.page()) / 1e6
            found["update, s"] = max(_updates(served, writer, RUNGS[2], 1))
            found["memory with one reader, MB"] = served.memory()
            found[f"slowest of {READERS} updates, s"] = max(_updates(served, writer, RUNGS[3], READERS))
            found[f"memory with {READERS} readers, MB"] = served.memory()
        finally:
            served.close()
            writer.store.close()
    return found


def _updates(served: "_Server", writer: Writer, rung: str, count: int) -> list[float]:
    """Returns for each of so many readers the seconds from a rung's commit to its changed page."""
    ready, done, commit = threading.Barrier(count + 1), [], [0.0]

    def read() -> None:
        with socket.create_connection(("127.0.0.1", served.port), timeout=30) as stream:
            stream.sendall(b"GET /events/study HTTP/1.1\r\nHost: localhost\r\n\r\n")
            lines = stream.makefile("rb")
            first = _version(lines)
            ready.wait()
            while (version := _version(lines)) == first:
                pass
            while version not in served.page():
                pass
            done.append(time.perf_counter() - commit[0])

    readers = [threading.Thread(target=read) for _ in range(count)]
    for reader in readers:
        reader.start()
    ready.wait()
    writer.rung(rung)
    commit[0] = time.perf_counter()
    for reader in readers:
        reader.join()
    return done


def _version(lines: Any) -> str:
    while not (line := lines.readline()).startswith(b"data: "):
        pass
    return str(json.loads(line[6:])["version"])


class _Server:
    """The command in a process of its own."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, "-m", "thalweg", "serve", str(folder), "--port", "0"]
        environment = os.environ | {"PYTHONUNBUFFERED": "1", "COLUMNS": "200"}
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        assert self.process.stdout is not None
        while not (found := re.search(r"http://[^:]+:(\d+)", self.process.stdout.readline())):
            assert self.process.poll() is None
        self.port = int(found[1])

    def page(self) -> str:
        """Returns the study's page."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/study/study") as answer:
            return str(answer.read().decode())

    def memory(self) -> float:
        """Returns the resident set in MB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8")
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1e3  # type: ignore[index]

    def close(self) -> None:
        """Ends it."""
        self.process.terminate()
        self.process.wait()
