"""Disks, pipes and folders that take nothing, numbers out of range, names that a terminal would obey: a line each."""

import ctypes
import errno
import os
import sqlite3
import subprocess
import sys

import pytest
import torch
from torch import nn

from tests.cli.test_commands import USER
from tests.cli.test_train import called
from tests.command import command
from tests.compare.small import parts
from tests.serve.synthetic import design, make
from thalweg import Strategy, Task
from thalweg.cli.export import _tabled
from thalweg.compare.comparison import Comparison
from thalweg.compare.storage.errors import fault
from thalweg.compare.storage.store import Store
from thalweg.compare.task import build_model, materialize
from thalweg.compare.user_errors import StudyError, TaskError
from thalweg.tensors.files import FileError, check_writable, write_text

HUGE = "9" * 20
LONG = "x" * 300
SMALL = ("--strategies", "sgd", "--trials", "1", "--steps", "9", "--seeds", "2")
COMPARE = ("compare", "my.py:task", *SMALL, "--out", "o")


@pytest.fixture
def here(tmp_path, monkeypatch):
    (tmp_path / "my.py").write_text(USER)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def obey_modes():
    """Lets the modes of folders count for this process, though it may be root's."""
    head, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert ctypes.CDLL(None).capget(head, sets) == 0
    sets[0] &= ~(1 << 1)  # CAP_DAC_OVERRIDE, of those in effect
    assert ctypes.CDLL(None).capset(head, sets) == 0


@pytest.mark.parametrize("words", [["--help"], ["list", "schedules"], ["export", "s"]], ids=" ".join)
@pytest.mark.parametrize("kind", ["full", "closed"])
def test_an_output_that_takes_nothing(kind, words, here):
    make(here / "s", names=("sgd", "adam"))
    if kind == "full":
        done = command(*words, out="/dev/full")
        assert done.returncode == 2
        line = "thalweg: cannot write to standard output (No space left on device): redirect it, or free some space"
        assert done.stderr.strip() == line
    else:
        reader, writer = os.pipe()
        os.close(reader)
        done = subprocess.run(
            [sys.executable, "-m", "thalweg", *words], stdout=writer, stderr=subprocess.PIPE, text=True
        )
        os.close(writer)
        assert (done.returncode, done.stderr) == (141, "")


def test_a_finished_study_in_a_folder_that_cannot_be_written_is_told(here, monkeypatch, capsys):
    assert called(monkeypatch, *COMPARE) == 0
    verdict = Comparison.open("o").verdict
    (here / "o" / "report.html").unlink()
    (here / "o").chmod(0o500)
    for words, code in ((COMPARE, 0), (("report", "o"), 2), (("report", "o", "--to", "."), 0)):
        done = command(*words, before=obey_modes)
        assert done.returncode == code, done.stderr
        assert verdict in done.stdout.replace("\n", " ")
        assert "damaged" not in done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        if "--to" not in words:
            assert "cannot write" in done.stdout + done.stderr
    assert (here / "report.html").is_file()
    done = command("diagnose", "my.py:task", "--out", "o/page.html", before=obey_modes)
    assert done.returncode == 2
    assert "page.html (Permission denied): choose another place" in done.stderr
    (here / "o").chmod(0o700)


@pytest.mark.parametrize(
    ("name", "write", "words"),
    [
        ("SQLITE_FULL", True, "cannot write to .*: free some space or choose another --out"),
        ("SQLITE_READONLY", True, "cannot write to"),
        ("SQLITE_IOERR_WRITE", True, "cannot write to"),
        ("SQLITE_CANTOPEN", True, "cannot write to"),
        ("SQLITE_PERM", False, "cannot read .*: check its permissions"),
        ("SQLITE_IOERR_READ", False, "cannot read"),
        ("SQLITE_FULL", False, "cannot read"),
        ("SQLITE_BUSY", False, "cannot read"),
        ("SQLITE_CORRUPT", False, "is damaged"),
        ("SQLITE_NOTADB", True, "is damaged"),
        ("SQLITE_IOERR_SHORT_READ", False, "is damaged"),
        ("SQLITE_ERROR", False, "is damaged"),
    ],
)
def test_what_the_system_refuses_is_no_damage(name, write, words, tmp_path):
    error = sqlite3.OperationalError("as SQLite says")
    error.sqlite_errorcode = getattr(sqlite3, name)
    with pytest.raises(StudyError, match=words):
        raise fault(tmp_path, error, write)


@pytest.mark.parametrize("number", [errno.EIO, errno.EDQUOT, errno.ENOSPC, errno.EROFS])
def test_a_disk_that_fails_while_a_report_is_written_is_no_damage(number, tmp_path, monkeypatch):
    make(tmp_path / "s", names=("sgd", "adam"))

    def refuse(file):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(FileError, match=rf"cannot write .*results.json \({os.strerror(number)}\)"):
        Comparison.open(tmp_path / "s", write=True)
    assert [path.name for path in (tmp_path / "s").iterdir()] == ["study.sqlite"]


def test_a_file_that_is_there_already_is_not_written_again(tmp_path, monkeypatch):
    write_text("words", tmp_path / "file")
    monkeypatch.setattr(os, "replace", None)
    write_text("words", tmp_path / "file")
    check_writable(tmp_path / ("a" * 250))
    with pytest.raises(FileError, match="no UTF-8"):
        check_writable(tmp_path / os.fsdecode(b"\xff"))


NUMBERS = [
    (["compare", "--trials", "1000000000"], "trials must be at most 100,000"),
    (["compare", "--seeds", HUGE], "seeds must be at most 100,000"),
    (["compare", "--steps", HUGE], "steps must be at most 10,000,000"),
    (["compare", "--seed", HUGE], "seed must be at most"),
    (["compare", "--trials", "many"], "'--trials'"),
    (["compare", "--memory", "infG"], "write, for example, 500M or 4G"),
    (["compare", "--trial-seconds", "nan"], "trial_seconds must be a number above 0"),
    (["compare", "--trial-seconds", "inf"], "trial_seconds must be a number above 0"),
    (["compare", "--ray-cpus", "nan", "--engine", "ray"], "--ray-cpus must be more than 0"),
    (["train", "--steps", HUGE], "steps must be at most"),
    (["train", "--steps", "-1"], "steps must be"),
    (["train", "--patience", HUGE], "patience must be at most"),
    (["train", "--accumulate", HUGE], "accumulate must be at most"),
    (["train", "--evaluate-every", "0"], "evaluate-every must be at least 1"),
    (["train", "--seed", f"-{HUGE}"], "seed must be at least"),
    (["train", "--set", "lr=nan"], "--set 'lr=nan' does not give a finite number"),
    (["train", "--set", "lr=inf"], "--set 'lr=inf' does not give a finite number"),
    (["diagnose", "--seed", HUGE], "seed must be at most"),
    (["sparse-code", "x.npy", "--alpha", "nan"], "alpha"),
    (["sparse-code", "x.npy", "--atoms", HUGE], "atoms must be at most"),
    (["sparse-code", "x.npy", "--seed", HUGE], "seed must be at most"),
    (["serve", "--port", "99999"], "'--port'"),
    (["comprae"], "Did you mean 'compare'"),
    (["diagnose", "--out", "no/page.html"], "cannot write"),
    (["diagnose", "--out", f"{LONG}.html"], "File name too long"),
    (["compare", *COMPARE[1:-1], LONG], "File name too long"),
    (["train", "my.py:task", "--out", LONG], "File name too long"),
    (["report", LONG], "File name too long"),
    (["export", LONG], "File name too long"),
    (["serve", LONG], "File name too long"),
    (["compare", f"{LONG}.py:task"], "there is no file"),
    (["compare", *COMPARE[1:-1], os.fsdecode(b"\xff")], "no UTF-8"),
    (["train", "my.py:task", "--out", os.fsdecode(b"\xff")], "no UTF-8"),
    (["diagnose", "--out", os.fsdecode(b"\xff")], "no UTF-8"),
]


@pytest.mark.parametrize(("words", "needle"), NUMBERS, ids=[" ".join(words)[:40] for words, _ in NUMBERS])
def test_what_is_out_of_range_is_a_line_before_anything_is_done(words, needle, here, monkeypatch, capsys):
    assert called(monkeypatch, *words) == 2
    error = capsys.readouterr().err
    assert needle in error
    assert len(error.strip().splitlines()) == 1
    assert [path.name for path in here.iterdir() if path.name != "__pycache__"] == ["my.py"]


BAD_NAMES = ["", " ", "a\nb", "\033[31mred", "a\tb", "a\rb", "\u202eabc", "a\u2028b", "\udcff", "\x9b31m"]


@pytest.mark.parametrize("name", BAD_NAMES, ids=ascii)
def test_a_name_that_cannot_be_shown_is_refused(name, tmp_path):
    with pytest.raises(ValueError, match="^the name of a strategy is .*: choose one of printable") as raised:
        Strategy(name, factory=torch.optim.SGD)
    assert str(raised.value).isprintable()
    with pytest.raises(ValueError, match="^the name of the task is"):
        Task(lambda: nn.Linear(6, 3), *parts(), nn.functional.cross_entropy, name=name)
    with pytest.raises(StudyError, match="damaged or not a study .the name of the task is"):
        Store.resume_or_create(tmp_path / "s", design(("sgd", "adam"), task=name))
    with pytest.raises(StudyError, match="damaged or not a study .the name of the task is"):
        Store.open(tmp_path / "s")


def test_what_the_users_code_says_is_shown_and_not_obeyed(here, monkeypatch, capsys):
    (here / "my.py").write_text("raise RuntimeError('\\033[31mred \\u202e \\x9b2J')")
    assert called(monkeypatch, "diagnose", "my.py:task") == 2
    assert r"RuntimeError: \x1b[31mred \u202e \x9b2J (my.py, line 1)" in capsys.readouterr().err


def test_cells_that_spreadsheets_would_compute_stay_text(tmp_path):
    bad = ["=1+1", "+1", "-1", "@x", "\tx", "\rx", "x\033"]
    record = dict.fromkeys(("rung", "key", "status", "steps", "seed", "test"), -1.5) | {"curve": {}}
    _tabled([record | {"strategy": text, "hyper": {}} for text in bad], "csv", tmp_path / "table.csv")
    lines = (tmp_path / "table.csv").read_text().splitlines()[1:]
    assert [line.split(",")[2] for line in lines] == ["'=1+1", "'+1", "'-1", "'@x", r"'\tx", r"'\rx", r"x\x1b"]
    assert all(line.startswith("-1.5,") for line in lines)


def test_lazy_models_take_their_sizes_from_the_first_examples(monkeypatch):
    def model():
        return nn.Sequential(nn.LazyLinear(12), nn.LazyBatchNorm1d(), nn.Tanh(), nn.LazyLinear(3))

    task = Task(model, *parts(), nn.functional.cross_entropy, batch_size=20, name="lazy")
    materialize(task)
    torch.manual_seed(3)
    one = build_model(task)
    torch.manual_seed(3)
    two = build_model(task)
    assert [tuple(p.shape) for p in one.parameters()] == [(12, 6), (12,), (12,), (12,), (3, 12), (3,)]
    assert all(map(torch.equal, one.state_dict().values(), two.state_dict().values()))
    assert one.training
    assert torch.equal(one[1].running_mean, torch.zeros(12))
    held = nn.Sequential(nn.LazyLinear(3))
    assert build_model(Task(held, *parts(), nn.functional.cross_entropy, batch_size=20))[0].weight.shape == (3, 6)
    assert type(held[0]) is nn.LazyLinear
    with pytest.raises(TaskError, match="copying the task's model raises ValueError: .*: give a function"):
        build_model(Task(model(), *parts(), nn.functional.cross_entropy, batch_size=20))


def test_a_lazy_layer_that_no_batch_reaches_is_a_line():
    class Unused(nn.Linear):
        def __init__(self):
            super().__init__(6, 3)
            self.other = nn.LazyLinear(3)

    with pytest.raises(TaskError, match="other.weight has no shape after a batch"):
        build_model(Task(Unused, *parts(), nn.functional.cross_entropy, batch_size=20))
