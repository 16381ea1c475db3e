"""``thalweg gate`` as a user meets it: sides in processes of their own, exit codes, JSON, what goes wrong in a line."""

import json
import os
import signal
import subprocess
import sys

import pytest

from tests.cli.test_train import called
from tests.command import command
from tests.schemas import printed
from tests.waiting import LONG, until
from thalweg.compare.gate.process import ProcessSide
from thalweg.compare.gate.side import ChangedError, Measure, Recipe
from thalweg.compare.user_errors import TaskError

SIDE = """
import os, signal, sys
import torch
from torch import nn
from torch.utils.data import TensorDataset
import thalweg
from width import WIDTH

print("NOISE")
x = torch.randn(200, 6, generator=torch.Generator().manual_seed(0))
y = x[:, :3].argmax(dim=1)
parts = [TensorDataset(x[i:j], y[i:j]) for i, j in ((0, 100), (100, 150), (150, 200))]
torch.set_default_dtype(torch.float64 if WIDTH == 7 else torch.float32)
ENDS = {1: lambda: sys.exit("over"), 2: lambda: os.kill(os.getpid(), signal.SIGKILL)}

def task():
    model = lambda: nn.Sequential(nn.Linear(6, WIDTH), nn.Tanh(), nn.Linear(WIDTH, 3))
    return thalweg.Task(model, *parts, nn.functional.cross_entropy, batch_size=20, name="mine", steps=20)

def train(run):
    if run.steps == 20:
        ENDS.get(run.seed, lambda: None)()
    model = nn.Linear(6, 3)
    optimizer = run.optimizer(model)
    for a, b in run.batches([(x[:20], y[:20])]):
        loss = nn.functional.cross_entropy(model(a), b)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        run.loss(loss)
        if run.due:
            run.report(valid={"loss": loss.item()})
    run.report(test={"loss": loss.item()})

def leaving():
    os._exit(9)
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    for name, width in (("before", 4), ("after", 30), ("double", 7)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "side.py").write_text(SIDE)
        (tmp_path / name / "width.py").write_text(f"WIDTH = {width}\n")
    rows = [{"seed": s, "accuracy": 0.90 + 0.002 * (s % 3)} for s in range(6)]
    more = [{"seed": s, "accuracy": 0.93 + 0.002 * (s % 2)} for s in range(6)]
    for name, own in (("a", rows), ("b", more)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in own))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def side(here):
    made = []

    def make(task, name="candidate", **options):
        made.append(ProcessSide(name, Recipe(task, "sgd", **options), Measure(device="cpu"), here))
        return made[-1]

    yield make
    for one in made:
        one.close()


def ignore(steps):
    return None


RECORDS = ("gate", "--records", "a.jsonl", "b.jsonl")
BACKWARDS = ("gate", "--records", "b.jsonl", "a.jsonl")


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (RECORDS, 0),
        (BACKWARDS, 4),
        (("gate", "--records", "a.jsonl", "a.jsonl"), 3),
        ((*RECORDS, "--within", "0.5"), 3),
        ((*RECORDS, "--expect", "better"), 0),
        ((*RECORDS, "--expect", "equal"), 1),
        ((*RECORDS, "--expect", "not-worse", "--within", "0.001"), 0),
        ((*BACKWARDS, "--expect", "not-worse", "--within", "0.001"), 1),
        ((*BACKWARDS, "--lower-is-better"), 0),
    ],
)
def test_the_exit_code_is_the_answer_or_whether_the_expectation_holds(words, code, here, monkeypatch, capsys):
    assert called(monkeypatch, *words) == code
    printed = capsys.readouterr()
    assert printed.out.startswith({0: "Better", 1: "", 3: "Equal", 4: "Worse"}[code])
    assert ("do not meet the expectation" in printed.err) == (code == 1)


def test_few_runs_are_not_decided(here, monkeypatch, capsys):
    lines = (here / "a.jsonl").read_text().splitlines()
    (here / "c.jsonl").write_text("\n".join(lines[:3]))
    assert called(monkeypatch, "gate", "--records", "a.jsonl", "c.jsonl") == 5
    assert "it takes at least 4 paired runs" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("gate",), "--baseline is missing: name a task"),
        (("gate", "--baseline", "digits"), "--candidate is missing"),
        ((*RECORDS, "--baseline", "digits"), "--records are runs that were made already, and --baseline says how"),
        ((*RECORDS, "--steps", "3"), "and --steps says how"),
        (("gate", "--baseline", "a.jsonl", "--candidate", "digits"), "one side is given as records"),
        ((*RECORDS, "--within", "0"), "within must be a number above 0, not 0"),
        ((*RECORDS, "--within", "nan"), "within must be a number above 0"),
        ((*RECORDS, "--expect", "best"), "expect is 'best': use better, not-worse, equal"),
        ((*RECORDS, "--expect", "not-worse"), "needs within (--within)"),
        ((*RECORDS, "--metric", "loss"), "a.jsonl, line 1 has no 'loss'"),
        (("gate", "--records", "a.jsonl", "none.jsonl"), "none.jsonl (No such file or directory)"),
        (("gate", "--baseline", "digits", "--candidate", "digits", "--set", "lr"), "--set 'lr' is not understood"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(words, line, here, monkeypatch, capsys):
    assert called(monkeypatch, *words) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith("thalweg: ")
    assert line in said


def test_json_alone_goes_to_standard_output(here):
    done = command(*RECORDS, "--json", "--expect", "equal")
    assert done.returncode == 1
    found = printed("gate", done.stdout)
    assert (found["answer"], found["exit_code"], found["difference"]["low"] > 0) == ("better", 0, True)


@pytest.mark.slow
def test_sides_of_two_folders_train_apart_with_modules_of_one_name(here):
    words = ("gate", "--baseline", "before/side.py:task", "--candidate", "after/side.py:task", "--out", "o")
    done = command(*words, "--strategy", "sgd", "--candidate-set", "lr=0.3", "--seeds", "1", "--json")
    assert done.returncode == 5, done.stderr
    found = printed("gate", done.stdout)
    assert "NOISE" in done.stderr
    one, two = (found["sides"][name] for name in ("baseline", "candidate"))
    assert (one["task"]["parameters"], two["task"]["parameters"]) == (7 * 4 + 5 * 3, 7 * 30 + 31 * 3)
    assert sorted(two["sources"]) == ["after/side.py", "after/width.py"]
    assert two["strategy"]["defaults"]["lr"] == 0.3
    (here / "after" / "width.py").write_text("WIDTH = 31\n")
    again = command(*words, "--strategy", "sgd", "--candidate-set", "lr=0.3", "--seeds", "1")
    assert again.returncode == 2
    assert "the gate of something else (candidate's sources, candidate's task differ)" in again.stderr


@pytest.mark.slow
def test_whatever_a_side_does_to_its_process_is_a_failed_run_and_the_next_one_is_trained(here, side):
    one = side("before/side.py:train", steps=20)
    assert one.facts["task"]["metric"] == "loss"
    whys = [one.run(seed, ignore).why for seed in (1, 2, 4)]
    assert whys == [
        "the training loop calls sys.exit('over') (side.py, line 14)",
        "it ended its process by SIGKILL",
        "",
    ]
    assert one.run(4, ignore).score == one.run(4, ignore).score != one.run(5, ignore).score
    (here / "before" / "side.py").write_text(SIDE + "\n# a change\n")
    with pytest.raises(
        ChangedError, match=r"side\.py of the candidate has changed since the gate began: start the gate"
    ):
        one.run(6, ignore)


@pytest.mark.slow
def test_a_side_that_ends_its_process_while_it_is_loaded_is_refused(side):
    with pytest.raises(
        TaskError, match="^the candidate ended its process with code 9 while it was loaded: correct it$"
    ):
        _ = side("before/side.py:leaving").facts


@pytest.mark.slow
def test_a_gate_that_is_ended_leaves_no_process_and_goes_on(here):
    words = ["gate", "--baseline", "before/side.py:task", "--candidate", "after/side.py:task", "--out", "o"]
    words += ["--steps", "100000"]
    running = subprocess.Popen(
        [sys.executable, "-m", "thalweg", *words], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    until((here / "o" / "design.json").exists)
    children = children_of(running.pid)
    assert len(children) == 2
    running.send_signal(signal.SIGTERM)
    _, errors = running.communicate(timeout=LONG)
    assert running.returncode == 143
    assert errors.strip().endswith("no finished run is lost, and the same command resumes the gate")
    until(lambda: not any(map(is_alive, children)))


def children_of(process):
    with open(f"/proc/{process}/task/{process}/children") as file:
        return [int(child) for child in file.read().split()]


def is_alive(process):
    return os.path.exists(f"/proc/{process}")
