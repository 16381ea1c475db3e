"""Ray nodes on this machine, on loopback, each with processes of its own, as machines of a cluster would have them."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from thalweg.compare.execution.ray.engines import LOCAL

Node = subprocess.Popen[str]
ALONE = LOCAL | {"RAY_AUTH_MODE": "disabled"}  # the environment of a driver
PATIENT = {"RAY_CLIENT_SERVER_CHECK_CHANNEL_TIMEOUT_S": "600"}  # a busy machine starts a client's server in minutes


class RayNodes(contextlib.ExitStack):
    """A cluster: a head without a CPU, and what nodes are added, of one each; all end with the context."""

    def __enter__(self) -> "RayNodes":
        for attempt in range(5):
            ports = [_free_port() for _ in range(2)]
            self.address, self.client = (f"127.0.0.1:{port}" for port in ports)
            words = ("--port", ports[0], "--ray-client-server-port", ports[1], "--include-dashboard", "false")
            try:
                self._begin("--head", "--num-cpus", 0, *words)
                break
            except RuntimeError:  # somebody else has taken a port meanwhile, or Ray waits no longer for itself
                if attempt == 4:
                    raise
        return self

    def add(self, **environment: str) -> Node:
        """Returns another node, once it is up."""
        return self._begin("--address", self.address, "--num-cpus", 1, **environment)

    def _begin(self, *words: object, **environment: str) -> Node:
        ports = ["--min-worker-port", 0, "--max-worker-port", 0, "--dashboard-agent-listen-port", 0]  # any
        words = ("start", "--block", "--node-ip-address", "127.0.0.1", *ports, *words)
        node = subprocess.Popen(
            [Path(sys.executable).with_name("ray"), *map(str, words)],
            env=os.environ | ALONE | PATIENT | {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1"} | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.callback(kill, node)
        said = ""
        while "Ray runtime started" not in said:
            said += (line := node.stdout.readline())
            if not line:
                raise RuntimeError(said)
        return node


def trains(node: Node) -> bool:
    """Says whether a worker of the node is at work."""
    return any(name == "ray::Worker.do" for _, name in _below(node.pid))


def kill(node: Node) -> None:
    """Ends all processes of a node at once."""
    for pid in [*dict(_below(node.pid)), node.pid]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    node.wait()
    node.stdout.close()


def _below(pid: int) -> Iterator[tuple[int, str]]:
    """Yields the processes below one, with their names as their command lines tell them."""
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in map(int, task.read_text().split()):
                yield child, Path(f"/proc/{child}/cmdline").read_text().split("\0")[0]
                yield from _below(child)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
