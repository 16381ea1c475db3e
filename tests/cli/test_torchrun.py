"""``torchrun -m thalweg train``: one run by two processes, through the loss of one of them."""

import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from tests.cli.test_train import called
from tests.command import script
from tests.waiting import LONG

pytestmark = pytest.mark.slow

TASK = """
import os, signal
import thalweg, torch
from torch import nn

x = torch.randn(120, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
y = x[:, :3].argmax(dim=1)
parts = [torch.utils.data.TensorDataset(x[i::3], y[i::3]) for i in range(3)]
losses = 0

def loss(output, target):
    global losses
    losses += output.requires_grad
    if losses == int(os.environ.get("DIES_AT", 0)) and os.environ["RANK"] == "1":
        if os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
            os.kill(os.getpid(), signal.SIGKILL)
    return nn.functional.cross_entropy(output, target)

def task():
    def model():
        return nn.Sequential(nn.Linear(6, 8, bias=False), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 3)).double()

    return thalweg.Task(model, *parts, loss, "accuracy", 13, name="t")
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    (tmp_path / "my.py").write_text(TASK)
    monkeypatch.chdir(tmp_path)
    return tmp_path


# What torchrun does, with processes that are forked off one that has imported torch.
FORKING = """
import sys
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

def process(*words):
    from thalweg.cli.main import run

    sys.argv = ["thalweg", *words]
    try:
        run()
    except SystemExit as end:
        if end.code:
            raise

restarts, *words = sys.argv[1:]
here = {"rdzv_backend": "c10d", "rdzv_endpoint": "localhost:0", "start_method": "fork"}
config = LaunchConfig(1, 1, 2, DefaultLogsSpecs(), max_restarts=int(restarts), **here)
elastic_launch(config, process)(*words)
"""


def forked(*arguments, restarts=0, **environment):
    """Does what ``started`` does in a third of the time, by the launcher without its command line."""
    return script(FORKING, str(restarts), *arguments, **environment)


def started(*arguments, restarts=0, **environment):
    """Runs the command in two processes; returns what became of it."""
    launch = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--max-restarts", str(restarts)]
    return subprocess.run(
        [sys.executable, "-m", *launch, "-m", "thalweg", *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=LONG,
    )


@pytest.mark.parametrize(("shard", "launched"), [([], started), (["--shard"], forked)], ids=["copies", "shards"])
def test_a_killed_process_is_started_anew_and_the_run_ends_as_one_that_was_never_disturbed(
    here, monkeypatch, shard, launched
):
    options = "train", "my.py:task", "--strategy", "adam+ema@cosine", "--steps", "60", "--evaluate-every", "8"
    whole = forked(*options, *shard, "--out", "whole")
    killed = launched(*options, *shard, "--out", "killed", "--resume", restarts=1, DIES_AT="30")
    for run in (whole, killed):
        assert run.returncode == 0, run.stderr
        assert [run.stdout.count(f"step {step}:") for step in (8, 24, 32, 60)] == [1] * 4  # the first process prints
    assert "resumed at step 24 of 60" in killed.stdout
    assert "thalweg: another process was lost" in killed.stderr or "Traceback" not in killed.stderr
    weights = [here / out / "model.safetensors" for out in ("whole", "killed", "one")]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    assert called(monkeypatch, *options, "--out", "one") == 0
    one, two = (load_file(path) for path in (weights[2], weights[0]))
    torch.testing.assert_close(two, one, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(
    ("options", "environment", "words"),
    [
        (["--shard"], {}, "--shard divides a model among processes: start several with torchrun"),
        ([], {"TORCHELASTIC_MAX_RESTARTS": "3"}, "torchrun restarts all processes if one is lost"),
    ],
)
def test_what_one_process_can_tell_is_refused_by_it(options, environment, words, here, monkeypatch, capsys):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert called(monkeypatch, "train", "my.py:task", *options) == 2
    error = capsys.readouterr().err
    assert words in error
    assert len(error.strip().splitlines()) == 1


def test_one_process_speaks_for_all(here, monkeypatch, capsys):
    monkeypatch.setenv("RANK", "1")
    assert called(monkeypatch, "train", "my.py:task", "--steps", "0") == 2
    assert capsys.readouterr() == ("", "")
