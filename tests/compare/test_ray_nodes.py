"""Ray over several nodes, and through its client: a node may die, an address may ask for a token."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.chaos.command import STUDY, VICTIM
from tests.chaos.faults import records
from tests.chaos.ray_nodes import ALONE, RayNodes, kill, trains

pytest.importorskip("ray")
pytest.importorskip("grpc", reason="Ray's client needs it")
pytestmark = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds a node's processes in /proc")


@pytest.fixture(scope="module")
def nodes():
    with RayNodes() as found:
        yield found


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone") / "study"
    process = begin(folder, "serial")
    said, _ = process.communicate()
    assert process.returncode == 0, said
    return records(folder)


def begin(folder, engine, *words, environment=ALONE):
    """Begins a study with a strategy that takes its time."""
    words = ["compare", f"{VICTIM}:task", "--strategies", f"sgd,{VICTIM}:slow", *STUDY, "--engine", engine, *words]
    return subprocess.Popen(
        [sys.executable, "-m", "thalweg", *words, "--out", folder], env=os.environ | environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def test_a_node_that_dies_costs_no_trial(nodes, alone, tmp_path):
    node = nodes.add()
    process = begin(tmp_path / "study", "ray", "--ray-address", nodes.address)
    while process.poll() is None and not trains(node):
        time.sleep(0.02)
    time.sleep(0.3)
    kill(node)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 0, said
    said = " ".join(said.split())
    assert "2 Ray workers of 1 CPU each; the cluster has room for 2, on 2 nodes" in said
    assert "a Ray worker died" in said
    assert "runs again on another" in said
    assert "(raylet)" not in said
    assert records(tmp_path / "study") == alone


def test_ray_is_reached_through_its_client_too(nodes, alone, tmp_path):
    process = begin(tmp_path / "study", "ray", "--ray-address", f"ray://{nodes.client}")
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert records(tmp_path / "study") == alone


def test_a_cluster_that_asks_for_a_token_is_one_line(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = f"127.0.0.1:{listening.getsockname()[1]}"
        process = begin(
            tmp_path / "study", "ray", "--ray-address", address,
            environment=ALONE | {"RAY_AUTH_MODE": "token", "HOME": str(tmp_path)},
        )  # fmt: skip
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 2, said
    (line,) = said.splitlines()
    assert line.startswith(f"thalweg: no Ray cluster can be used at {address} (Token authentication is enabled but no ")
    assert line.endswith("set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN to what ray get-auth-token says there")
    assert not (tmp_path / "study").exists()  # to be begun on another engine
