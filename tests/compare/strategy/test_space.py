"""What is searched and what is set of a strategy: any hyperparameter that has an effect, under either spelling."""

import re

import pytest
import torch

import thalweg
from tests.compare.small import job, small_task, task_context
from thalweg import OneOf, Range, Strategy
from thalweg.compare.execution.lanes import Lanes
from thalweg.compare.execution.serial import Serial
from thalweg.compare.strategy.hyperparameters import initial_values
from thalweg.compare.strategy.options import with_options
from thalweg.compare.strategy.tuned import MORE
from thalweg.compare.user_errors import StudyError
from thalweg.rules import RULES, SPACES, Adam

OTHER = {  # values beside the defaults
    "lr": 0.03,
    "momentum": 0.7,
    "dampening": 0.2,
    "weight_decay": 0.03,
    "lr_decay": 0.1,
    "eps": 1e-3,
    "rho": 0.8,
    "alpha": 0.9,
    "beta1": 0.8,
    "beta2": 0.9,
    "momentum_decay": 0.05,
    "beta3": 0.97,
    "alpha_warmup": 4.0,
    "beta3_warmup": 4.0,
    "warmup_steps": 4.0,
    "r": 1.0,
    "weight_lr_power": 1.0,
    "trust_coefficient": 0.01,
    "d0": 1e-4,
    "d_coef": 0.5,
    "growth_rate": 1.5,
    "shampoo_beta": 0.8,
    "precondition_frequency": 3,
    "schedule.warmup": 0.2,
    "schedule.floor": 0.3,
}


def quiet(steps):
    """No progress."""


def quick(out, strategies, **options):
    settings = {"trials": 4, "steps": 9, "seeds": 2, "engine": "serial", "out": out}
    return thalweg.compare(small_task(), strategies, **{**settings, **options})


def refused(call, *words):
    with pytest.raises(ValueError) as caught:  # noqa: PT011  (the words are looked for)
        call()
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in words), message


@pytest.mark.parametrize("name", RULES)
def test_every_hyperparameter_of_every_rule_changes_a_run_and_lanes_do_what_serial_does(name):
    strategy, context = Strategy.parse(f"{name}@cosine"), task_context(small_task(torch.float64))
    if name.startswith("schedule-free"):  # whose weights differ only where the learning rate grows
        strategy = strategy.with_settings({"schedule.warmup": 0.4})
    if "precondition_frequency" in initial_values(strategy):  # which is more than the steps of this run
        strategy = strategy.with_settings(precondition_frequency=2)
    changed = [strategy.with_settings({n: OTHER[n.removeprefix("adamw_")]}) for n in initial_values(strategy)]
    jobs = [job(s, key=str(i), stop=6, total=9, evaluate_every=6) for i, s in enumerate([strategy, *changed])]
    alone = Serial(context).run(jobs, quiet)
    stacked = Lanes(context, 4, compile_=False).run(jobs, quiet)
    assert len({tuple(result.curve.valid_loss) for result in alone}) == len(jobs) > 4
    for one, two in zip(alone, stacked, strict=True):
        assert one.curve.valid_loss == pytest.approx(two.curve.valid_loss, rel=1e-8)


def test_either_spelling_names_one_hyperparameter():
    rule, factory = Strategy.parse("adamw"), Strategy.parse("torch.optim.AdamW")
    for name in ("beta2", "betas.1"):
        assert list(rule.with_space({name: (0.9, 0.999)}).space) == ["lr", "beta2"]
        found = factory.with_space({name: (0.9, 0.999)})
        assert list(found.space) == ["lr", "betas.1"]
        assert (found.defaults["betas.0"], found.defaults["betas.1"]) == (0.9, 0.999)
    assert list(Strategy.parse("adam@cosine").with_space({"warmup": (0, 0.2)}).space) == ["lr", "schedule.warmup"]


def test_the_scale_is_the_one_that_is_named_or_the_usual_one():
    space = (
        Strategy.parse("adamw@cosine")
        .with_space(weight_decay=(1e-4, 1e-1), beta1="0.5:0.99:linear", eps="1e-8|1e-4", warmup="0:0.2")
        .space
    )
    assert space["weight_decay"] == (1e-4, 1e-1)
    assert space["beta1"] == Range(0.5, 0.99, "linear")
    assert space["eps"] == OneOf((1e-8, 1e-4))
    assert space["schedule.warmup"] == Range(0, 0.2, "linear")


def test_the_order_in_which_ranges_are_given_changes_nothing():
    adam, one, two = Strategy.parse("adam"), {"beta2": (0.9, 0.99)}, {"beta1": (0.8, 0.9), "lr": (1e-4, 1e-2)}
    spaces = [adam.with_space({**one, **two}), adam.with_space({**two, **one}), adam.with_space(one).with_space(two)]
    assert all(list(s.space.items()) == list(spaces[0].space.items()) for s in spaces)
    assert list(spaces[0].space) == ["lr", "beta1", "beta2"]


def test_what_is_set_is_not_searched():
    strategy = Strategy.parse("adam+curriculum").with_settings(lr=0.01, over=0.3)
    assert strategy.space == {}
    assert (strategy.defaults["lr"], strategy.defaults["over"]) == (0.01, 0.3)
    assert Strategy.parse("adam").with_settings(beta2=0.99).default_configuration()["beta2"] == 0.99
    assert Strategy.parse("torch.optim.SGD").with_settings(nesterov="true", momentum=0.9).defaults["nesterov"] is True


def test_a_range_of_a_guidance_can_be_another():
    strategy = Strategy.parse("adam+smoothing").with_space(sigma=(1e-2, 1e-1))
    assert strategy.space["sigma"] == (1e-2, 1e-1)


def test_a_rules_own_values_stand_in_for_what_is_not_given(tmp_path):
    own = Strategy("own", Adam(), space={"weight_decay": (1e-5, 1e-2)})
    assert own.default_configuration() == {**Adam.defaults, "weight_decay": pytest.approx(10**-3.5)}
    (found,) = quick(tmp_path / "o", own).results["strategies"]
    assert set(found["hyperparameters"]) == set(Adam.defaults)
    refused(lambda: Strategy("own", Adam(), space={"bta1": (0.1, 0.9)}), "no hyperparameter 'bta1'", "mean 'beta1'")
    refused(lambda: Strategy("own", Adam(), defaults={"rho": 0.1}), "strategy 'own'", "no hyperparameter 'rho'")


REFUSED = {
    "an unknown name": ("adamw", {"weight_decai": (1e-4, 1e-1)}, "has no hyperparameter", "mean 'weight_decay'"),
    "one without effect": ("sgd", {"momentum": (0.5, 0.9)}, "sgd does not use momentum", "momentum or nesterov"),
    "of another shape": ("adam@constant", {"floor": (0.0, 0.1)}, "has no hyperparameter 'floor'"),
    "an empty range": ("adam", {"lr": (0.1, 0.1)}, "the range of lr must be 0 < low < high, not (0.1, 0.1)"),
    "turned around": ("adam", {"lr": "1e-1:1e-4"}, "the range of lr must be 0 < low < high"),
    "log from 0": ("adam", {"eps": "0:1:log"}, "must be 0 < low < high", "from 0 on, a range can be linear"),
    "β of 1": ("adam", {"beta2": (0.9, 1.0)}, "range (0.9, 1.0) of adam's beta2", "must be in [0, 1)"),
    "negative": ("adam", {"weight_decay": (-1.0, 1.0)}, "adam's weight_decay is not possible", "-1.0"),
    "all warm-up": ("adam@cosine", {"warmup": (0.0, 1.0)}, "warmup must be a number in [0, 1)"),
    "no range": ("adam", {"lr": "0.1"}, "write LOW:HIGH"),
    "no number": ("adam", {"lr": "a:b"}, "a bound of lr is 'a': write a finite number"),
    "no scale": ("adam", {"lr": "1:2:cubic"}, "write LOW:HIGH"),
    "one value": ("adam", {"eps": "1|1"}, "two or more different values"),
    "no whole ends": ("lbfgs", {"max_iter": "2.5:9:whole"}, "must have whole numbers"),
    "twice": ("adam", {"beta1": (0.5, 0.9), "betas.0": (0.5, 0.9)}, "adam's beta1 is given twice"),
    "of a class": ("torch.optim.SGD", {"momentun": (0.5, 0.9)}, "mean 'momentum'"),
    "too many": ("nadam@linear", dict.fromkeys(OTHER.keys() - {"lr"}, (0.1, 0.2)), "nadam@linear"),
}


@pytest.mark.parametrize(("name", "ranges", "words"), [(n, r, w) for n, r, *w in REFUSED.values()], ids=REFUSED)
def test_what_cannot_be_searched_is_one_line(name, ranges, words):
    refused(lambda: Strategy.parse(name).with_space(ranges), *words)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"beta3": 0.9}, ["no hyperparameter 'beta3'", "mean 'beta"]),
        ({"beta1": 1.0}, ["value 1.0 of adam's beta1 is not possible"]),
        ({"lr": "fast"}, ["'fast': write a finite number"]),
        ({"lr": None}, ["give a number"]),
    ],
)
def test_what_cannot_be_set_is_one_line(settings, words):
    refused(lambda: Strategy.parse("adam").with_settings(settings), *words)


def test_a_study_searches_within_its_spaces_and_tells_them(tmp_path):
    strategies = [
        Strategy.parse("adamw@cosine").with_space(weight_decay=(1e-4, 1e-1), warmup=(0, 0.5), eps="1e-8|1e-4"),
        Strategy.parse("momentum").with_settings(momentum=0.95),
    ]
    done = quick(tmp_path / "o", strategies, steps=30, trials=8)
    found = {s["name"]: s for s in done.results["strategies"]}
    assert found["adamw@cosine"]["space"]["weight_decay"] == [1e-4, 1e-1]
    assert found["adamw@cosine"]["space"]["schedule.warmup"] == [0, 0.5, "linear"]
    assert found["adamw@cosine"]["space"]["eps"] == {"values": [1e-8, 1e-4]}
    assert (found["momentum"]["fixed"]["momentum"], found["momentum"]["space"]) == (0.95, {"lr": [1e-4, 1.0]})
    for run in found["adamw@cosine"]["runs"]:
        hyper = run["hyperparameters"]
        assert 1e-4 <= hyper["weight_decay"] <= 1e-1
        assert 0 <= hyper["schedule.warmup"] <= 0.5
        assert hyper["eps"] in (1e-8, 1e-4)
    assert done.results["budget"]["warmup"] == 15  # of the longest that is searched, inside which no run is stopped
    page = (tmp_path / "o" / "report.html").read_text()
    assert "schedule.warmup 0 to 0.5 (linear)" in page
    row = re.search(r'<tr><th scope="row">momentum</th>(<td data-title="searched".*?)</tr>', page)[1]
    assert re.sub(r"<.*?>", "", row).startswith("lr 0.0001 to 1 momentum 0.95")
    again = quick(tmp_path / "o", strategies, steps=30, trials=8)
    assert again.results["pairs"] == done.results["pairs"]
    with pytest.raises(
        StudyError, match="space adamw@cosine.schedule.warmup is 0:0.5:linear there and 0:0.4:linear here"
    ):
        quick(tmp_path / "o", [strategies[0].with_space(warmup=(0, 0.4)), strategies[1]], steps=30, trials=8)


def test_spaces_are_written_for_a_strategy_or_for_all_that_have_an_optimizer():
    parsed = [Strategy.parse(name) for name in ("adam+he", "adam+orthogonal", "torch.optim.SGD", "adam@cosine")]
    one, two, sgd, cosine = with_options(
        parsed, ["adam.betas.1=0.9:0.99", "torch.optim.SGD.momentum=0:0.9"], ["adam@cosine.warmup=0.1"]
    )
    assert list(one.space) == list(two.space) == ["lr", "beta2"]
    assert sgd.space["momentum"] == Range(0, 0.9, "one-minus")
    assert list(cosine.space) == ["lr", "beta2"]
    assert cosine.defaults["schedule.warmup"] == 0.1


@pytest.mark.parametrize(
    ("spaces", "settings", "words"),
    [
        (["adm.beta2=0.9:0.99"], [], ["no strategy 'adm' in this study", "mean 'adam'"]),
        (["adam"], [], ["write --space STRATEGY.HYPERPARAMETER=LOW:HIGH"]),
        ([], ["adam.beta2="], ["write --set STRATEGY.HYPERPARAMETER=NUMBER"]),
        (["adam.beta2=0.9:0.99"], ["adam.betas.1=0.9"], ["adam's beta2 is both searched (--space) and set (--set)"]),
        (["adam.beta2=0.9:0.99", "adam.beta2=0.8:0.99"], [], ["--space adam.beta2 is given twice"]),
        (["adam.nu=1:2"], [], ["adam has no hyperparameter 'nu'"]),
    ],
)
def test_options_that_cannot_be_are_one_line(spaces, settings, words):
    refused(lambda: with_options([Strategy.parse("adam"), Strategy.parse("sgd")], spaces, settings), *words)


def test_a_switch_brings_its_own_ranges():
    strategy = Strategy.parse("momentum+lookahead").more_tuned()
    assert set(strategy.space) == {"lr", "momentum", "lookahead_steps", "lookahead_alpha"}
    assert Strategy.parse("ademamix").with_settings(alpha=8).defaults["alpha"] == 8


@pytest.mark.parametrize("name", RULES)
def test_more_is_tuned_of_what_has_a_published_space(name):
    strategy = Strategy.parse(name).more_tuned()
    assert set(strategy.space) == {*SPACES[name], *MORE.get(name, {})}
    assert strategy.defaults == Strategy.parse(name).defaults
    if MORE.get(name):
        kept, *_ = MORE[name]
        value = 0.5 * strategy.defaults[kept] or 0.01
        assert kept not in Strategy.parse(name).with_settings({kept: value}).more_tuned().space


def test_more_is_tuned_in_a_study(tmp_path):
    done = quick(tmp_path / "o", ["adamw", "sgd"], tune="more")
    spaces = {s["name"]: list(s["space"]) for s in done.results["strategies"]}
    assert spaces == {"adamw": ["lr", "beta1", "weight_decay"], "sgd": ["lr"]}
    refused(lambda: quick(tmp_path / "p", ["adamw"], tune="most"), "tune is 'most': use 'more'")


def test_an_end_that_a_factory_refuses_ends_no_study_midway(tmp_path):
    sgd = Strategy.parse("torch.optim.SGD").with_space(weight_decay="-1:0.1:linear")
    refused(lambda: quick(tmp_path / "o", sgd), "'torch.optim.SGD' cannot step this model", "weight_decay=-1")
    assert not (tmp_path / "o").exists()


def test_epochs_are_as_many_steps_as_they_have_whole_batches(tmp_path):
    done = quick(tmp_path / "o", ["sgd"], steps=None, epochs=3, trials=1)
    assert done.results["budget"]["steps"] == 3 * (100 // 20)
    refused(lambda: quick(tmp_path / "p", ["sgd"], epochs=3), "steps and epochs each say how long runs are")
    refused(lambda: quick(tmp_path / "p", ["sgd"], steps=None, epochs=0), "epochs must be at least 1")
