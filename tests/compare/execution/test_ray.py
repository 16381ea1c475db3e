"""Trials on Ray's workers: the same results as on one machine, also when a worker dies or the driver is stopped."""

import importlib
import os
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import thalweg
from tests.chaos.ray_nodes import trains
from tests.compare.execution import local_ray
from tests.compare.execution.local_ray import BUDGET, DEADLY, HANGS, REFUSES, TOLD, WAITING
from tests.compare.small import job, small_task, task_context
from tests.compare.study.test_study import SMALL, USER, Interrupt, records
from tests.conformance.test_engines import same
from tests.waiting import LONG, until
from thalweg.compare.execution.lanes import Lanes
from thalweg.compare.execution.ray.engines import Cluster, RayEngines
from thalweg.compare.execution.ray.private import omit_findings
from thalweg.compare.execution.ray.worker import Worker, portable, versions
from thalweg.compare.execution.serial import Serial
from thalweg.compare.strategy import Strategy
from thalweg.compare.study.reporter import Reporter

pytestmark = pytest.mark.slow

pytest.importorskip("ray")


def quiet(steps):
    """No progress."""


@pytest.fixture
def engines():
    return local_ray.engines()


@pytest.fixture(scope="module")
def alone():
    return Serial(task_context(small_task(torch.float64)))


def test_a_killed_workers_trials_run_again_elsewhere_with_the_same_results(engines, alone, monkeypatch):
    monkeypatch.setattr("thalweg.compare.execution.ray.pool.pause", lambda workers: 0.0)
    jobs = [job("adam", seed=seed, stop=600, total=600, evaluate_every=20) for seed in range(4)]
    until(lambda: engines.ask("plan") and len(engines._pool._idle) == 2)
    local_ray.processes(engines, lambda worker: setattr(worker, "_pause", 0.0))
    processes, killed, reported = local_ray.processes(engines), [], []

    def kill(steps):
        reported.append(steps)
        if not killed:
            killed.extend(processes[hand] for hand in local_ray.busy(engines))
            for process in killed:
                os.kill(process, signal.SIGKILL)

    found = engines.run(jobs, kill)
    assert killed
    for one, two in zip(alone.run(jobs, quiet), found, strict=True):
        same(one, two, rtol=0, atol=0)
    assert sum(reported) == 4 * 600  # what was done twice is told once
    assert any("runs again on another" in line for line in engines.lines)


def test_a_long_trial_tells_how_far_it_is(engines, monkeypatch):
    monkeypatch.setattr("thalweg.compare.execution.ray.pool.pause", lambda workers: 0.0)
    local_ray.processes(engines, lambda worker: setattr(worker, "_pause", 0.0))
    reported = []

    def progress(steps):
        reported.append(steps)
        TOLD.touch()

    engines.run([job(WAITING, 0.01, evaluate_every=1)], progress)
    assert len(reported) > 1
    assert sum(reported) == 30


def test_what_ray_finds_out_about_nodes_is_not_printed(monkeypatch, capsys):
    worker = importlib.import_module("ray._private.worker")
    found = {"lines": ["The node has been marked dead"], "pid": "raylet", "is_err": False, "job_id": None}
    monkeypatch.setattr(worker, "print_to_stdstream", worker.print_to_stdstream)
    worker.print_to_stdstream(found, ignore_prefix=False)
    assert "marked dead" in capsys.readouterr().out
    omit_findings()
    worker.print_to_stdstream(found, ignore_prefix=False)
    assert capsys.readouterr() == ("", "")


def test_a_trial_that_kills_its_workers_is_given_up_and_named(engines, monkeypatch):
    monkeypatch.setattr("thalweg.compare.execution.ray.pool.TRIES", 2)
    with pytest.raises(ValueError, match="^deadly/0.01/1 killed 2 Ray workers .*the same command resumes the study"):
        engines.run([job(DEADLY, 0.01)], quiet)


def test_a_trial_that_hangs_is_cut_off_at_its_limit(engines):
    found = engines.run([replace(job(HANGS, 0.01), limit=LONG), job("adam")], quiet)
    assert [result.status for result in found] == ["timed out", "finished"]


def test_what_cannot_run_on_a_worker_is_a_result_as_it_is_here(engines, alone):
    for engine in (alone, engines):
        (result,) = engine.run([job(REFUSES, 0.01)], quiet)
        assert result.status == "could not run"
        assert "RuntimeError: not these" in result.reason


def test_lanes_within_a_worker_equal_lanes_here():
    local_ray.start()
    task, adam = small_task(torch.float64), Strategy.parse("adam")
    engines = RayEngines(task, [adam], BUDGET, Cluster(workers=1), wanted="lanes")
    try:
        _compile_nothing(engines)
        engines.choose(0)
        assert [choice.name for choice in engines.choices] == ["lanes"]
        jobs = [job("adam", 0.003 * k, seed=k) for k in range(1, 6)]
        expected = Lanes(task_context(task), 4, compile_=False).run(jobs, quiet)
        for one, two in zip(expected, engines.run(jobs, quiet), strict=True):
            assert (one.key, one.status, one.steps) == (two.key, two.status, two.steps)
            assert one.curve.valid_loss == pytest.approx(two.curve.valid_loss, rel=1e-8)
    finally:
        engines.close()


def _compile_nothing(engines):
    """Hires a worker that finds no compiler, which would take it long."""

    def forget(worker):
        from thalweg.tensors import compiling

        compiling.compiler_missing = lambda: "kept short"

    engines._started().hire(1, None)
    (hand,) = engines._pool._hands
    hand.actor.__ray_call__.remote(forget)


NEIGHBOUR = """
import torch

def made(params, lr):
    return torch.optim.SGD(params, lr, momentum=0.5)
"""


def test_a_study_cut_and_gone_on_with_has_the_records_of_one_on_this_machine(tmp_path, monkeypatch):
    local_ray.start()
    (tmp_path / "neighbour.py").write_text(NEIGHBOUR)
    (tmp_path / "my.py").write_text(
        f"import neighbour\nfrom neighbour import made\n{USER}\ndef own(params, lr):\n"
        "    return neighbour.made(params, lr)\n"
    )
    file, settings = tmp_path / "my.py", {**SMALL, "seeds": 2, "until": "decided"}
    strategies = [f"{file}:own", f"{file}:made", "adam"]
    here = thalweg.compare(f"{file}:task", strategies, out=tmp_path / "here", **settings)
    there = {**settings, "engine": "ray", "out": tmp_path / "there", "cluster": Cluster(workers=2)}
    with pytest.raises(KeyboardInterrupt):
        thalweg.compare(f"{file}:task", strategies, **there, reporter=Interrupt(18))
    assert records(tmp_path / "there")
    done = thalweg.compare(f"{file}:task", strategies, **there)
    assert records(tmp_path / "there") == records(tmp_path / "here")
    assert done.results["run"]["last_look"]["added_runs"] == here.results["run"]["last_look"]["added_runs"] > 0
    assert done.results["strategies"][0]["test"] == here.results["strategies"][0]["test"]
    assert "in each of 2 Ray workers" in done.results["engine"][0]["reason"]

    monkeypatch.setattr(RayEngines, "_started", lambda self: pytest.fail("a whole study needs no Ray"))
    assert thalweg.compare(f"{file}:task", strategies, **there).results == done.results


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds Ray's processes in /proc")
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.thorough)]
)
def test_a_signal_ends_the_command_and_its_ray(tmp_path, number, code):
    # Batch normalization keeps it from compiling lanes, which takes long.
    (tmp_path / "my.py").write_text(
        USER.replace("nn.Linear(6, 3)", "nn.Sequential(nn.BatchNorm1d(6), nn.Linear(6, 3))")
    )
    words = [
        "compare",
        "my.py:task",
        "--engine",
        "ray",
        "--strategies",
        "sgd,adam",
        "--steps",
        "200000",
        "--ray-workers",
        "1",
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "thalweg", *words],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith("tuning, first rung"):
            until(lambda: trains(process))
            # A terminal tells the whole group, Ray's processes too, of Ctrl-C.
            os.killpg(process.pid, number) if number == signal.SIGINT else process.send_signal(number)
            break
    rest, _ = process.communicate(timeout=LONG)
    assert process.returncode == code, "".join(lines) + rest
    assert "Traceback" not in rest
    assert any("1 Ray worker of 1 CPU" in line for line in lines)
    until(lambda: not _lives(process.pid))


def _lives(group):
    """Says whether a process of the group is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_dataset_is_sent_as_tensors_and_what_cannot_be_sent_is_said():
    local_ray.start()
    task = small_task()
    assert isinstance(portable(task).train, torch.utils.data.TensorDataset)
    lock = threading.Lock()
    held = replace(task, model=lambda: lock and task.model())
    with pytest.raises(
        ValueError, match="cannot be sent to Ray's workers .*lock.*: open files and create locks inside"
    ):
        RayEngines(held, [Strategy.parse("sgd")], BUDGET, Cluster(workers=1)).run([job("sgd")], quiet)


def test_a_node_with_other_versions_is_refused():
    with pytest.raises(
        ValueError, match=f"has torch {torch.__version__.split('+')[0]}.*, not 1.0: records would differ"
    ):
        Worker().ready({**versions(), "torch": "1.0"}, [None], None, None)


def test_an_address_where_nobody_listens_is_said_at_once():
    from thalweg.compare.execution.ray.connection import connect

    with socket.socket() as taken:  # bound and not listening: nobody else can
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(
            ValueError, match="there is no usable Ray cluster at 127.0.0.1:.*refused.*: pass the address"
        ):
            connect(f"127.0.0.1:{taken.getsockname()[1]}")


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"workers": 0}, "--ray-workers must be at least 1, not 0"),
        ({"cpus": 0}, "--ray-cpus must be more than 0, not 0"),
        ({"gpus": 1.5}, "--ray-gpus must be a share of one GPU or a whole number of them, not 1.5"),
    ],
)
def test_a_share_that_cannot_be_is_one_line(options, match):
    with pytest.raises(ValueError, match=match):
        Cluster(**options)


def test_a_workers_device_follows_its_share():
    assert [Cluster(gpus=g).device(asked) for g, asked in ((0, None), (0.5, None), (1, "cuda"))] == [
        "cpu",
        "cuda",
        "cuda",
    ]
    with pytest.raises(ValueError, match="--device cuda cannot be combined with --ray-gpus 0"):
        Cluster().device("cuda")


def test_without_ray_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ValueError, match=r"--engine ray needs more packages .*: pip install 'thalweg.ray.'"):
        thalweg.compare(small_task(), ["sgd"], engine="ray", out=tmp_path / "out", reporter=Reporter())
    assert not (tmp_path / "out").exists()


def test_a_cluster_for_another_engine_is_refused(tmp_path):
    with pytest.raises(ValueError, match="cluster requires engine='ray'"):
        thalweg.compare(small_task(), ["sgd"], engine="serial", cluster=Cluster(), out=tmp_path / "out")


@pytest.mark.parametrize("fails", [0, 2, 3])
def test_a_ray_that_gives_up_on_itself_is_started_again(monkeypatch, fails):
    from thalweg.compare.execution.ray import connection as ray_connection

    tries = []

    def init(*_, **__):
        tries.append(len(tries))
        if len(tries) <= fails:
            raise Exception("The current node timed out during startup. This could happen because of this and that.")

    monkeypatch.setattr(ray_connection.ray, "init", init)
    monkeypatch.setattr(ray_connection.ray, "shutdown", lambda: None)
    if fails < 3:
        ray_connection.connect(None)
    else:
        with pytest.raises(ValueError, match="machine .The current node timed out during startup.: use --engine auto"):
            ray_connection.connect(None)
    assert len(tries) == min(fails + 1, 3)
