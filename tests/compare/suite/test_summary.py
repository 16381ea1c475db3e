"""What many verdicts say together, on verdicts that are written down."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.compare.suite.summary import MOST, summarize


def study(outcome, steps=(100, 100)):
    """A study of strategies a and b."""
    failed = 8 if outcome == "neither" else 0
    pair = {"a": "a", "b": "b", "better": {"win": "a", "loss": "b"}.get(outcome), "runs": 8 - failed}
    strategies = [
        {"name": name, "failed": {"count": failed, "of": 8}, "to_target": {"steps": count}}
        for name, count in zip("ab", steps, strict=True)
    ]
    return {"pairs": [pair], "strategies": strategies}


def studies(text):
    words = {"w": "win", "t": "tie", "l": "loss", "n": "neither"}
    return {f"task{i}": study(words[letter]) for i, letter in enumerate(text)}


def test_wins_are_counted_with_the_exact_interval_and_the_sign_test():
    found = summarize(studies("wwwwwwwttlnn"), "a", ["b"]).against[0]
    assert (found.wins, found.ties, found.losses) == (7, 2, 1)
    assert found.p == pytest.approx(9 / 256)  # P(B ≥ 7) of 8
    assert (found.low, found.high) == pytest.approx((0.2767, 0.8483), abs=1e-4)  # 7 of 12, Clopper and Pearson


def test_better_in_general_holds_whichever_task_is_left_out():
    clear, hinges = (summarize(studies(text), "a", ["b"]) for text in ("wwwwwwtt", "wwwwwttt"))
    assert clear.against[0].better
    assert clear.sentence == "a is better in general than b on tasks like these."
    assert not hinges.against[0].better  # five of five is sure at 1/32, four of four is not
    assert hinges.against[0].hinges_on == [f"task{i}" for i in range(5)]
    assert "not shown" in hinges.sentence
    assert "so it is not given" in hinges.details[0]


def test_several_rivals_share_the_level():
    results = studies("wwwwww")
    for found in results.values():
        found["pairs"].append({"a": "c", "b": "a", "better": "a", "runs": 8})
        found["strategies"].append({"name": "c", "failed": {"count": 0, "of": 8}, "to_target": {"steps": None}})
    assert not any(one.better for one in summarize(results, "a", ["b", "c"]).against)  # 1/64 without one: above 1/40


@given(st.text("wtln", min_size=1, max_size=14))
def test_what_is_won_is_lost_from_the_other_side(text):
    results = studies(text)
    one, other = (summarize(results, a, [b]).against[0] for a, b in ("ab", "ba"))
    assert (one.wins, one.ties, one.losses) == (other.losses, other.ties, other.wins)
    assert (one.better, one.worse) == (other.worse, other.better)
    assert not (one.better and one.worse)


def test_the_profile_is_the_share_of_tasks_within_a_multiple_of_the_fewest_steps():
    steps = [(100, 150), (400, 100), (None, 50), (None, None)]
    results = {f"task{i}": study("tie", one) for i, one in enumerate(steps)}
    found = summarize(results, "a", ["b"])

    def share(name, ratio):
        times = [(one["ab".index(name)] or math.inf) / min(x or math.inf for x in one) for one in steps[:3]]
        return sum(t <= ratio * (1 + 1e-9) for t in times) / 4

    for name in "ab":
        assert found.profiles[name] == [share(name, ratio) for ratio in found.ratios]
    assert found.ratios[-1] == pytest.approx(MOST)
    assert found.profiles["a"][-1] == 0.5
    assert found.places["b"] == (1, 1, 1)
    assert found.places["a"][0] == 2


def test_a_place_that_hangs_on_a_task_is_said():
    results = {"one": study("tie", (100, 300)), "two": study("tie", (200, 100))}
    assert "place 1 to 2 as one task is left out" in summarize(results, "a", ["b"]).details[-1]


def test_what_could_not_run_is_lost_and_named():
    results = studies("ttt")
    for task in ("task0", "task2"):
        results[task]["pairs"] = []
        first = results[task]["strategies"][0]
        first |= {"failed": {"count": 8, "of": 8}, "could_not_run": "steps hidden matrices, and this model has none"}
    found = summarize(results, "a", ["b"])
    assert found.against[0].outcomes == {"task0": "loss", "task1": "tie", "task2": "loss"}
    assert "a could not run on task0 and task2, which counts as lost to what can." in found.details
