"""Runs that were made elsewhere: what a line holds, what is refused, how runs are paired."""

import json
import math
from pathlib import Path

import pytest

import thalweg
from thalweg.compare.gate.runs import Records, Run, paired, read_records
from thalweg.compare.user_errors import TaskError

BEFORE = [{"seed": s, "accuracy": 0.90 + 0.002 * (s % 3)} for s in range(6)]
AFTER = [{"seed": s, "accuracy": 0.93 + 0.002 * (s % 2)} for s in range(6)]
HERE = Path()


def written(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_files_and_lists_give_the_same_answer(tmp_path):
    one, two = written(tmp_path / "a.jsonl", BEFORE), written(tmp_path / "b.jsonl", AFTER)
    found = [thalweg.gate(one, two), thalweg.gate(BEFORE, AFTER), thalweg.gate("a.jsonl", "b.jsonl", here=tmp_path)]
    assert [gate.answer for gate in found] == ["better"] * 3
    assert found[0].difference == found[1].difference == found[2].difference
    assert (found[0].ended_by, found[0].folder) == ("records", None)


def test_a_run_without_a_number_has_failed(tmp_path):
    rows = [*BEFORE[:3], {"seed": 3, "accuracy": None, "why": "out of memory"}, {"seed": 4, "accuracy": math.nan}]
    found = read_records(written(tmp_path / "a.jsonl", rows), "", None, HERE)
    assert [run.status for run in found.runs] == ["finished"] * 3 + ["failed"] * 2
    assert [run.why for run in found.runs[3:]] == ["out of memory", "its accuracy is nan"]
    assert thalweg.gate(rows, AFTER[:5]).judgement.failed == (2, 0)


def test_what_a_run_writes_is_what_is_read(tmp_path):
    runs = [Run(3, 0.5, untrained=0.1, trace="ab", seconds=1.5), Run("x", None, "diverged", "it diverged at step 7")]
    path = written(tmp_path / "a.jsonl", [run.as_dict("loss") for run in runs])
    assert list(read_records(path, "", None, HERE).runs) == runs


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([], "holds no run"),
        ([3], "line 1: 3 is no record"),
        ([{"accuracy": 0.5}], "line 1 has no seed: write one such as"),
        ([{"seed": 0, "accuracy": 0.5}, {"seed": 1}], "line 2 has no 'accuracy': write null for a run that failed"),
        ([{"seed": 0, "accuracy": math.inf}], "line 1: accuracy is inf: give a finite number, or null"),
        ([{"seed": 0, "accuracy": 0.5}, {"seed": 0, "accuracy": 0.6}], "line 2: seed 0 comes again, after line 1"),
        ([{"seed": 0.5, "accuracy": 0.5}], "the seed is 0.5: give a whole number or a text"),
        ([{"seed": None, "accuracy": 0.5}], "the seed is null"),
        ([{"seed": 0, "accuracy": 0.5}, {"seed": 1, "accuracy": "high"}], 'accuracy is "high": give a number'),
        ([{"seed": 0, "accuracy": 0.5, "loss": 1.0}], "holds accuracy, loss: name the one to judge with --metric"),
        ([{"seed": 0}], "holds no field with numbers beside the seed"),
        ([{"seed": 0, "a\nb": 0.5}], "the name of the metric"),
    ],
)
def test_what_is_no_record_is_refused_with_its_line(rows, words, tmp_path):
    with pytest.raises(ValueError, match=words) as caught:
        read_records(written(tmp_path / "a.jsonl", rows), "", None, HERE)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["seed,accuracy\n0,0.5\n", '{"seed": 0', "[" * 100_000, '{"seed": ' + "9" * 9999 + "}"]
)
def test_what_is_no_json_is_refused(text, tmp_path):
    (tmp_path / "a.jsonl").write_text(text)
    with pytest.raises(TaskError, match=r"a\.jsonl, line 1 is no JSON: write one object a line"):
        read_records(tmp_path / "a.jsonl", "", None, HERE)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(TaskError, match="cannot read .*nowhere.jsonl .No such file"):
        thalweg.gate(tmp_path / "nowhere.jsonl", AFTER)
    (tmp_path / "a.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(TaskError, match="it is no UTF-8"):
        thalweg.gate(tmp_path / "a.jsonl", AFTER)


@pytest.mark.parametrize(
    ("one", "two", "options", "words"),
    [
        (BEFORE, [{"seed": 0, "loss": 0.5}], {}, "baseline holds accuracy and candidate loss"),
        (
            [{"seed": 0, "speed": 0.5}],
            [{"seed": 0, "speed": 0.6}],
            {},
            "nothing says whether a larger 'speed' is better",
        ),
        (BEFORE, "after.py:task", {}, "one side is given as records and the other as a task"),
        (BEFORE, AFTER, {"within": 0}, "within must be a number above 0, not 0"),
        (BEFORE, AFTER, {"within": math.nan}, "within must be a number above 0"),
        (BEFORE, AFTER, {"expect": "best"}, "expect is 'best': use better, not-worse, equal"),
        (BEFORE, AFTER, {"expect": "not-worse"}, "needs within"),
        (BEFORE, AFTER, {"metric": "loss"}, "baseline, record 1 has no 'loss'"),
    ],
)
def test_sides_that_cannot_be_compared_are_refused(one, two, options, words):
    with pytest.raises(ValueError, match=words):
        thalweg.gate(one, two, **options)


def test_the_direction_may_be_given():
    one, two = ([{"seed": r["seed"], "speed": r["accuracy"]} for r in rows] for rows in (BEFORE, AFTER))
    assert thalweg.gate(one, two, higher_is_better=True).answer == "better"
    assert thalweg.gate(one, two, higher_is_better=False).answer == "worse"


def test_runs_are_paired_by_their_seeds_whatever_their_order():
    found = thalweg.gate(BEFORE, AFTER[::-1])
    assert [run.seed for run in found.candidate] == list(range(6))
    assert found.notes == []


def test_seeds_that_do_not_match_are_said():
    found = thalweg.gate(BEFORE, [{**row, "seed": f"other {row['seed']}"} for row in AFTER[:5]])
    assert found.answer == "better"
    assert found.notes == [
        "the seeds do not match, so the runs are paired in their order, as independent ones; 1 run of baseline is left "
        "over"
    ]


def test_seeds_that_only_one_side_has_are_left_over():
    one, two = (
        Records(name, "loss", [Run(s, 0.1 * s) for s in seeds]) for name, seeds in (("a", range(5)), ("b", range(1, 7)))
    )
    first, second, notes = paired(one, two)
    assert [run.seed for run in first] == [run.seed for run in second] == [1, 2, 3, 4]
    assert notes == ["1 run of a and 2 runs of b are left over: no pair"]
