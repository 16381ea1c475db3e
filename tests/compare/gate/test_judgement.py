"""The answer from runs: better, worse, equal or not decided, and what failures, copies and constants do to it."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thalweg.compare.gate.judgement import check_runs, judge
from thalweg.compare.gate.result import Gate, meets
from thalweg.compare.gate.runs import Run
from thalweg.compare.user_errors import TaskError

GOOD = [0.90, 0.91, 0.895, 0.905, 0.902, 0.908, 0.899, 0.911]


def runs(scores, traced=False, **more):
    return [
        Run(i, x, "finished" if x is not None else "failed", "" if x is not None else "it raises KeyError: 'x'",
            trace=f"{x}" if traced else "", **more)
        for i, x in enumerate(scores)
    ]  # fmt: skip


def shifted(scores, by):
    return [x + by for x in scores]


def test_a_clear_gain_is_better_and_the_other_way_round_worse():
    one, two = runs(GOOD), runs(shifted(GOOD[::-1], 0.05))
    assert judge(one, two, "max").answer == "better"
    assert judge(two, one, "max").answer == "worse"
    assert judge(one, two, "min").answer == "worse"
    assert judge(one[:3], two[:3], "max").answer == "not decided"


def test_runs_inside_the_margin_are_equal_and_without_a_margin_not_decided():
    one, two = runs(GOOD), runs(GOOD[::-1])
    assert judge(one, two, "max").answer == "not decided"
    assert judge(one, two, "max", within=0.03).answer == "equal"
    assert judge(one, two, "max", within=0.001).answer == "not decided"


def test_a_gain_that_is_small_beside_the_margin_is_equal():
    one, two = runs(GOOD), runs(shifted(GOOD, 0.002))
    assert judge(one, two, "max").answer == "better"
    assert judge(one, two, "max", within=0.03).answer == "equal"


@settings(max_examples=25)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=12), st.sampled_from([0.1, None]))
def test_the_answer_turns_round_with_the_metric(pairs, within):
    x, y = ([round(v, 2) for v in side] for side in zip(*pairs, strict=True))
    one = judge(runs(x), runs(y), "max", within)
    two = judge(runs([-v for v in x]), runs([-v for v in y]), "min", within)
    assert (one.answer, one.gain) == (two.answer, two.gain)


def test_a_candidate_that_always_fails_is_worse_and_a_baseline_that_does_lets_it_be_better():
    one, two = runs(GOOD[:4]), runs([None] * 4)
    found = judge(one, two, "max")
    assert (found.answer, found.by_failures, found.failed) == ("worse", True, (0, 4))
    assert judge(two, one, "max").answer == "better"
    assert judge(one[:3], two[:3], "max").answer == "not decided"


@pytest.mark.parametrize("at", [0, 4, 7])
def test_a_candidate_that_fails_more_often_is_neither_better_nor_equal(at):
    two = shifted(GOOD, 0.05)
    two[at] = None
    assert judge(runs(GOOD), runs(two), "max").answer == "not decided"
    assert judge(runs(GOOD), runs([None if x is None else x - 0.05 for x in two]), "max", 0.03).answer == "not decided"
    lost = [None if i == 1 else x for i, x in enumerate(GOOD)]
    assert judge(runs(lost), runs(two), "max").answer == "better"
    assert judge(runs(two), runs(lost), "max").answer == "worse"


def test_runs_that_learn_nothing_have_failed():
    two = [*GOOD[:6], 0.1, 0.11]
    found = judge(runs(GOOD, untrained=0.1), runs(two, untrained=0.1), "max")
    assert (found.failed, found.untaught) == ((0, 2), 2)
    assert judge(runs(GOOD), runs(two), "max").failed == (0, 0)  # who knows


def test_copies_are_equal_at_once_where_learning_curves_are_known():
    found = judge(runs(GOOD[:2], traced=True), runs(GOOD[:2], traced=True), "max")
    assert (found.answer, found.identical) == ("equal", True)
    assert judge(runs(GOOD[:1], traced=True), runs(GOOD[:1], traced=True), "max").answer == "not decided"
    assert judge(runs(GOOD[:3]), runs(GOOD[:3]), "max").answer == "not decided"
    assert judge(runs(GOOD[:4]), runs(GOOD[:4]), "max").identical


def test_scores_of_few_values_that_agree_are_no_copies_yet():
    coarse = [1.0, 1.0, 0.975, 1.0, 1.0]
    assert not judge(runs(coarse), runs(coarse), "max").identical


def test_the_runs_of_a_seed_that_agree_to_the_last_bit_but_one_are_not_identical():
    two = [*GOOD[:-1], GOOD[-1] + 1e-12]
    assert not judge(runs(GOOD), runs(two), "max").identical


@pytest.mark.parametrize(
    ("one", "two", "words"),
    [
        ([None] * 3, [None] * 3, "all 3 runs of both sides failed"),
        (GOOD[:3], [None] * 3, "the candidate has failed in each of its 3 runs .it raises KeyError: 'x'."),
        ([None] * 3, GOOD[:3], "the baseline has failed in each of its 3 runs"),
        ([1.0] * 4, [1.0] * 4, "the accuracy is the same in all runs of a side .1 and 1., so that nothing shows"),
        ([0.9] * 4, [0.8] * 4, "judge by a metric that varies"),
    ],
)
def test_runs_that_can_tell_nothing_are_refused(one, two, words):
    with pytest.raises(TaskError, match=words):
        check_runs(runs(one), runs(two), "accuracy")


@pytest.mark.parametrize("two", [[None, None, 0.9], GOOD[:3]])
def test_runs_that_can_still_tell_something_are_not(two):
    check_runs(runs(GOOD[:3]), runs(two), "accuracy")
    check_runs(runs([0.9] * 4), runs(GOOD[:4]), "accuracy")


def test_a_side_whose_runs_diverge_is_judged_as_failing():
    lost = [Run(i, None, "diverged", "it diverged at step 3") for i in range(4)]
    check_runs(runs(GOOD[:4]), lost, "accuracy")
    assert judge(runs(GOOD[:4]), lost, "max").answer == "worse"


def test_not_worse_needs_the_lower_bound_alone():
    gains = judge(runs(GOOD), runs(shifted(GOOD[::-1], 0.004)), "max", 0.014)
    assert gains.answer == "not decided"
    assert gains.gain.low > -0.014
    assert meets(gains, "not-worse", 0.014)
    assert not meets(gains, "not-worse", None)
    assert not meets(gains, "better", 0.014)


def gate_of(one, two, direction="max", within=None, ended="decided"):
    found = judge(runs(one), runs(two), direction, within)
    return Gate(
        found, "loss" if direction == "min" else "accuracy", direction, within, runs(one), runs(two), {}, 8, ended
    )


def test_the_sentence_says_what_the_bounds_say():
    better = gate_of(GOOD, shifted(GOOD[::-1], 0.05))
    assert better.sentence.startswith("Better: the candidate's test accuracy is higher by 0.05 (")
    assert better.difference.low > 0
    lower = gate_of(GOOD, shifted(GOOD[::-1], -0.05), "min")
    assert lower.sentence.startswith("Better: the candidate's test loss is lower by 0.05 (")
    assert lower.difference.high < 0
    worse = gate_of(GOOD, shifted(GOOD[::-1], -0.05))
    assert worse.sentence.startswith("Worse: the candidate's test accuracy is lower by 0.05 (")
    equal = gate_of(GOOD, GOOD[::-1], within=0.03)
    assert equal.sentence.startswith("Equal within ±0.03: the difference of the test accuracy is -0.0")
    open_ = gate_of(GOOD, GOOD[::-1], ended="cap")
    assert open_.sentence.startswith("Not decided: the candidate's test accuracy differs by -0.0")
    assert any("larger --seeds" in line for line in open_.details)


def test_as_plain_values_it_is_strict_json_and_the_codes_are_stable():
    few = gate_of(GOOD[:2], GOOD[1:3]).as_dict()
    assert few["difference"]["low"] is None
    assert few["answer"] == "not decided"
    codes = {"better": 0, "equal": 3, "worse": 4, "not decided": 5}
    for two, within in (
        (shifted(GOOD, 0.05), None),
        (shifted(GOOD, -0.05), None),
        (GOOD[::-1], 0.03),
        (GOOD[::-1], None),
    ):
        gate = gate_of(GOOD, two, within=within)
        assert gate.code == codes[gate.answer]


def test_the_answer_depends_on_the_runs_and_not_on_how_often_they_were_judged():
    rng = np.random.default_rng(0)
    one, two = runs(rng.random(12).tolist()), runs((rng.random(12) + 0.3).tolist())
    whole = [judge(one[:n], two[:n], "max") for n in range(1, 13)]
    again = judge(one, two, "max")
    assert (again.answer, again.gain) == (whole[-1].answer, whole[-1].gain)
    assert all(math.isinf(found.gain.low) for found in whole[:3])
