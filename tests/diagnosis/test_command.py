"""``thalweg diagnose`` as a user meets it: the table, the JSON, exit codes."""

import pytest

from tests.command import command
from tests.schemas import printed

USER = """
import torch
from torch import nn
from torch.utils.data import TensorDataset
import thalweg

data = TensorDataset(torch.randn(40, 6), torch.arange(40) % 3)

def model():
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    nn.init.constant_(net[0].bias, -100.0)
    return net

def task():
    return thalweg.Task(model, data, data, data, nn.functional.cross_entropy, batch_size=20, name="dead[b]")

def small():
    return thalweg.Task(lambda: nn.Linear(5, 3), data, data, data, nn.functional.cross_entropy, batch_size=20)
"""


def diagnosed(*words, cwd=None):
    return command("diagnose", *words, cwd=cwd, columns=100)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "my.py").write_text(USER)
    return tmp_path


def test_a_sound_task_prints_a_table_of_notes():
    done = diagnosed("digits")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].split() == ["severity", "finding", "layer", "figure", "threshold", "meaning"]
    table = done.stdout.split("\n\n")[0]
    assert {line.split()[0] for line in table.splitlines()[1:]} == {"note"}
    assert done.stderr == ""


def test_json_names_the_vanishing_signal_of_the_deep_task():
    done = diagnosed("digits-deep", "--json", "--seed", "3")
    assert done.returncode == 0, done.stderr
    report = printed("diagnose", done.stdout)
    assert report["task"] == "digits-deep"
    assert set(report["findings"][0]) == {"kind", "severity", "layer", "figure", "threshold", "meaning", "fix", "safe"}
    signal = next(f for f in report["findings"] if f["kind"] == "vanishing signal")
    assert signal["severity"] == "error"
    assert 2 <= int(signal["layer"]) <= 12
    assert diagnosed("digits-deep", "--json", "--seed", "3").stdout == done.stdout


def test_a_task_of_the_users_own(folder):
    done = diagnosed("my.py:task", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert any(line.startswith("error     dead units") for line in done.stdout.splitlines())


@pytest.mark.parametrize(
    ("words", "needle"),
    [
        (["digts"], "unknown task 'digts': did you mean 'digits'"),
        (["nowhere.py:task"], "there is no file nowhere.py"),
        (["my.py:small"], "the batch does not fit the model"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(folder, words, needle):
    done = diagnosed(*words, cwd=folder)
    assert done.returncode == 2
    assert needle in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_fix_says_what_it_did_and_out_writes_a_page(tmp_path):
    page = tmp_path / "page.html"
    done = diagnosed("digits-deep", "--fix", "--out", str(page))
    assert done.returncode == 0, done.stderr
    first, *_ = done.stdout.splitlines()
    assert first.startswith("fixed: vanishing signal (8): thalweg.initialization.scale_by_data(")
    assert not any(line.startswith(("error", "warning")) for line in done.stdout.splitlines())
    text = page.read_text()
    assert "No problem was found." in text
    assert "Learning-rate range" in text
    assert diagnosed("digits", "--out", str(tmp_path / "nowhere" / "page.html")).returncode == 2


def test_help_has_an_example():
    done = diagnosed("--help")
    assert done.returncode == 0
    assert "Example: thalweg diagnose" in done.stdout.replace("`", "")
