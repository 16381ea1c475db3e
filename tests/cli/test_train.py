"""``thalweg train`` as a user meets it: files, resuming, exit codes, one line for what goes wrong."""

import json
import sys

import pytest
from safetensors.torch import load_file

from tests.cli.test_commands import USER
from tests.command import command
from thalweg.cli.main import run
from thalweg.compare.strategy.guidances import GUIDANCES

NOISY = """
import os, signal

def interrupted(output, target):
    if os.path.exists(os.environ.get("INTERRUPT_AT", "")):
        os.kill(os.getpid(), signal.SIGINT)
    return nn.functional.cross_entropy(output, target)

def noisy():
    model = lambda: nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 3))
    return thalweg.Task(model, *parts, interrupted, batch_size=20, name="noisy")

def model():
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3))

def guided():
    teacher = lambda: nn.Sequential(nn.Linear(6, 24), nn.ReLU(), nn.Linear(24, 3))
    inputs = thalweg.GuidanceInputs(teacher=teacher, hint="1", guided="1", source=guided)
    loss = nn.functional.cross_entropy
    return thalweg.Task(model, *parts, loss, batch_size=20, name="guided", guidance_inputs=inputs)
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    (tmp_path / "my.py").write_text(USER + NOISY)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def called(monkeypatch, *arguments):
    """Runs the command in this process; returns its exit code."""
    monkeypatch.setattr(sys, "argv", ["thalweg", *arguments])
    with pytest.raises(SystemExit) as caught:
        run()
    return caught.value.code or 0


@pytest.mark.parametrize(
    "strategy", ["adam+he@cosine", "nesterov+ema", "my.py:strategy", "my.py:tuned", "lbfgs", "torch.optim.Adagrad"]
)
def test_it_writes_weights_history_and_what_it_came_to(strategy, here, monkeypatch, capsys):
    options = ("--strategy", strategy, "--steps", "12", "--evaluate-every", "5", "--out", "o")
    assert called(monkeypatch, "train", "my.py:task", *options) == 0
    printed = capsys.readouterr().out
    assert "step 12: train loss" in printed
    assert "weights: o/model.safetensors" in printed
    record = json.loads((here / "o" / "history.json").read_text())
    assert [row["step"] for row in record["rows"]] == [5, 10, 12]
    assert record["rows"][-1]["valid_loss"] < 1.5
    assert f"test accuracy {record['test_accuracy']:.4g}" in printed
    assert set(load_file(here / "o" / "model.safetensors")) == {"weight", "bias"}
    assert (here / "o" / "model.safetensors").stat().st_mode == (here / "o" / "history.json").stat().st_mode


@pytest.mark.parametrize("guidance", GUIDANCES)
def test_a_guided_run_trains_its_stages_within_the_steps_and_resumes(guidance, here, monkeypatch):
    options = ("--strategy", f"adam+{guidance}", "--steps", "64", "--evaluate-every", "8")
    assert called(monkeypatch, "train", "my.py:guided", *options, "--out", "o") == 0
    record = json.loads((here / "o" / "history.json").read_text())
    names = list(dict.fromkeys(row["stage"] for row in record["rows"]))
    spent = sum(max(r["step"] for r in record["rows"] if r["stage"] == n) for n in names)
    assert spent <= 64
    assert len(names) == {"greedy": 3, "fitnet": 2, "smoothing": 2}.get(guidance, 1)
    weights = load_file(here / "o" / "model.safetensors")
    assert "0.weight" in weights
    assert called(monkeypatch, "train", "my.py:guided", *options, "--out", "o", "--resume") == 0
    again = load_file(here / "o" / "model.safetensors")
    assert all(weights[name].equal(again[name]) for name in weights)


def test_weight_decay_is_on_what_is_asked_for(here, monkeypatch):
    for decay in ("all", "weights"):
        options = ("--strategy", "adamw", "--set", "weight_decay=20", "--steps", "12", "--decay", decay, "--out", decay)
        assert called(monkeypatch, "train", "my.py:task", *options) == 0
        assert json.loads((here / decay / "history.json").read_text())["decay"] == decay
    one, other = (load_file(here / decay / "model.safetensors") for decay in ("all", "weights"))
    assert one["bias"].abs().sum() < 0.9 * other["bias"].abs().sum()


def test_hyperparameters_patience_accumulation_and_precision_are_heeded(here, monkeypatch):
    options = ("--strategy", "sgd", "--set", "lr=0", "--accumulate", "2", "--precision", "bfloat16", "--patience", "3")
    assert called(monkeypatch, "train", "my.py:task", *options, "--steps", "40", "--evaluate-every", "1") == 0
    record = json.loads((here / "thalweg-train-mine-b" / "history.json").read_text())
    assert record["hyperparameters"]["lr"] == 0
    assert len(record["rows"]) == 4  # the first accuracy is the best, three more do not better it
    assert [row["epoch"] for row in record["rows"]] == [1, 1, 1, 2]


@pytest.mark.parametrize("name", [".history.json.4242", ".checkpoint.pt.4242"])
def test_a_file_that_another_process_is_writing_is_no_run(name, here, monkeypatch):
    (here / "o").mkdir()
    (here / "o" / name).touch()
    assert called(monkeypatch, "train", "my.py:task", "--steps", "2", "--out", "o") == 0


def test_an_interrupted_run_goes_on_bit_for_bit(here, monkeypatch, capsys):
    words = ["train", "my.py:noisy", "--steps", "300", "--evaluate-every", "50"]
    done = command(*words, "--out", "cut", INTERRUPT_AT="cut/checkpoint.pt")
    assert done.returncode == 130, done.stderr
    assert "interrupted: --resume continues from cut" in done.stderr
    assert [p.name for p in (here / "cut").iterdir()] == ["checkpoint.pt"]
    assert called(monkeypatch, *words, "--out", "cut", "--resume") == 0
    assert "resumed at step" in capsys.readouterr().out
    assert called(monkeypatch, *words, "--out", "whole") == 0
    assert (here / "cut" / "model.safetensors").read_bytes() == (here / "whole" / "model.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("words", "needle"),
    [
        (["digts"], "unknown task 'digts': did you mean 'digits'"),
        (["my.py:task", "--strategy", "adm"], "did you mean 'adam'"),
        (["my.py:task", "--strategy", "adam@cosin"], "did you mean 'cosine'"),
        (["my.py:task", "--steps", "0"], "steps must be at least 1, not 0"),
        (["my.py:task", "--accumulate", "0"], "accumulate must be at least 1, not 0"),
        (["my.py:task", "--patience", "0"], "patience must be at least 1, not 0"),
        (["my.py:task", "--set", "mom=3"], "adam@cosine has no hyperparameter 'mom': choose among lr, beta1"),
        (["my.py:task", "--set", "lr=fast"], "--set 'lr=fast' does not give a number: write, for example, lr=0.01"),
        (["my.py:task", "--device", "teapot"], "use --device cpu"),
        (["my.py:task", "--out", "my.py"], "my.py is a file, not a folder"),
        (["my.py:task", "--out", "."], "is not empty and contains no run"),
        (["my.py:task", "--out", "o"], "o contains a run: continue it with --resume, or choose another --out"),
        (["my.py:task", "--out", "o", "--resume"], "o/checkpoint.pt is not a checkpoint of a training run"),
        (["my.py:task", "--strategy", "sgd", "--set", "lr=1e39", "--steps", "5"], "lower the learning rate"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(words, needle, here, monkeypatch, capsys):
    import torch

    (here / "o").mkdir()
    torch.save({}, here / "o" / "checkpoint.pt")
    assert called(monkeypatch, "train", *words) == 2
    error = capsys.readouterr().err
    assert needle in error
    assert len(error.strip().splitlines()) == 1
