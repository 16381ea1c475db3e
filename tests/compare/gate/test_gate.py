"""Gates of trained sides: the answer, the folder, what goes on after an interruption, what is refused."""

import json
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import thalweg
from tests.compare.small import parts, small_task
from thalweg import Recipe
from thalweg.compare.study.reporter import Reporter
from thalweg.compare.user_errors import StudyError, TaskError

SLOW, FAST = Recipe(small_task(), "sgd", {"lr": 0.05}), Recipe(small_task(), "sgd", {"lr": 0.3})


class Lines(Reporter):
    """Keeps what is said; raises where it is told to."""

    def __init__(self, until=""):
        self.lines, self.until = [], until

    def say(self, line):
        self.lines.append(line)
        if self.until and line.startswith(self.until):
            raise KeyboardInterrupt


def loop(weights=1.0, fails=lambda run: False, test="loss"):
    """Returns a training loop whose test is a number that the seed draws."""

    def train(run):
        model = nn.Linear(2, 1)
        optimizer = run.optimizer(model)
        if run.steps == 6 and fails(run):
            raise RuntimeError("no luck with this seed")
        for x in run.batches([torch.ones(3, 2)]):
            loss = model(x).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            run.loss(loss)
            if run.due:
                run.report(valid={test: 1.0})
        run.report(test={test: weights + float(torch.rand(()))})

    return thalweg.TrainingLoop(train, name="drawn", steps=6)


def test_a_larger_learning_rate_is_found_to_be_better(tmp_path):
    reporter = Lines()
    gate = thalweg.gate(SLOW, FAST, out=tmp_path / "o", reporter=reporter)
    assert (gate.answer, gate.metric, gate.ended_by) == ("better", "accuracy", "decided")
    assert gate.judgement.pairs <= 10
    assert any(line.startswith("pair 1: accuracy 0.") for line in reporter.lines)
    held = json.loads((tmp_path / "o" / "gate.json").read_text())
    assert held == json.loads(json.dumps(gate.as_dict()))
    assert held["sides"]["candidate"]["strategy"]["defaults"]["lr"] == 0.3
    page = (tmp_path / "o" / "report.html").read_text()
    assert gate.sentence.replace("'", "&#39;") in page
    again = thalweg.gate(tmp_path / "o" / "baseline.jsonl", tmp_path / "o" / "candidate.jsonl")
    assert (again.answer, again.difference) == (gate.answer, gate.difference)


def test_a_gate_that_was_interrupted_goes_on_and_says_the_same(tmp_path):
    straight = thalweg.gate(SLOW, FAST, out=tmp_path / "a")
    with pytest.raises(KeyboardInterrupt):
        thalweg.gate(SLOW, FAST, out=tmp_path / "b", reporter=Lines(until="pair 2"))
    with (tmp_path / "b" / "baseline.jsonl").open("a") as file:
        file.write('{"seed": 12, "accu')  # a kill in the middle of a line
    reporter = Lines()
    resumed = thalweg.gate(SLOW, FAST, out=tmp_path / "b", reporter=reporter)
    assert "resuming: 4 runs are in the folder" in reporter.lines
    assert (resumed.sentence, resumed.details) == (straight.sentence, straight.details)
    assert [run.score for run in resumed.candidate] == [run.score for run in straight.candidate]
    finished = (tmp_path / "b" / "baseline.jsonl").read_bytes()
    assert thalweg.gate(SLOW, FAST, out=tmp_path / "b").sentence == straight.sentence
    assert (tmp_path / "b" / "baseline.jsonl").read_bytes() == finished


def test_a_side_without_a_change_is_equal_at_once(tmp_path):
    gate = thalweg.gate(small_task(), small_task(), out=tmp_path / "o")
    assert (gate.answer, gate.judgement.pairs) == ("equal", 2)
    assert "ran alike, bit for bit" in gate.sentence


def test_a_change_of_names_and_sizes_of_batches_is_a_change(tmp_path):
    gate = thalweg.gate(small_task(), small_task(batch_size=21), out=tmp_path / "o", seeds=2)
    assert gate.answer == "not decided"


def test_a_cap_that_is_raised_goes_on_from_where_it_was(tmp_path):
    one, two = loop(), loop(0.999)
    first = thalweg.gate(one, two, out=tmp_path / "o", strategy="sgd", seeds=3)
    assert (first.answer, first.ended_by, first.judgement.pairs) == ("not decided", "cap", 3)
    reporter = Lines()
    more = thalweg.gate(one, two, out=tmp_path / "o", strategy="sgd", seeds=5, reporter=reporter)
    assert "resuming: 6 runs are in the folder" in reporter.lines
    assert more.judgement.pairs == 5
    assert more.baseline[:3] == first.baseline


def test_a_loop_that_raises_under_some_seeds_has_failed_runs_and_the_reason_is_said(tmp_path):
    reporter = Lines()
    two = loop(0.5, fails=lambda run: run.seed % 2 == 0)
    gate = thalweg.gate(loop(), two, out=tmp_path / "o", strategy="sgd", seeds=6, reporter=reporter)
    failed = [run for run in gate.candidate if run.status == "failed"]
    assert failed
    assert {run.seed % 2 for run in failed} == {0}
    assert failed[0].why.startswith("the training loop raises RuntimeError: no luck with this seed (test_gate.py, line")
    assert f"seed {failed[0].seed}: the run of the candidate failed: {failed[0].why}" in reporter.lines
    assert gate.answer == "not decided" or gate.judgement.by_failures


def test_a_loop_that_always_raises_is_refused_after_three_runs(tmp_path):
    with pytest.raises(
        TaskError, match="the candidate has failed in each of its 3 runs .the training loop raises Runt"
    ):
        thalweg.gate(loop(), loop(fails=lambda run: True), out=tmp_path / "o", strategy="sgd")
    assert len((tmp_path / "o" / "baseline.jsonl").read_text().splitlines()) == 3


def test_a_metric_that_is_no_number_under_some_seeds_is_a_failed_run(tmp_path):
    def nan_if_even(run):
        return float("nan") if run.seed % 2 == 0 else 0.0

    def train(run):
        model = nn.Linear(2, 1)
        optimizer = run.optimizer(model)
        for x in run.batches([torch.ones(3, 2)]):
            loss = model(x).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            run.loss(loss)
            if run.due:
                run.report(valid={"loss": 1.0})
        run.report(test={"loss": float(torch.rand(())) + nan_if_even(run)})

    gate = thalweg.gate(loop(), thalweg.TrainingLoop(train, steps=6), out=tmp_path / "o", strategy="sgd", seeds=5)
    assert {run.why for run in gate.candidate if run.score is None} == {"its loss is nan"}


def test_the_time_limit_begins_no_pair_that_would_end_later(tmp_path):
    gate = thalweg.gate(loop(), loop(0.999), out=tmp_path / "o", strategy="sgd", at_most=0.0001)
    assert (gate.answer, gate.ended_by, gate.judgement.pairs) == ("not decided", "time", 1)
    assert any("ended this after 1 of at most 10 seeds" in note for note in gate.notes)
    again = thalweg.gate(loop(), loop(0.999), out=tmp_path / "o", strategy="sgd", at_most=0.0001)
    assert again.judgement.pairs == 1


def test_an_expectation_ends_a_gate_once_it_is_borne_out(tmp_path):
    one, two = small_task(), small_task(batch_size=21)
    gate = thalweg.gate(one, two, out=tmp_path / "o", within=0.5, expect="not-worse")
    assert (gate.ended_by, gate.meets("not-worse")) == ("decided", True)


def other_tests(task, shift=0.0, labels=0):
    x, y = task.test.tensors
    return replace(task, test=TensorDataset(x + shift, (y + labels) % 3))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda task: replace(task, steps=31), "the baseline trains 30 steps and the candidate 31"),
        (lambda task: replace(task, test=parts()[1]), "their targets differ"),
        (lambda task: replace(task, test=parts()[0]), "different data, 40 and 100 examples"),
        (lambda task: other_tests(task, labels=1), "their targets differ"),
        (lambda task: other_tests(task, shift=1.0), "different inputs with the same targets"),
    ],
)
def test_what_the_sides_do_not_have_in_common_is_said(change, words, tmp_path):
    gate = thalweg.gate(small_task(), change(small_task()), out=tmp_path / "o", seeds=1)
    assert any(words in note for note in gate.notes)


@pytest.mark.parametrize(
    ("one", "two", "options", "words"),
    [
        (small_task(), small_task(metric="loss"), {}, "the baseline measures accuracy and the candidate loss: choose"),
        (loop(), loop(test="accuracy"), {"strategy": "sgd"}, "the baseline measures loss and the candidate accuracy"),
        (
            small_task(), small_task(metric="loss", higher_is_better=True), {"metric": "loss"},
            "a larger loss is better for one side and worse for the other",
        ),
        (small_task(), loop(), {"strategy": "adam+he"}, "changes more than the optimizer"),
        (small_task(), small_task(), {"strategy": "adm"}, "did you mean 'adam'"),
        (small_task(), small_task(), {"settings": {"momentum": 0.5}}, "has no hyperparameter 'momentum'"),
        (small_task(), small_task(), {"steps": 0}, "steps must be at least 1"),
        (small_task(), small_task(), {"seeds": 0}, "seeds must be at least 1"),
        (small_task(), small_task(), {"at_most": "soon"}, "at_most is 'soon', not a duration"),
        (small_task(), small_task(), {"metric": "auc"}, "unknown metric 'auc'"),
        (loop(test="seconds"), loop(), {"metric": "seconds", "higher_is_better": True}, "which records hold beside it"),
        (small_task(), 3, {}, "the task is a int"),
    ],
)  # fmt: skip
def test_sides_that_cannot_be_compared_are_refused_in_a_line(one, two, options, words, tmp_path):
    with pytest.raises(ValueError, match=words) as caught:
        thalweg.gate(one, two, out=tmp_path / "o", **options)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "o").exists()


def test_a_folder_of_another_gate_is_refused_and_what_differs_is_named(tmp_path):
    thalweg.gate(SLOW, FAST, out=tmp_path / "o", seeds=1)
    with pytest.raises(StudyError, match=r"the gate of something else \(candidate's strategy differ\)"):
        thalweg.gate(SLOW, SLOW, out=tmp_path / "o", seeds=1)
    with pytest.raises(StudyError, match=r"\(seed differ\)"):
        thalweg.gate(SLOW, FAST, out=tmp_path / "o", seeds=1, seed=1)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("design.json", "{", "is damaged"),
        ("design.json", "[]", "is damaged"),
        ("baseline.jsonl", "{}\n", "is damaged"),
        ("baseline.jsonl", '{"seed": 1, "accuracy": 0.5}\n', "runs of other seeds"),
        ("notes.txt", "", None),
    ],
)
def test_a_damaged_folder_is_refused(name, text, words, tmp_path):
    thalweg.gate(SLOW, FAST, out=tmp_path / "o", seeds=1)
    (tmp_path / "o" / name).write_text(text)
    if words is None:
        assert thalweg.gate(SLOW, FAST, out=tmp_path / "o", seeds=1).judgement.pairs == 1
        return
    with pytest.raises(StudyError, match=words):
        thalweg.gate(SLOW, FAST, out=tmp_path / "o", seeds=1)


def test_a_folder_of_something_else_or_a_file_is_refused(tmp_path):
    (tmp_path / "o").mkdir()
    (tmp_path / "o" / "mine.txt").write_text("mine")
    with pytest.raises(StudyError, match=r"holds mine\.txt and no gate: choose another --out"):
        thalweg.gate(SLOW, FAST, out=tmp_path / "o", seeds=1)
    with pytest.raises(StudyError, match="is a file, not a folder"):
        thalweg.gate(SLOW, FAST, out=tmp_path / "o" / "mine.txt", seeds=1)
