"""A folder with another study is refused in a line that names what differs, as the user has said it."""

import copy
from pathlib import Path

import pytest

from tests.compare.small import small_task
from thalweg.compare.storage.differences import different, in_a_line
from thalweg.compare.strategy import Strategy
from thalweg.compare.study.config import StudyConfig, parsed
from thalweg.compare.study.prepare import prepare

WORDS = "sgd,adamw@warmup-cosine,lbfgs"


def design(task=None, strategies=WORDS, tune=None, **options):
    given = {"trials": 4, "steps": 30, "seeds": 3, "engine": "serial", "device": "cpu", **options}
    return prepare(StudyConfig(task or small_task(), parsed(strategies, Path(), tune), **given)).design()


@pytest.fixture(scope="module")
def held():
    return design()


def adamw(**settings):
    space = settings.pop("space", {})
    own = Strategy.parse("adamw@warmup-cosine").with_settings(settings).with_space(space)
    return [Strategy.parse("sgd"), own, Strategy.parse("lbfgs")]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"steps": 40}, "steps is 30 there and 40 here"),
        ({"trials": 5}, "trials is 4 there and 5 here"),
        ({"seeds": 2}, "seeds is 3 there and 2 here"),
        ({"steps": 40, "seed": 1}, "steps is 30 there and 40 here; seed is 0 there and 1 here"),
        ({"until": "decided"}, "until is not given there and decided here"),
        ({"decay": "weights"}, "decay is all there and weights here"),
        ({"within": 0.01}, "within is not given there and 0.01 here"),
        ({"judge": "time-to-target"}, "judge is metric there and time-to-target here"),
        ({"engine": "auto"}, "engine is serial there and auto here"),
        ({"target": 0.9}, "target is not given there and 0.9 here"),
        ({"no_decay": True}, "no-decay is not given there and on here"),
        ({"accumulate": 2}, "accumulate is not given there and 2 here"),
        ({"precision": "bf16"}, "precision is not given there and bf16 here"),
        ({"strategies": "sgd,adamw@warmup-cosine"}, "strategies are sgd, adamw@warmup-cosine, lbfgs there and sgd,"),
        (
            {"strategies": adamw(space={"lr": (1e-4, 1e-2)})},
            "space adamw@warmup-cosine.lr is 1e-05:0.1 there and 0.0001:0.01 here",
        ),
        (
            {"strategies": adamw(space={"beta1": "0.5:0.9"})},
            "space adamw@warmup-cosine.beta1 is not given there and 0.5:0.9:one-minus here",
        ),
        (
            {"strategies": adamw(weight_decay=0.1)},
            "set adamw@warmup-cosine.weight_decay is 0.01 there and 0.1 here",
        ),
        (
            {"strategies": [*adamw(weight_decay=0.1), Strategy.parse("adam")]},
            "lbfgs, adam here; set adamw@warmup-cosine.weight_decay is 0.01 there and 0.1 here",
        ),
        ({"task": small_task(name="large")}, "task is small there and large here"),
        ({"task": small_task(batch_size=10)}, "the batch size is 20 there and 10 here"),
        ({"task": small_task(metric="loss")}, "metric is accuracy there and loss here"),
    ],
)
def test_what_the_user_gave_is_named_with_both_values(held, asked, said):
    line = in_a_line(different(held, design(**asked)))
    assert said in line
    assert "\n" not in line


def test_a_task_with_other_weights_says_so(held):
    other = copy.deepcopy(held)
    other["task"]["digest"] = "0" * 64
    assert "the digest of data, starting weights and code is" in in_a_line(different(held, other))


def leaves(value, path=()):
    if isinstance(value, dict) and value:
        for name in value:
            yield from leaves(value[name], (*path, name))
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for i, one in enumerate(value):
            yield from leaves(one, (*path, i))
    else:
        yield path


def changed(design, path):
    """Returns the design with another value at a path."""
    other = copy.deepcopy(design)
    *outer, last = path
    at = other
    for name in outer:
        at = at[name]
    value = at[last]
    if isinstance(value, list):
        at[last] = [*value, 7]
    else:
        at[last] = not value if isinstance(value, bool) else value + 1 if isinstance(value, (int, float)) else "other"
    return other


def test_no_part_of_a_design_can_differ_unsaid(held):
    """Each is changed by itself; what follows from others is said where nothing else differs."""
    parts = list(leaves(held))
    assert {("seed",), ("task", "digest"), ("strategies", 0, "space", "lr"), ("budget", "warmup")} < {*parts}
    for path in parts:
        found = different(held, changed(held, path))
        if path == ("budget", "trial_seconds"):
            assert not found
            continue
        assert len(found) == 1, path
        line = in_a_line(found)
        assert " there and " in line, path
        assert "\n" not in line
        assert len(line) < 260, line


def test_what_follows_from_the_budget_is_not_said_beside_it(held):
    assert in_a_line(different(held, design(steps=60))) == "steps is 30 there and 60 here"


def test_many_differences_are_counted(held):
    line = in_a_line(different(held, design(steps=40, trials=5, seeds=2, seed=1, decay="weights", within=0.1)))
    assert line.endswith("; 2 more differ")


def test_long_values_are_shown_where_they_differ(held):
    def deep():
        from torch import nn

        return nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 12), nn.Tanh(), nn.Linear(12, 3))

    line = in_a_line(different(held, design(small_task(model=deep))))
    assert "the number of parameters is 123 there and 279 here; model is …" in line
    assert len(line) < 300


@pytest.mark.parametrize("norm", [1, 1.0, 2.5])
def test_a_clip_of_the_gradient_is_part_of_what_a_study_is(norm):
    plain, clipped = design(strategies="sgd"), design(strategies="sgd", clip_norm=norm)
    assert in_a_line(different(plain, clipped)) == f"clip-norm is not given there and {norm} here"
