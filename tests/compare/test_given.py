"""What a comparison and its strategies are given is checked before anything begins; one thing may stand for several."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

import thalweg
from tests.compare.small import small_task
from thalweg import Strategy

SGD = torch.optim.SGD
NAN, INF = float("nan"), float("inf")


def quick(out, strategies=("sgd",), **options):
    settings = {"trials": 1, "steps": 4, "seeds": 1, "engine": "serial", "out": out}
    return thalweg.compare(small_task(), strategies, **{**settings, **options})


SETTINGS = {
    "a default of NaN": ({"defaults": {"lr": NAN}}, "default of lr is nan: give a number"),
    "a default in words": ({"defaults": {"lr": 0.1, "foo": "x"}}, "default of foo is 'x': give a number"),
    "a default of 0": ({"defaults": {"lr": 0.0}}, "logarithmic scale, and its default is 0.0"),
    "no defaults": ({"defaults": None}, "defaults are None"),
    "a range without end": ({"space": {"lr": (0.1, INF)}}, "a bound of lr is inf"),
    "a range of words": ({"space": {"lr": ("a", "b")}}, "a bound of lr is 'a'"),
    "half a range": ({"space": {"lr": (0.1,)}}, "range of lr is .0.1,.: give .low, high"),
    "three bounds": ({"space": {"lr": [0.1, 0.2, 0.3]}}, "give .low, high"),
    "no ranges": ({"space": ["lr"]}, "space is .'lr'.: give"),
    "more than are tuned": ({"space": {f"a{i}": (0.1, 1.0) for i in range(9)}}, "9 hyperparameters .* at most 8"),
    "a schedule": ({"schedule_name": "cosin"}, "did you mean 'cosine'"),
}


@pytest.mark.parametrize(("settings", "match"), SETTINGS.values(), ids=SETTINGS)
def test_settings_of_a_strategy_that_cannot_be(settings, match):
    with pytest.raises(ValueError, match=f"strategy 'own': .*{match}"):
        Strategy("own", None, SGD, **settings)


def test_numbers_of_numpy_and_torch_are_numbers(tmp_path):
    defaults = {"lr": np.float32(0.125), "momentum": torch.tensor(0.5)}
    own = Strategy("own", None, SGD, defaults, {"lr": (np.float32(0.5), np.int64(1))})
    assert own.describe()["defaults"] == {"lr": 0.125, "momentum": 0.5}
    assert quick(tmp_path / "o", own).results["strategies"][0]["space"] == {"lr": [0.5, 1]}


GIVEN = {
    "no schedule": ({"strategies": ["adam@"]}, "a word is missing in 'adam@'"),
    "no word": ({"strategies": ["adam+"]}, "a word is missing"),
    "no word between": ({"strategies": ["adam++he@cosine"]}, "a word is missing"),
    "no optimizer": ({"strategies": ["@cosine"]}, "unknown strategy ''"),
    "a class": ({"strategies": [torch.optim.Adam]}, "is not a strategy: give its name, or a thalweg.Strategy"),
    "a number": ({"strategies": 3}, "strategies is 3: give a list"),
    "an engine": ({"engine": "x"}, "engine is 'x': choose among auto, lanes, serial, ray"),
    "no folder": ({"out": ""}, "out is empty: name a folder"),
    "a number as tracker": ({"log": [3]}, "log contains 3: give names of trackers"),
    "a tracker": ({"log": "tensorbord"}, "unknown tracker 'tensorbord'"),
    "gradients that are dense": (
        {"strategies": "torch.optim.SparseAdam"},
        "'torch.optim.SparseAdam' cannot step this model .* dense",
    ),
    "an argument": ({"strategies": Strategy("own", None, partial(SGD, foo=3))}, "'own' cannot step this model"),
}


@pytest.mark.parametrize(("options", "match"), GIVEN.values(), ids=GIVEN)
def test_what_cannot_be_compared_is_one_line(options, match, tmp_path):
    with pytest.raises(ValueError, match=match) as raised:
        quick(**{"out": tmp_path / "o", **options})
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("strategies", ["adam, sgd", ["adam", "sgd"], Strategy.parse("adam"), "adam"])
def test_one_strategy_and_a_text_of_several_are_understood(strategies, tmp_path):
    names = {s["name"] for s in quick(tmp_path / "o", strategies).results["strategies"]}
    assert names == ({"adam"} if strategies == "adam" or isinstance(strategies, Strategy) else {"adam", "sgd"})


TASKS = {
    "target in words": ({"target": "0.9"}, "target is '0.9': give a number"),
    "target NaN": ({"target": NAN}, "target is nan: give a number"),
    "metric": ({"metric": 3}, "metric is 3: give accuracy, r2, loss or a function"),
    "direction": ({"higher_is_better": "no"}, "higher_is_better is 'no': give True or False"),
    "name": ({"name": 5}, "the name of the task is 5"),
}


@pytest.mark.parametrize(("options", "match"), TASKS.values(), ids=TASKS)
def test_settings_of_a_task_that_cannot_be(options, match):
    with pytest.raises(ValueError, match=match):
        small_task(**options)


@pytest.mark.parametrize("given", [3, None, thalweg.Task, nn.Sequential(nn.Linear(1, 1))])
def test_what_is_no_task_is_one_line(given, tmp_path):
    with pytest.raises(ValueError, match="the task is a .*: give a thalweg.Task") as raised:
        thalweg.compare(given, ["sgd"], out=tmp_path / "o")
    assert "\n" not in str(raised.value)


def test_a_model_that_cannot_be_diagnosed_is_compared_and_the_report_says_why(monkeypatch, tmp_path):
    def refused(*given, **options):
        raise RuntimeError("hooks are not taken")

    monkeypatch.setattr("thalweg.compare.study.prepare.diagnose", refused)
    done = quick(tmp_path / "o")
    (found,) = done.results["diagnosis"]["findings"]
    assert (found["kind"], found["severity"]) == ("not diagnosed", "note")
    assert "RuntimeError: hooks are not taken" in found["meaning"]
    page = (tmp_path / "o" / "report.html").read_text()
    assert "not diagnosed" in page
    assert "hooks are not taken" in page
