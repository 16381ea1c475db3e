"""The command line as a user meets it: what it prints, its exit codes, one line for what goes wrong."""

import csv
import io
import json
import signal
import subprocess
import sys
from itertools import combinations

import pytest

from tests.command import command
from tests.schemas import printed
from tests.waiting import LONG, until
from thalweg import __version__
from thalweg.compare.strategy import DEFAULT_STRATEGIES

USER = """
import torch
from torch import nn
from torch.utils.data import TensorDataset
import thalweg

x = torch.randn(200, 6, generator=torch.Generator().manual_seed(0))
y = x[:, :3].argmax(dim=1)
parts = [TensorDataset(x[i:j], y[i:j]) for i, j in ((0, 100), (100, 150), (150, 200))]

def task():
    return thalweg.Task(lambda: nn.Linear(6, 3), *parts, nn.functional.cross_entropy, batch_size=20, name="mine<b>")

def raising():
    raise RuntimeError("out of cheese")

def strategy(params, lr=0.05):
    return torch.optim.RAdam(params, lr=lr)

tuned = thalweg.Strategy("tuned", factory=torch.optim.SGD, defaults={"lr": 0.1}, space={"lr": (1e-3, 1.0)})
"""
LOUD = """
def task():
    os.system("echo NOISE")
    sys.stdout.close()
    sys.stdout = None
    return my.task()
"""
FAST = ["--trials", "2", "--steps", "20", "--seeds", "8"]
COMPARE = ["compare", "my.py:task", "--strategies", "sgd,my.py:strategy,my.py:tuned", *FAST, "--out", "o"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("cli")
    (path / "my.py").write_text(USER)
    done = command(
        "compare", "my.py:task", "--strategies", "sgd,my.py:strategy,my.py:tuned", *FAST, "--out", "o", cwd=path
    )
    assert done.returncode == 0, done.stderr
    (path / "printed").write_text(done.stdout)
    return path


def test_compare_prints_engines_budget_table_verdict_and_where_the_report_is(folder):
    printed = (folder / "printed").read_text()
    for words in (
        "measuring how fast each engine trains",
        "engine for",
        "gradient evaluations per strategy",
        "interval",
        "report: o/report.html",
        "strategy",
    ):
        assert words in printed
    verdict = json.loads((folder / "o" / "results.json").read_text())["verdict"]
    assert verdict["use"] in verdict["sentence"]
    assert " ".join([*verdict["details"], "report:"]) in " ".join(printed.split())
    assert " ".join(printed.split()).endswith(f"report: o/report.html {verdict['sentence']}")
    for name in ("study.sqlite", "results.json", "report.html"):
        assert (folder / "o" / name).is_file()


def test_json_alone_goes_to_standard_output_whatever_the_task_prints_by_whom_and_does_to_it(folder):
    (folder / "loud.py").write_text("import os, sys\nimport my\n" + LOUD)
    done = command(
        "compare", "loud.py:task", "--strategies", "sgd", "--trials", "1", "--steps", "6", "--seeds", "2", "--engine",
        "serial", "--out", "loud", "--json", cwd=folder,
    )  # fmt: skip
    assert json.loads(done.stdout)["task"]["name"] == "mine<b>", done.stderr
    assert "NOISE" in done.stderr


def test_json_alone_goes_to_standard_output(folder):
    done = command(
        "compare",
        "my.py:task",
        "--strategies",
        "sgd,my.py:strategy,my.py:tuned",
        *FAST,
        "--out",
        "o",
        "--json",
        cwd=folder,
    )
    assert printed("compare", done.stdout) == json.loads((folder / "o" / "results.json").read_text())
    assert "report:" in done.stderr


def test_expectations_gate_by_exit_code(folder):
    pairs = json.loads((folder / "o" / "results.json").read_text())["pairs"]
    pair = next(p for p in pairs if {p["a"], p["b"]} == {"sgd", "tuned"})
    holds = {None: "sgd ties tuned", "sgd": "sgd beats tuned", "tuned": "tuned beats sgd"}[pair["better"]]
    assert pair["better"] in (None, pair["a"] if pair["difference"] > 0 else pair["b"])
    for text in ("sgd ties tuned", "sgd beats tuned", "tuned beats sgd"):
        done = command(*COMPARE, "--expect", text, cwd=folder)
        assert done.returncode == (0 if text == holds else 1), done.stderr
        assert ("does not meet" in done.stderr) == (text != holds)


def test_initializations_are_crossed_with_strategies(folder):
    small = ("--trials", "1", "--seeds", "2", "--steps", "6", "--engine", "serial", "--json")
    alone = command("compare", "breast-cancer", "--initializations", "he,sparse", "--out", "i1", *small, cwd=folder)
    assert {s["name"] for s in printed("compare", alone.stdout)["strategies"]} == {"adam+he", "adam+sparse"}
    axes = ("--strategies", "sgd@cosine,adam+he", "--initializations", "orthogonal,sparse")
    both = command("compare", "breast-cancer", *axes, "--out", "i2", *small, cwd=folder)
    names = {"sgd+orthogonal@cosine", "sgd+sparse@cosine", "adam+he"}
    assert {s["name"] for s in json.loads(both.stdout)["strategies"]} == names
    wrong = command("compare", "breast-cancer", "--initializations", "orthogonl", cwd=folder)
    assert wrong.returncode == 2
    assert "did you mean 'orthogonal'?" in wrong.stderr


def test_the_default_strategies_when_given_are_all_crossed(tmp_path):
    words = ["compare", "breast-cancer", "--averaging", "none,ema", "--expect", "nobody beats adam"]
    given = command(*words, "--strategies", ",".join(DEFAULT_STRATEGIES), cwd=tmp_path)
    left_out = command(*words, cwd=tmp_path)
    for done, has_sgd in ((given, True), (left_out, False)):
        assert done.returncode == 2
        assert "adam+ema" in done.stderr
        assert ("sgd+ema" in done.stderr) == has_sgd


def test_report_and_export_read_the_store_alone(folder):
    (folder / "o" / "report.html").unlink()
    done = command("report", "o", cwd=folder)
    assert done.returncode == 0
    assert (folder / "o" / "report.html").stat().st_size > 1_000_000
    rows = list(csv.DictReader(io.StringIO(command("export", "o", cwd=folder).stdout)))
    data = json.loads(command("export", "o", "--format", "json", cwd=folder).stdout)
    assert len(rows) == sum(max(1, len(r["curve"]["step"])) for r in data)
    assert {r["strategy"] for r in rows} == {"sgd", "strategy", "tuned"}
    assert set(rows[0]) >= {"rung", "key", "strategy", "seed", "status", "step", "valid_metric", "hyper.lr"}
    hyper = [name.startswith("hyper.") for name in rows[0]]
    assert hyper == [False] * 7 + [True] * sum(hyper) + [False] * (len(hyper) - 7 - sum(hyper))


def test_report_judges_equivalence_within_another_margin(folder):
    (folder / "wide").mkdir()
    done = command("report", "o", "--within", "2", "--to", "wide", cwd=folder)
    assert done.returncode == 0, done.stderr
    before, after = (json.loads((folder / place / "results.json").read_text()) for place in ("o", "wide"))
    assert after["verdict"].pop("margin") == 2  # an accuracy cannot differ by more than 1
    assert before["verdict"].pop("margin") < 1
    candidates = after["verdict"]["candidates"]
    assert after["verdict"].pop("equivalent") == [[a, b] for a, b in combinations(candidates, 2)]
    assert after["verdict"]["candidates"] == before["verdict"]["candidates"]
    assert after["pairs"] == before["pairs"]
    refused = command("report", "o", "--within", "0", cwd=folder)
    assert refused.returncode == 2
    assert "within must be a number above 0" in refused.stderr


def test_export_to_parquet(folder):
    parquet = pytest.importorskip("pyarrow.parquet")
    done = command("export", "o", "--format", "parquet", "--to", "o.parquet", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert parquet.read_table(folder / "o.parquet").num_rows > 10
    refused = command("export", "o", "--format", "parquet", cwd=folder)
    assert refused.returncode == 2
    assert "name one with --to" in refused.stderr


@pytest.mark.parametrize(
    ("words", "needle"),
    [
        (["list", "tasks"], "breast-cancer"),
        (["list", "strategies"], "rmsprop-nesterov"),
        (["list"], "warmup-cosine"),
        (["list", "initializations"], "orthogonal"),
        (["--help"], "compare"),
        (["compare", "--help"], "Example: thalweg compare"),
        (["export", "--help"], "Example: thalweg export"),
        (["report", "--help"], "Example: thalweg report"),
        (["list", "--help"], "Example: thalweg list"),
        (["--version"], __version__),
    ],
)
def test_help_and_lists(words, needle):
    done = command(*words)
    assert done.returncode == 0
    assert needle in done.stdout.replace("`", "")


@pytest.mark.parametrize(
    ("words", "needle"),
    [
        (["compare", "digts"], "unknown task 'digts': did you mean 'digits'"),
        (["compare", "--strategies", "adm"], "did you mean 'adam'"),
        (["compare", "--strategies", ""], "no strategies"),
        (["compare", "--trials", "0"], "trials must be at least 1, not 0"),
        (["compare", "--trials", "-3"], "trials must be at least 1, not -3"),
        (["compare", "--steps", "0"], "steps must be at least 1"),
        (["compare", "--seeds", "0"], "seeds must be at least 1"),
        (["compare", "--memory", "lots"], "write, for example, 500M or 4G"),
        (["compare", "--device", "teapot"], "use --device cpu"),
        (["compare", "--expect", "adam wins"], 'write "adam beats sgd"'),
        (["compare", "nowhere.py:task"], "there is no file nowhere.py"),
        (["compare", "my.py:raising"], "RuntimeError: out of cheese (my.py, line 15)"),
        (["compare", "my.py:tsk"], "did you mean 'task'"),
        (
            ["compare", "my.py:task", "--steps", "13", "--out", "o"],
            "steps is 20 there and 13 here; seeds is 8 there and 10 here: choose another --out",
        ),
        (["compare", "my.py:task", "--out", "my.py"], "is a file, not a folder"),
        (["compare", "my.py:task", "--out", "."], "not empty and contains no study"),
        (["compare", "my.py:task", "--out", "/proc/nowhere"], "cannot write to"),
        (["report", "nowhere"], "contains no study"),
        (["export", "nowhere"], "contains no study"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(folder, words, needle):
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file() and "__pycache__" not in str(p)}
    done = command(*words, cwd=folder)
    assert done.returncode == 2, done.stdout + done.stderr
    assert needle in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert "Traceback" not in done.stdout + done.stderr
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file() and "__pycache__" not in str(p)} == before


def test_a_shell_completes_commands_and_options(tmp_path):
    asked = {"_THALWEG_COMPLETE": "complete_bash", "COMP_WORDS": "thalweg compare --stra", "COMP_CWORD": "2"}
    assert command(cwd=tmp_path, **asked).stdout.split() == ["--strategies"]


def test_importing_is_quick_and_loads_nothing_heavy():
    heavy = ("scipy", "sklearn", "plotly", "pooch", "jinja2", "pyarrow", "starlette", "uvicorn")
    code = f"import sys, thalweg, thalweg.cli.main; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_an_interrupted_study_says_that_nothing_is_lost(tmp_path):
    (tmp_path / "my.py").write_text(USER)
    words = ["compare", "my.py:task", "--strategies", "sgd", "--steps", "20000", "--engine", "serial", "--out", "o"]
    process = subprocess.Popen(
        [sys.executable, "-m", "thalweg", *words],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # also where these run behind
    )
    until(lambda: (tmp_path / "o" / "study.sqlite").exists() or process.poll() is not None)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=LONG)
    assert process.returncode == 130, errors
    assert errors.strip() == "interrupted: no finished trial is lost, and the same command resumes the study"
