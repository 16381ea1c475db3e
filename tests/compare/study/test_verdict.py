"""Verdicts that do not overreach: what could be the best, what is behind, and what is said of it."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thalweg.compare.study.headline import headline
from thalweg.compare.study.judged import Judged, Runs
from thalweg.compare.study.timed import in_time
from thalweg.compare.study.untrained import failed
from thalweg.compare.study.verdict import check_expectation, decide, pairs, parse_expectation

NOISE = np.random.default_rng(0).normal(0, 0.01, (5, 10))


def judged(per_seed, direction="max", lost=None, steps=None, **options):
    lost, steps = lost or {}, steps or {}
    runs = {
        name: Runs(scores, lost.get(name, [x is None for x in scores]), steps.get(name, [None] * len(scores)))
        for name, scores in per_seed.items()
    }
    return Judged(runs, direction, "accuracy", **options)


def around(*means):
    return {name: (m + noise).tolist() for name, m, noise in zip("abcde", means, NOISE, strict=False)}


def test_a_clear_winner_wins_in_either_direction():
    up = decide(judged(around(0.9, 0.5, 0.3), choices={"a": "lr 0.1"}))
    assert (up.winner, up.use, up.candidates, up.tied) == ("a", "a", ["a"], [])
    assert up.sentence == "Use a (lr 0.1): every other strategy did worse."
    assert [one.name for one in up.behind] == ["b", "c"]
    assert decide(judged(around(0.9, 0.5, 0.3), "min")).winner == "c"


def test_what_cannot_be_told_apart_could_be_the_best_and_the_others_are_behind():
    found = decide(judged(around(0.9, 0.9, 0.3)))
    assert found.winner is None
    assert set(found.candidates) == {"a", "b"}
    assert found.sentence.endswith("nothing tried is better.")
    assert f"Could be the best here: {', '.join(found.candidates)}. These runs cannot say which." in found.details
    (behind,) = found.behind
    assert (behind.lost, behind.runs) == (10, 10)
    assert behind.typically == pytest.approx(0.6, abs=0.02)
    assert 0.5 < behind.at_least < behind.typically
    assert any(f"Behind: c, which lost to {behind.beaten_by} on 10 of 10 runs" in line for line in found.details)


@pytest.mark.parametrize("collapsed", range(7))
def test_collapsed_runs_do_not_hide_who_is_worse(collapsed):
    """A loser of 1.5 points on every seed, of which some collapse to chance."""
    better = (0.97 + NOISE[0] / 10).tolist()
    worse = [x - 0.015 for x in better]
    worse[:collapsed] = [0.1] * collapsed
    per_seed = {"a": better, "b": worse}
    lost = failed(per_seed, "max", {"a": [0.1], "b": [0.1]})
    assert sum(lost["b"]) == collapsed
    found = decide(judged(per_seed, lost=lost))
    assert found.winner == "a"
    assert found.behind[0].lost == 10
    if collapsed:
        assert any(f"b {collapsed} of 10 (true rate" in line and "the others none" in line for line in found.details)


def test_a_strategy_at_chance_on_six_seeds_is_behind_whatever_the_others_are():
    per_seed = {"a": [0.9] * 16, "b": [0.95] * 8 + [None] * 8}
    found = decide(judged(per_seed))
    assert (found.winner, found.behind[0].name) == ("a", "b")


def test_a_run_failed_if_it_went_less_than_a_tenth_of_the_way():
    scores = {"a": [0.9, 0.17, 0.19, None], "b": [0.9, 0.9, 0.9, 0.9]}
    assert failed(scores, "max", {"a": [0.1], "b": [0.1]})["a"] == [False, True, False, True]
    loss = {"a": [0.1, 2.3, 50.0], "b": [0.1, 0.1, 0.1]}
    assert failed(loss, "min", {"a": [80.0, 2.302], "b": [80.0, 2.302]})["a"] == [False, True, True]  # constant model
    assert all(failed({"a": [0.1, 0.09]}, "max", {"a": [0.1]})["a"])


def test_a_metric_that_is_the_same_for_all_says_nothing_of_failures_and_all_are_equivalent():
    per_seed = {"a": [0.5] * 8, "b": [0.5] * 8}
    lost = failed(per_seed, "max", {"a": [0.5], "b": [0.5]})
    assert not any(lost["a"] + lost["b"])
    assert decide(judged(per_seed, lost=lost)).use is None
    same = decide(judged({"a": [0.5, 0.6] * 4, "b": [0.5, 0.6] * 4}))
    assert (same.candidates, same.equivalent, same.is_decided) == (["a", "b"], [["a", "b"]], True)


def test_where_half_of_one_strategys_runs_failed_neither_may_be_better():
    compared = pairs(judged({"a": [0.9] * 8, "b": [0.95] * 5 + [None] * 3}))
    assert compared[0]["runs"] == 5
    assert check_expectation("a ties b", compared)


def test_a_verdict_does_not_hang_on_one_seed():
    outlier = {"a": [0.5] * 9 + [0.9], "b": [0.5 + 0.0001 * i for i in range(10)]}
    assert decide(judged(outlier)).winner is None


def test_the_luck_of_tuning_takes_a_claim_back():
    """All seeds favour a, but half of the choices by far more than the other half: another study may turn it."""
    per_seed = {"a": [0.9, 0.5001] * 5, "b": [0.5, 0.5] * 5}
    noisy = {name: (np.array(x) + NOISE[0] / 1e3).tolist() for name, x in per_seed.items()}
    assert decide(judged(noisy)).winner is None
    assert decide(judged(noisy, is_tuned_apart=False)).winner == "a"
    assert any("luck of tuning hides more" in line for line in decide(judged(noisy)).details)


def test_more_strategies_ask_for_more_proof():
    assert judged(around(0.9, 0.9)).level == 0.0125
    assert judged({str(i): [0.0] for i in range(11)}).level == pytest.approx(0.005)
    assert judged(around(0.9, 0.9), looks=4).level == 0.0125 / 4


def test_false_alarms_and_power_are_as_claimed():
    """400 small comparisons of two: alike, and 4.5 standard errors apart. Binomial bounds of far less than 1e-3."""
    rng = np.random.default_rng(1)
    one, two = rng.normal(0, 1, (2, 400, 10))

    def winners(a, b):
        return [decide(judged({"a": x.tolist(), "b": y.tolist()})).winner for x, y in zip(a, b, strict=True)]

    assert sum(w is not None for w in winners(one, two)) <= 400 * 0.05
    apart = winners(one + 4.5 * (2 / 10) ** 0.5, two)
    assert sum(w == "a" for w in apart) >= 400 * 0.7
    assert "b" not in apart


@given(st.integers(0, 10**6), st.sampled_from(["max", "min"]))
@settings(max_examples=30)
def test_every_strategy_is_a_candidate_or_behind_and_names_change_nothing(seed, direction):
    rng = np.random.default_rng(seed)
    per_seed = {n: (rng.normal(0, 1) + 0.3 * rng.normal(0, 1, 8)).tolist() for n in "abcd"}
    one = judged(per_seed, direction)
    found = decide(one)
    assert sorted([*found.candidates, *(b.name for b in found.behind)]) == list("abcd")
    assert found.candidates
    for behind in found.behind:
        assert one.beats(behind.beaten_by, behind.name)
    again = decide(judged({name: per_seed[name] for name in "dbca"}, direction))
    assert (again.candidates, again.sentence) == (found.candidates, found.sentence)
    flipped = {n: [-x for x in scores] for n, scores in per_seed.items()}
    assert decide(judged(flipped, "min" if direction == "max" else "max")).candidates == found.candidates


def test_equivalence_is_shown_by_two_tests_within_a_margin_that_is_given_or_a_tenth_of_the_spread():
    close = around(0.9, 0.9, 0.3)
    assert decide(judged(close, within=0.05)).equivalent == [decide(judged(close)).candidates]
    assert decide(judged(close, within=0.001)).equivalent == []
    assert decide(judged(close)).margin == pytest.approx(0.06, abs=0.003)
    assert any("Equivalent within ±0.05 accuracy" in line for line in decide(judged(close, within=0.05)).details)
    assert decide(judged(close, within=0.05)).is_decided
    assert not decide(judged(close, within=0.001)).is_decided


def test_equivalence_includes_the_luck_of_tuning():
    """The halves of each split lie on either side: another study may well lie beyond the margin."""
    apart = {"a": [0.9 + 0.004 * (-1) ** i for i in range(10)], "b": [0.9] * 10}
    assert decide(judged(apart, within=0.006)).equivalent == []
    assert len(decide(judged(apart, within=0.006, is_tuned_apart=False)).equivalent) == 1
    assert len(decide(judged(apart, within=0.02)).equivalent) == 1


def test_a_strategy_without_a_number_beats_nobody_and_is_beaten_by_nobody():
    found = judged({"a": [0.9] * 8, "b": [None] * 8}, unmeasured=["b"])
    assert pairs(found)[0]["better"] is None
    assert decide(found).sentence == "No verdict: the test accuracy of b is not a number."


def test_the_fastest_is_named_where_the_test_says_so():
    steps = {"a": [100] * 9 + [None], "b": [90] * 5 + [110] * 5}
    assert decide(judged(around(0.9, 0.9), steps=steps)).fastest is None
    steps = {"a": [100] * 9 + [None], "b": [50 + i for i in range(10)]}
    found = decide(judged(around(0.9, 0.9), steps=steps, goal="validation accuracy 0.8"))
    assert (found.fastest, found.use) == ("b", "b")
    assert found.sentence == "No strategy is surely better; use b, which needs the fewest steps of the two that tie."
    worse = decide(judged(around(0.9, 0.9, 0.3), steps=steps | {"c": [None] * 10}, goal="validation accuracy 0.8"))
    assert worse.sentence == "Use b: nothing tried is better, and it needs the fewest steps."


@pytest.mark.parametrize(
    ("costs", "precision", "cheap"),
    [
        ({"a": 1.0, "b": 2.0, "c": 1.0}, {"a": 0.05, "b": 0.05, "c": 0.05}, True),
        ({"a": 1.0, "b": 2.0, "c": 0.5}, {"a": 0.05, "b": 0.05, "c": 0.05}, False),  # the one behind is cheaper
        ({"a": 1.0, "b": 2.0, "c": 1.0}, {"a": 0.5, "b": 0.05, "c": 0.05}, False),  # who knows
        ({"a": 1.0, "b": 2.0}, {"a": 0.05, "b": 0.05}, False),
        ({}, {}, False),
    ],
)
def test_what_is_recommended_is_called_cheap_only_where_that_was_measured(costs, precision, cheap):
    scores = around(0.9, 0.9, 0.3)
    scores["a"] = [x + 1e-3 for x in scores["a"]]
    found = decide(judged(scores, costs=costs, precision_of_costs=precision))
    assert found.use == "a"
    assert found.sentence == "Use a: nothing tried is better" + ", and it is among the cheapest" * cheap + "."


def test_where_all_tie_it_is_said_that_none_is_surely_better():
    costs = {"a": 2.0, "b": 1.0, "c": 2.0}
    scores = around(0.9, 0.9, 0.9)
    words = {
        name: decide(
            judged(
                {**scores, name: [x + 6e-3 for x in scores[name]]},
                costs=costs,
                precision_of_costs=dict.fromkeys("abc", 0.05),
            )
        ).sentence
        for name in "ab"
    }
    assert words == {
        "a": "No strategy is surely better; use a, which typically scored best of the three that tie.",
        "b": "No strategy is surely better; use b, among the cheapest of the three that tie.",
    }


WORDED = st.lists(st.sampled_from(["adam", "my", "+he", "(lr 3)", "no. 7:", "sgd@cosine"]), min_size=1, max_size=30)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([1, 2, 3, 8]),
    st.integers(0, 2**31),
    st.sampled_from([1, 7, 9, 10]),
    WORDED.map(" ".join),
    st.booleans(),
    st.integers(0, 8),
)
def test_the_headline_has_at_most_20_words_and_names_none_that_is_behind(count, seed, seeds, words, timed, tuned):
    draws = np.random.default_rng(seed)
    names = [f"{i}/{count} {words}" for i in range(count)]
    scores = {n: (draws.choice([0.9, 0.85, 0.3]) + draws.normal(0, 0.02, seeds)).tolist() for n in names}
    lost = {n: (draws.random(seeds) < draws.choice([0.0, 0.2, 1.0])).tolist() for n in names}
    steps = {
        n: [None if bad else int(100 * x) for bad, x in zip(lost[n], own, strict=True)] for n, own in scores.items()
    }
    choices = {n: ", ".join(f"name{i} 0.{i}" for i in range(tuned)) for n in names}
    costs = {n: float(draws.choice([1.0, 2.0])) for n in names}
    unmeasured = [n for n in names if draws.random() < 0.05]
    made = judged(
        scores,
        lost=lost,
        steps=steps,
        choices=choices,
        goal=f"validation {words} 0.9",
        costs=costs,
        precision_of_costs=dict.fromkeys(names, 0.05),
        unmeasured=unmeasured,
    )
    if timed:
        made = in_time(made, "time-to-target", dict.fromkeys(names, 100), {}, {})
    found = decide(made)
    assert len(found.sentence.split()) <= 20
    assert not any(f"{one.name.split()[0]} " in found.sentence for one in found.behind)
    if found.winner is None:
        assert "every other" not in found.sentence


@pytest.mark.parametrize("count", [64, 200])
def test_the_headline_of_many_that_tie_is_as_short(count):
    scores = {f"s{i}": (0.9 + np.random.default_rng(i).normal(0, 0.01, 14)).tolist() for i in range(count)}
    many = judged(scores, choices=dict.fromkeys(scores, "lr 0.01, momentum 0.9"))
    words = headline(many, "s0", list(scores), [], None, 14)
    assert words == (
        "No strategy is surely better; use s0 (lr 0.01, momentum 0.9), which typically scored best of the "
        f"{count} that tie."
    )


@pytest.mark.parametrize("scores", [[0.9], [0.9, 0.9], [0.9] * 6])
def test_too_few_seeds_say_how_many_it_takes(scores):
    found = decide(judged({"a": scores, "b": [x - 0.5 for x in scores]}))
    assert found.winner is None
    assert found.use is None
    assert found.sentence == "No verdict: it takes at least 7 seeds to compare 2 strategies (--seeds 7)."
    assert not any("More seeds" in line for line in found.details)


@pytest.mark.parametrize(
    ("per_seed", "sentence"),
    [
        ({"a": [0.9, 0.8] * 4}, "Only a was run, so there is nothing to compare it with."),
        ({"a": [None] * 8, "b": [None] * 8}, "No strategy trained the model: every final run failed."),
        ({"a": [0.5] * 8, "b": [0.5] * 8}, "No verdict: the test accuracy is the same in all runs."),
        ({"a": [0.5, 0.6] * 4, "b": [0.5, 0.6] * 4}, "No strategy is surely better; use a, one of the two that tie."),
        ({"a": [0.5] * 8, "b": [None] * 8}, "Use a: every other strategy did worse."),
        ({"a": [0.5] * 7 + [1e300], "b": [0.4] * 7 + [-1e300]}, "Use a: every other strategy did worse."),
    ],
)
def test_whatever_the_runs_are_the_sentence_is_true(per_seed, sentence):
    found = decide(judged(per_seed))
    assert found.sentence == sentence
    assert len(found.sentence.split()) <= 20
    assert all(math.isfinite(one.p) for one in found.behind)


def test_expectations():
    compared = pairs(judged(around(0.9, 0.9, 0.3)))
    assert check_expectation("a beats c", compared)
    assert not check_expectation("c beats a", compared)
    assert check_expectation("c beats a", pairs(judged(around(0.9, 0.9, 0.3), "min")))
    assert check_expectation("a ties b", compared)
    assert not check_expectation("a ties c", compared)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("a better than b", 'write "adam beats sgd"'),
        ("adm beats sgd", "did you mean 'adam'"),
        ("adam beats adam", "two different"),
    ],
)
def test_bad_expectations_name_the_remedy(text, match):
    with pytest.raises(ValueError, match=match):
        parse_expectation(text, ["adam", "sgd"])
