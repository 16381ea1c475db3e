"""What the user's code does to the process: exits, errors of any kind, processes of its own, another current folder."""

import re
import signal
import subprocess
import sys

import pytest

from tests.cli.test_train import called
from tests.command import command
from thalweg.compare.execution.ray.worker import Worker
from thalweg.compare.strategy import Strategy, crossed
from thalweg.compare.task.loading import load_task
from thalweg.compare.user_errors import TaskError, user_errors

MY = """
import asyncio, atexit, os, posix, signal, sys, threading, torch, typer, thalweg
from torch import nn
from torch.utils.data import Dataset, TensorDataset

class Odd(BaseException):
    pass

class Unwritable(Exception):
    def __str__(self):
        raise RuntimeError

KINDS = {
    "exit": lambda: sys.exit(0), "words": lambda: sys.exit("done\\nwith it"), "none": sys.exit,
    "interrupt": lambda: raised(KeyboardInterrupt()), "generator": lambda: raised(GeneratorExit()),
    "odd": lambda: raised(Odd("\\033[31mred")), "unwritable": lambda: raised(Unwritable()),
    "typer": lambda: raised(typer.Exit(0)), "cancelled": lambda: raised(asyncio.CancelledError()),
    "value": lambda: raised(ValueError("")), "hard": lambda: os._exit(0),
    "posix": lambda: posix._exit(0), "exec": lambda: os.execv(sys.executable, [sys.executable, "-c", ""]),
    "path": lambda: os.execlp("true", "true"), "thread": lambda: threading.Thread(target=os._exit, args=(0,)).start(),
    "abort": os.abort, "end": lambda: signal.raise_signal(signal.SIGTERM),
    "handler": lambda: (signal.signal(signal.SIGTERM, lambda *_: sys.exit(0)), signal.raise_signal(signal.SIGTERM)),
    "late": lambda: (atexit.register(lambda: os._exit(0)), raised(ValueError("first"))),
    "kept": lambda: (atexit.register(os._exit, 0), raised(ValueError("first"))),
    "child": lambda: os.waitpid(os.fork() or os._exit(7), 0),
    "program": lambda: os.spawnlp(os.P_WAIT, "true", "true"),
}
CALLS = {}

def raised(error):
    raise error

def at(place, count=1):
    CALLS[place] = CALLS.get(place, 0) + 1
    if os.environ.get("PLACE") == place and CALLS[place] == count:
        KINDS[os.environ["KIND"]]()

at("import")
x = torch.randn(200, 6, generator=torch.Generator().manual_seed(0))
y = x[:, :3].argmax(dim=1)

class Rows(Dataset):
    def __len__(self):
        at("length")
        return 100

    def __getitem__(self, i):
        at("data", 50)
        return x[i], y[i]

class Model(nn.Linear):
    def forward(self, x):
        at("forward")
        return super().forward(x)

def model():
    at("model")
    return Model(6, 3)

def loss(output, target):
    at("loss")
    at("training", 100)
    return nn.functional.cross_entropy(output, target)

def metric(output, target):
    at("metric")
    return (output.argmax(1) == target).float().mean()

def task():
    at("task")
    rest = TensorDataset(x[100:150], y[100:150]), TensorDataset(x[150:], y[150:])
    return thalweg.Task(model, Rows(), *rest, loss, metric, batch_size=20, name="mine")

class Stepping(torch.optim.SGD):
    def step(self, closure=None):
        at("step", 30)
        return super().step(closure)

def strategy(params, lr=0.05):
    at("factory")
    return Stepping(params, lr=lr)
"""
FAST = ("--trials", "1", "--steps", "60", "--seeds", "2", "--engine", "serial", "--out", "o")
COMPARE = ("compare", "my.py:task", "--strategies", "sgd,my.py:strategy", *FAST, "--expect", "sgd ties strategy")
TRAIN = ("train", "my.py:task", "--strategy", "my.py:strategy", "--steps", "150", "--out", "t")
DIAGNOSE = ("diagnose", "my.py:task")
KINDS = ("words", "none", "interrupt", "generator", "odd", "unwritable", "typer", "cancelled", "value")
PLACES = ("import", "task", "length", "data", "model", "forward", "loss", "metric", "factory", "training", "step")


@pytest.fixture
def here(tmp_path, monkeypatch):
    (tmp_path / "my.py").write_text(MY)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("words", "kind", "place"),
    [
        *((COMPARE, "exit", place) for place in PLACES),
        *((TRAIN, "exit", place) for place in ("task", "training", "step")),
        *((DIAGNOSE, "exit", place) for place in ("task", "model", "forward")),
        *((COMPARE, kind, "task") for kind in KINDS),
        *((COMPARE, kind, "step") for kind in ("interrupt", "odd")),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else value,
)
def test_an_end_that_the_users_code_makes_is_no_success(words, kind, place, here, monkeypatch, capsys):
    monkeypatch.setenv("KIND", kind)
    monkeypatch.setenv("PLACE", place)
    assert called(monkeypatch, *words) == 2
    error = capsys.readouterr().err
    assert len(error.strip().splitlines()) == 1
    assert error.startswith("thalweg: ")
    assert "(my.py, line " in error
    assert "\033" not in error
    assert not (here / "o" / "results.json").exists()


@pytest.mark.parametrize(
    ("kind", "place", "by"),
    [
        ("hard", "step", r"os\._exit\(0\) \(my\.py"),
        ("hard", "import", r"os\._exit\(0\) \(my\.py"),
        ("posix", "model", r"os\._exit\(0\) \(my\.py"),
        ("exec", "import", r"os\.execv \(my\.py"),
        ("exec", "loss", r"os\.execv \(my\.py"),
        ("path", "model", r"os\.execv \(my\.py"),
        ("thread", "import", r"os\._exit\(0\) \("),
    ],
)
def test_an_exit_past_python_is_told_too(kind, place, by, here, monkeypatch):
    done = ended(kind, place, here, monkeypatch)
    assert done.returncode == 2
    assert re.match(rf"thalweg: the process was ended by {by}", done.stderr)
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("kind", "place", "code"),
    [
        ("abort", "loss", -signal.SIGABRT),
        ("end", "import", -signal.SIGTERM),
        ("end", "model", 143),
        ("end", "loss", 143),
        ("handler", "loss", 2),
    ],
)
def test_a_signal_of_the_users_code_is_no_success(kind, place, code, here, monkeypatch):
    assert ended(kind, place, here, monkeypatch).returncode == code


def ended(kind, place, here, monkeypatch):
    """Returns what a comparison came to that the user's code has ended before the verdict."""
    monkeypatch.setenv("KIND", kind)
    monkeypatch.setenv("PLACE", place)
    done = command(*COMPARE)
    assert "verdict" not in done.stdout
    assert "report:" not in done.stdout
    assert not (here / "o" / "results.json").exists()
    return done


@pytest.mark.parametrize("kind", ["late", "kept"])
def test_an_exit_that_waits_for_the_end_of_python_hides_no_failure(kind, here, monkeypatch):
    monkeypatch.setenv("KIND", kind)
    monkeypatch.setenv("PLACE", "import")
    done = subprocess.run([sys.executable, "-m", "thalweg", *COMPARE], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("thalweg: my.py raises ValueError: first (my.py, line ")


@pytest.mark.parametrize("kind", ["child", "program"])
def test_child_processes_end_as_they_like(kind, here, monkeypatch):
    monkeypatch.setenv("KIND", kind)
    monkeypatch.setenv("PLACE", "model")
    done = command(*COMPARE)
    assert (done.returncode, done.stderr) == (0, "")
    assert (here / "o" / "results.json").exists()


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_an_exit_in_a_ray_worker_reaches_the_driver_as_a_line(kind):
    def end():
        raise kind

    worker = Worker()
    worker.end = end
    with pytest.raises(TaskError, match=r"\(test_user_code.py, line \d+\): correct it"):
        worker.do(1, "end")


def test_lines_of_thalwegs_own_stay_as_they_are():
    with pytest.raises(TaskError, match="^the model raises ValueError: no message"), user_errors("the model"):
        raise ValueError
    with pytest.raises(ValueError, match="^unknown schedule 'x'"), user_errors("the model"):
        Strategy.parse("adam@x")


PROCESSES = """
import multiprocessing, os, torch, thalweg
from concurrent.futures import ProcessPoolExecutor
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset
{imports} import twice

os.chdir("/")

def label(i):
    return twice(i) // 2 % 3

class Rows(Dataset):
    def __len__(self):
        return 60

    def __getitem__(self, i):
        return torch.full((6,), float(i)), label(i)

def task():
    context = multiprocessing.get_context(os.environ["METHOD"])
    if os.environ["HOW"] == "pool":
        with context.Pool(1) as pool:
            y = pool.map(label, range(60))
    elif os.environ["HOW"] == "futures":
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            y = list(pool.map(label, range(60)))
    else:
        y = [label for _, label in DataLoader(Rows(), None, num_workers=1, multiprocessing_context=context)]
    assert y == [i % 3 for i in range(60)]
    parts = [TensorDataset(torch.randn(60, 6), torch.tensor(y))] * 3
    return thalweg.Task(lambda: nn.Linear(6, 3), *parts, nn.functional.cross_entropy, batch_size=20, name="mine")
"""


@pytest.mark.parametrize(
    ("how", "method", "imports"),
    [
        ("pool", "fork", "from beside"),
        ("pool", "spawn", "from beside"),
        ("futures", "forkserver", "from beside"),
        ("loader", "spawn", "from .beside"),
    ],
)
def test_processes_of_the_users_code_find_what_it_defines(how, method, imports, tmp_path, monkeypatch):
    folder = tmp_path / "a+b@c"
    folder.mkdir()
    file = folder / ("my.task.py" if imports == "from beside" else "my.py")
    file.write_text(PROCESSES.format(imports=imports))
    (folder / "beside.py").write_text("def twice(i):\n    return 2 * i\n")
    if imports == "from .beside":
        (folder / "__init__.py").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOW", how)
    monkeypatch.setenv("METHOD", method)
    assert load_task(f"{folder.name}/{file.name}:task").name == "mine"


MOVING = """
import os, torch, thalweg
from pathlib import Path

os.chdir(Path(__file__).parent / "elsewhere")

def strategy(params, lr=0.05):
    return torch.optim.SGD(params, lr=lr)
"""


def test_paths_start_from_where_the_command_was_given(here, monkeypatch, capsys):
    (here / "elsewhere").mkdir()
    (here / "moving.py").write_text(MOVING)
    words = [w.replace("my.py:strategy", "moving.py:strategy") for w in COMPARE]
    assert called(monkeypatch, *words, "--log", "tensorboard=runs") == 0
    assert "report: o/report.html" in capsys.readouterr().out
    monkeypatch.chdir(here)
    words = ["train", "my.py:task", "--strategy", "moving.py:strategy", "--steps", "4", "--out", "t"]
    assert called(monkeypatch, *words) == 0
    assert {path.name for path in here.iterdir()} >= {"o", "t", "runs"}
    assert list((here / "elsewhere").iterdir()) == []


def test_a_file_in_any_folder_is_one_strategy_and_its_folder_no_part_of_the_study(tmp_path):
    found = []
    for name in ("c++", "a@b"):
        file = tmp_path / name / "my.py"
        file.parent.mkdir()
        file.write_text("import torch\n\ndef slow(params, lr=0.1):\n    return torch.optim.SGD(params, lr)\n")
        (text,) = crossed([f"{file}:slow@cosine"], {"initialization": ["he"]})
        found.append(Strategy.parse(text).describe())
    assert found[0] == found[1]
    assert found[0]["optimizer"] == "my.slow"
    assert (found[0]["initialization"], found[0]["schedule"]) == ("he", "cosine")
