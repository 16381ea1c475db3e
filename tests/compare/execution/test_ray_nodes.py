"""Ray over several nodes, and through its client: a node may die, an address may ask for a token."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos.command import STUDY, VICTIM
from tests.chaos.faults import records
from tests.chaos.ray_nodes import ALONE, RayNodes, kill
from tests.command import command
from tests.waiting import LONG, until

pytest.importorskip("ray")
pytest.importorskip("grpc", reason="Ray's client needs it")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds a node's processes in /proc"),
]


@pytest.fixture(scope="module")
def nodes():
    with RayNodes() as found:
        yield found


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone") / "study"
    done = command(*compared(folder, "serial"))
    assert done.returncode == 0, done.stderr
    return records(folder)


def compared(folder, engine, *words):
    """Returns the command's words."""
    words = ["--engine", engine, *words, "--out", str(folder)]
    return ["compare", f"{VICTIM}:task", "--strategies", f"sgd,{VICTIM}:held", *STUDY, *words]


@pytest.mark.thorough  # a worker that is killed: test_ray.py
def test_a_node_that_dies_costs_no_trial(nodes, alone, tmp_path):
    """A node is at work on a trial, which does not go on, when it dies; another has come meanwhile."""
    held = tmp_path / "held"
    node = nodes.add(HELD=str(held))
    words = compared(tmp_path / "study", "ray", "--ray-address", nodes.address, "--ray-workers", "2")
    process = subprocess.Popen(
        [sys.executable, "-m", "thalweg", *words],
        env=os.environ | ALONE,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    until(lambda: held.exists() or process.poll() is not None)
    nodes.add()
    kill(node)
    output, _ = process.communicate(timeout=LONG)
    assert process.returncode == 0, output
    output = " ".join(output.split())
    assert "2 Ray workers of 1 CPU each; the cluster can hold 1 on 1 node" in output, output
    assert "a Ray worker died" in output, output
    assert "held/2 runs again on another" in output, output
    assert "(raylet)" not in output, output
    assert records(tmp_path / "study") == alone


@pytest.mark.thorough
def test_ray_is_reached_through_its_client_too(nodes, alone, tmp_path):
    nodes.add()
    done = command(*compared(tmp_path / "study", "ray", "--ray-address", f"ray://{nodes.client}"), **ALONE)
    assert done.returncode == 0, done.stderr
    assert records(tmp_path / "study") == alone


def test_a_cluster_that_asks_for_a_token_is_one_line(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = f"127.0.0.1:{listening.getsockname()[1]}"
        environment = ALONE | {"RAY_AUTH_MODE": "token", "HOME": str(tmp_path)}
        done = command(*compared(tmp_path / "study", "ray", "--ray-address", address), **environment)
    assert done.returncode == 2, done.stderr
    (line,) = (done.stdout + done.stderr).splitlines()
    assert line.startswith(
        f"thalweg: there is no usable Ray cluster at {address} (Token authentication is enabled but no "
    )
    assert line.endswith("set RAY_AUTH_MODE=token, and set RAY_AUTH_TOKEN to the output of ray get-auth-token there")
    assert not (tmp_path / "study").exists()  # to be begun on another engine
