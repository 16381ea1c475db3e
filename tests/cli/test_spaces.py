"""Search spaces, settings and the length of runs as the command line gives them."""

import json

import pytest

from tests.cli.test_commands import USER
from tests.cli.test_train import called

COMPARE = ("compare", "my.py:task", "--trials", "2", "--seeds", "2", "--engine", "serial", "--out", "o")


@pytest.fixture
def here(tmp_path, monkeypatch):
    (tmp_path / "my.py").write_text(USER)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_what_is_searched_and_set_is_in_the_results(here, monkeypatch):
    words = ("--strategies", "adamw@cosine,sgd", "--tune", "more", "--epochs", "2")
    spaces = ("--space", "adamw@cosine.betas.1=0.9:0.99", "--space", "adamw.warmup=0:0.2", "--set", "sgd.lr=0.25")
    assert called(monkeypatch, *COMPARE, *words, *spaces) == 0
    found = {s["name"]: s for s in json.loads((here / "o" / "results.json").read_text())["strategies"]}
    assert found["adamw@cosine"]["space"] == {
        "lr": [1e-5, 0.1],
        "beta1": [0.5, 0.98, "one-minus"],
        "beta2": [0.9, 0.99, "one-minus"],
        "schedule.warmup": [0, 0.2, "linear"],
        "weight_decay": [0.005, 1.0],
    }
    assert (found["sgd"]["space"], found["sgd"]["fixed"]["lr"]) == ({}, 0.25)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--set", "sgd.momentum=0.95"), "sgd does not use momentum: give it to momentum or nesterov"),
        (("--space", "adam.weight_decai=1e-4:1"), "adam has no hyperparameter 'weight_decai': did you mean"),
        (("--space", "adma.beta2=0.9:0.99"), "there is no strategy 'adma' in this study: did you mean 'adam'?"),
        (("--space", "adam.beta2=0.99:0.9"), "the range of beta2 must be low < high < 1, not (0.99, 0.9)"),
        (("--steps", "9", "--budget", "1min"), "steps and budget each say how long runs are: omit all but one"),
    ],
)
def test_what_cannot_be_is_one_line_and_begins_no_study(words, line, here, monkeypatch, capsys):
    assert called(monkeypatch, *COMPARE, "--strategies", "adam,sgd", *words) == 2
    said = capsys.readouterr().err.strip()
    assert line in said
    assert "\n" not in said
    assert not (here / "o").exists()
