"""A whole study: equal budgets, the same records after any interruption, results that add up."""

import json
import os
import shutil
import signal
import sqlite3
import weakref
from contextlib import closing
from pathlib import Path

import pytest
import torch
from torch import nn

import thalweg
from tests.command import command, script
from tests.compare.small import small_task
from thalweg.compare.comparison import Comparison
from thalweg.compare.design import half, mean_of, window
from thalweg.compare.execution import serial
from thalweg.compare.storage import snapshots
from thalweg.compare.storage.create import FILE
from thalweg.compare.storage.rows import sealed
from thalweg.compare.storage.store import Store, StudyError
from thalweg.compare.study import result_writer
from thalweg.compare.study.reporter import Reporter
from thalweg.tensors import compiling

SMALL = {"trials": 4, "steps": 12, "seeds": 3, "engine": "serial"}


def study(out, strategies=("sgd", "adam@warmup-linear"), task=None, **options):
    return thalweg.compare(task or small_task(), strategies, out=out, **{**SMALL, **options})


def records(folder):
    store = Store.open(Path(folder))
    try:
        return list(store.records())
    finally:
        store.close()


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    return study(tmp_path_factory.mktemp("study") / "out")


def test_the_results_have_all_that_is_promised(done):
    r = json.loads((done.folder / "results.json").read_text())
    assert set(r) >= {"task", "budget", "engine", "strategies", "pairs", "expected_best", "verdict"}
    assert set(r["budget"]) >= {"gradient_evaluations_per_strategy", "trials", "steps", "seeds"}
    assert set(r["engine"][0]) >= {"group", "name", "reason", "trial_steps_per_second"}
    names = {"name", "hyperparameters", "valid", "test", "failed", "runs", "to_target", "trials", "diverged", "on_edge"}
    assert set(r["strategies"][0]) >= names
    assert set(r["strategies"][0]["test"]) == {"typical", "low", "high", "per_seed"}
    assert set(r["strategies"][0]["to_target"]) >= {"steps", "gradient_evaluations", "seconds"}
    assert set(r["pairs"][0]) == {"a", "b", "difference", "low", "high", "p", "better", "runs"}
    assert set(r["verdict"]) >= {"use", "candidates", "behind", "winner", "tied", "fastest", "sentence", "details"}
    assert r == json.loads(json.dumps(done.results))


def test_every_strategy_has_the_same_budget_and_it_is_the_printed_one(done):
    budget = done.results["budget"]
    spent = {}
    for r in records(done.folder):
        started = 0 if r["rung"] != "tune-3" else 4
        spent[r["strategy"]] = spent.get(r["strategy"], 0) + r["steps"] - started
    assert set(spent.values()) == {budget["gradient_evaluations_per_strategy"]}
    assert budget["gradient_evaluations_per_strategy"] == 5 * 4 + 3 * 8 + 3 * 12


def test_strategies_are_paired(done):
    finals = [r for r in records(done.folder) if r["rung"] == "final"]
    seeds = {s: [r["seed"] for r in finals if r["strategy"] == s] for s in ("sgd", "adam@warmup-linear")}
    assert seeds["sgd"] == seeds["adam@warmup-linear"]
    assert len(set(seeds["sgd"])) == 3
    tuning = {r["seed"] for r in records(done.folder) if r["rung"] != "final"}
    assert not tuning & set(seeds["sgd"])  # fresh seeds
    first = {s: next(r["first_loss"] for r in finals if r["strategy"] == s) for s in seeds}
    assert len(set(first.values())) == 1  # same weights, same first batch


def test_the_test_set_is_touched_by_final_runs_alone(done):
    assert all((r["test"] is not None) == (r["rung"] == "final") for r in records(done.folder))


def test_every_trial_has_a_seed_of_its_own_that_all_strategies_share(done):
    tuning = {(r["strategy"], r["key"].split("/")[1]): r["seed"] for r in records(done.folder) if r["rung"] != "final"}
    seeds = {name: [tuning[name, str(i)] for i in range(5)] for name in ("sgd", "adam@warmup-linear")}
    assert seeds["sgd"] == seeds["adam@warmup-linear"]
    assert len(set(seeds["sgd"])) == 5


def test_a_final_run_trains_with_the_mean_of_the_best_trials_of_its_half(done):
    """In the protocol's words, from the records alone."""
    for s in done.results["strategies"]:
        own = [r for r in records(done.folder) if r["strategy"] == s["name"]]
        last = {int(r["key"].split("/")[1]): r for r in own if r["rung"] != "final"}
        assert len(last) == s["trials"] == 5
        for run, final in enumerate(r for r in own if r["rung"] == "final"):
            tried = [last[i] for i in half(5, run, 0)]
            ended = [r for r in tried if r["rung"] == "tune-3"] or tried
            ranked = sorted(ended, key=lambda r: (-r["curve"]["valid_metric"][-1], r["curve"]["valid_loss"][-1]))
            assert final["hyper"] == s["runs"][run]["hyperparameters"]
            assert final["hyper"]["lr"] == mean_of([r["hyper"] for r in ranked[:3]], s["space"])["lr"]
        lrs = sorted(r["hyperparameters"]["lr"] for r in s["runs"])
        assert s["hyperparameters"]["lr"] == lrs[1]  # the middle one is recommended


def test_what_is_held_back_lies_near_the_best_of_the_others(tmp_path):
    done = study(tmp_path / "s", trials=9, steps=30)
    for s in done.results["strategies"]:
        first, second = (
            [r for r in records(done.folder) if r["strategy"] == s["name"] and r["rung"] == rung]
            for rung in ("tune-1", "tune-2")
        )
        ranked = sorted(first, key=lambda r: (-r["curve"]["valid_metric"][-1], r["curve"]["valid_loss"][-1]))
        low, high = window(s["space"], [r["hyper"] for r in ranked[:3]])["lr"]
        assert len(second) == 3
        assert all(low <= r["hyper"]["lr"] <= high for r in second)


def test_a_study_run_again_is_read_not_trained(done):
    class Refuse(Reporter):
        def advance(self, steps):
            pytest.fail("trains again")

    before = (done.folder / "study.sqlite").read_bytes()
    again = study(done.folder, reporter=Refuse())
    assert again.results == done.results
    assert (done.folder / "study.sqlite").read_bytes() == before


class Interrupt(Reporter):
    """Interrupts a study after so many calls."""

    def __init__(self, after):
        self.left = after

    def advance(self, steps):
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("engine", "piece"), [("serial", snapshots.PIECE), ("lanes", snapshots.PIECE), ("serial", 100)]
)
def test_interrupted_anywhere_it_ends_with_the_same_records_bit_for_bit(tmp_path, engine, piece, monkeypatch):
    monkeypatch.setattr(compiling, "compiler_missing", lambda: "kept short")
    monkeypatch.setattr(snapshots, "PIECE", piece)  # of snapshots, which for large models are in several
    expected = records(study(tmp_path / "whole", engine=engine).folder)
    out, interruptions = tmp_path / "cut", 0
    for after in (1, 3, 8, 13, 30, 60):
        try:
            study(out, engine=engine, reporter=Interrupt(after))
            break
        except KeyboardInterrupt:
            interruptions += 1
    assert interruptions >= 3
    study(out, engine=engine)
    assert records(out) == expected


def test_a_piece_of_a_snapshot_that_is_missing_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(snapshots, "PIECE", 100)
    folder = study(tmp_path / "s", engine="serial").folder
    with closing(sqlite3.connect(folder / FILE)) as connection:
        (rung, position), *_ = connection.execute("SELECT DISTINCT rung, position FROM pieces").fetchall()
        connection.execute("DELETE FROM pieces WHERE (rung, position, number) = (?, ?, 0)", (rung, position))
        connection.commit()
    store = Store.open(folder)
    with pytest.raises(StudyError, match="a snapshot: its bytes have changed since they were written"):
        store.snapshot(rung, position)
    store.close()


USER = """
import torch
from torch import nn
from torch.utils.data import TensorDataset
import thalweg

x = torch.randn(400, 6, generator=torch.Generator().manual_seed(0))
y = x[:, :3].argmax(dim=1)
a, b, c = (TensorDataset(x[i:j], y[i:j]) for i, j in ((0, 200), (200, 300), (300, 400)))

def task():
    return thalweg.Task(lambda: nn.Linear(6, 3), a, b, c, nn.functional.cross_entropy, batch_size=20, name="user")
"""


class Counting(Interrupt):
    """Interrupts, and counts the steps that were done before."""

    done = 0

    def advance(self, steps):
        super().advance(steps)
        self.done += steps


@pytest.mark.parametrize("after", [3, 9, 14, 27, 40, 55])
def test_every_trial_that_ended_before_an_interruption_is_in_the_store(tmp_path, after):
    counting = Counting(after)
    with pytest.raises(KeyboardInterrupt):
        study(tmp_path / "s", reporter=counting)
    kept = sum(r["steps"] - (4 if r["rung"] == "tune-3" else 0) for r in records(tmp_path / "s"))
    assert kept <= counting.done < kept + 12  # but for the one in flight


def test_snapshots_are_in_memory_a_trial_at_a_time(tmp_path, monkeypatch):
    held = []

    class Counted(dict):
        def __init__(self, tensors):
            super().__init__(tensors)
            held.append(weakref.ref(self))

    snapshot = serial._RuleRun.snapshot
    monkeypatch.setattr(serial._RuleRun, "snapshot", lambda run: Counted(snapshot(run)))
    monkeypatch.setattr(result_writer, "PAUSE", 0.0)
    most = []
    run = serial.Serial._limited
    monkeypatch.setattr(
        serial.Serial,
        "_limited",
        lambda self, job, progress: (most.append(sum(ref() is not None for ref in held)), run(self, job, progress))[1],
    )
    study(tmp_path / "s")
    assert len(held) == len(records(tmp_path / "s"))
    assert max(most) <= 1


KILLED = """
import os, signal, sys
from thalweg.cli.main import run
from thalweg.compare.storage.store import Store

add, rung = Store.add, sys.argv.pop(1)

def add_and_die(store, name, records):
    add(store, name, records)
    if name == rung:
        os.kill(os.getpid(), signal.SIGKILL)

Store.add = add_and_die
run()
"""


def test_killed_as_soon_as_a_rung_is_written_it_loses_at_most_what_is_in_flight(tmp_path):
    (tmp_path / "my.py").write_text(USER)
    words = ["compare", "my.py:task", "--strategies", "sgd,adam", "--trials", "4", "--steps", "24", "--seeds", "3"]
    words += ["--engine", "serial", "--out"]
    assert command(*words, "whole", cwd=tmp_path).returncode == 0
    for rung in ("tune-1", "tune-3"):
        killed = script(KILLED, rung, *words, "cut", cwd=tmp_path)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        assert rung in {record["rung"] for record in records(tmp_path / "cut")}
    assert command(*words, "cut", cwd=tmp_path).returncode == 0
    assert records(tmp_path / "cut") == records(tmp_path / "whole")


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.recurrent, self.head = nn.LSTM(6, 5, batch_first=True, proj_size=4), nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.recurrent(x[:, None])[0][:, -1])


def test_a_study_that_never_began_gives_way(tmp_path):
    unstackable = small_task(model=Recurrent)
    with pytest.raises(ValueError, match="--engine lanes is not possible .*; use --engine auto"):
        study(tmp_path / "s", task=unstackable, engine="lanes")
    assert study(tmp_path / "s", task=unstackable, engine="auto").results["engine"][0]["name"] == "serial"


def test_a_study_that_goes_on_says_from_where(tmp_path):
    class Telling(Interrupt):
        def __init__(self, after):
            super().__init__(after)
            self.lines = []

        def say(self, line):
            self.lines.append(line)

    first, second, third = Telling(14), Telling(10**9), Telling(10**9)
    with pytest.raises(KeyboardInterrupt):
        study(tmp_path / "s", reporter=first)
    kept = len(records(tmp_path / "s"))
    for reporter in (second, third):
        study(tmp_path / "s", reporter=reporter)
    assert not any("resuming" in line for line in first.lines)
    assert f"resuming: {kept} runs are in the store" in second.lines
    assert "the study is already finished: its results are shown again" in third.lines


def test_a_tasks_name_leads_nowhere_else(tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    monkeypatch.chdir(tmp_path / "in")
    done = study(None, strategies=("sgd",), task=small_task(name="../../up & <b>x</b>"))
    assert done.folder == tmp_path / "in" / "thalweg-up-b-x-b"
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_a_different_study_is_refused_untouched(done):
    before = (done.folder / "study.sqlite").read_bytes()
    with pytest.raises(
        StudyError, match="contains a different study: steps is 12 there and 13 here: choose another --out"
    ):
        study(done.folder, steps=13)
    with pytest.raises(StudyError, match="strategies are sgd, adam@warmup-linear there and sgd, nadam here"):
        study(done.folder, strategies=("sgd", "nadam"))
    with pytest.raises(StudyError, match="the batch size is 20 there and 10 here"):
        study(done.folder, task=small_task(batch_size=10))
    with pytest.raises(StudyError, match="seed is 0 there and 1 here"):
        study(done.folder, seed=1)
    assert (done.folder / "study.sqlite").read_bytes() == before


@pytest.mark.parametrize("damage", ["text", "cut", "empty", "other", "holes"])
def test_a_damaged_study_is_refused_untouched(tmp_path, done, damage):
    raw = (done.folder / "study.sqlite").read_bytes()
    path = tmp_path / "study.sqlite"
    if damage == "other":
        with sqlite3.connect(path) as db:
            db.execute("CREATE TABLE songs (name TEXT)")
    else:
        holes = raw[:4096] + bytes(4096) + raw[8192:]
        path.write_bytes({"text": b"hello" * 1000, "cut": raw[:5000], "empty": b"", "holes": holes}[damage])
    before = path.read_bytes()
    with pytest.raises(StudyError, match="is damaged|not a study") as raised:
        study(tmp_path)
    assert "\n" not in str(raised.value)
    with pytest.raises(StudyError):
        Comparison.open(tmp_path)
    assert path.read_bytes() == before


def test_a_folder_with_other_things_in_it_is_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(StudyError, match="not empty and contains no study"):
        study(tmp_path)
    with pytest.raises(StudyError, match="is a file, not a folder"):
        study(tmp_path / "thesis.txt")


def test_an_unfinished_study_has_no_report_and_says_what_to_do(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        study(tmp_path / "out", reporter=Interrupt(15))
    with pytest.raises(StudyError, match="not finished.*same thalweg compare command"):
        Comparison.open(tmp_path / "out")


def test_a_full_disk_is_one_line_and_the_study_goes_on_later(tmp_path, monkeypatch, done):
    """A database that may not grow stands for a full disk."""
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        study(out, reporter=Interrupt(12))
    opened = Store.open.__func__

    def narrow(cls, folder, write=False, check=True):
        store = opened(cls, folder, write, check)
        pages = store._db.execute("PRAGMA page_count").fetchone()[0]
        store._db.execute(f"PRAGMA max_page_count={pages}")
        return store

    with monkeypatch.context() as patch:
        patch.setattr(Store, "open", classmethod(narrow))
        with pytest.raises(StudyError, match="cannot write to .* full.*: free some space or choose another --out"):
            study(out)
    study(out)
    assert records(out) == records(done.folder)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_one_line(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(StudyError, match="cannot write to .*: choose a writable folder"):
        study(tmp_path / "out")


def test_a_folder_that_cannot_be_made_is_one_line():
    with pytest.raises(StudyError, match="cannot write to .*: choose a writable folder"):
        study("/proc/nowhere/out")


def test_opening_a_study_runs_nothing_and_unpickles_nothing(done, monkeypatch):
    import pickle

    def refuse(*_, **__):
        raise AssertionError("unpickled")

    monkeypatch.setattr(pickle, "loads", refuse)
    monkeypatch.setattr(pickle, "load", refuse)
    monkeypatch.setattr(torch, "load", refuse)
    assert Comparison.open(done.folder).results == done.results


def test_divergence_stays_in_the_denominator(tmp_path):
    from thalweg import Strategy

    wild = Strategy("wild", factory=torch.optim.SGD, defaults={"lr": 1e4}, space={"lr": (1e3, 1e6)})
    result = study(tmp_path / "out", strategies=(wild, "sgd")).results
    s = next(s for s in result["strategies"] if s["name"] == "wild")
    assert (s["trials"], s["diverged"]) == (5, 5)
    assert (s["failed"]["count"], s["failed"]["of"]) == (3, 3)
    assert s["failed"]["low"] == pytest.approx(0.292, abs=1e-3)  # Clopper and Pearson's
    assert s["valid"] is s["test"]["typical"] is None
    assert s["test"]["per_seed"] == [None] * 3
    failures = next(line for line in result["verdict"]["details"] if line.startswith("Failed runs"))
    assert failures == "Failed runs: wild 3 of 3 (true rate 29 to 100 %); the others none (at most 71 %)."
    assert any("wild: every configuration diverged" in note for note in result["notes"])


def test_a_strategy_whose_best_lies_on_the_edge_is_tried_beyond_it_and_that_is_said(tmp_path):
    from thalweg import Strategy
    from thalweg.rules import RULES

    timid = Strategy("timid", RULES["sgd"], None, {**RULES["sgd"].defaults, "lr": 1e-3}, {"lr": (1e-3, 0.1)})
    result = study(tmp_path / "out", strategies=(timid,), trials=12, steps=200).results
    s = result["strategies"][0]
    assert max(p["lr"] for p in s["sensitivity"]) > 0.1
    assert s["on_edge"] == ["lr", "high"]
    assert "timid: the best lr lies on the high edge of its range, so a wider range may be better." in result["notes"]


def test_the_margin_of_equivalence_is_the_studys_or_that_of_whoever_reads_it(tmp_path):
    made = study(tmp_path / "s", seeds=8, within=1.0)
    assert made.results["verdict"]["margin"] == 1.0
    assert made.results["verdict"]["equivalent"]
    assert Comparison.open(made.folder).results["verdict"] == made.results["verdict"]
    assert Comparison.open(made.folder, within=1e-9).results["verdict"]["equivalent"] == []


def test_a_study_of_the_former_protocol_is_shown_and_said_to_be_one(tmp_path, done):
    shutil.copytree(done.folder, tmp_path / "old")
    with sqlite3.connect(tmp_path / "old" / "study.sqlite") as file:
        design = json.loads(file.execute("SELECT value FROM facts WHERE name = 'design'").fetchone()[0])
        del design["protocol"], design["within"], design["budget"]["looks"]
        file.execute("DELETE FROM facts WHERE name IN ('design', 'constant_test')")
        file.execute("INSERT INTO facts VALUES (?, ?, ?)", sealed("design", json.dumps(design)))
    shown = Comparison.open(tmp_path / "old").results
    assert shown["protocol"] == 1
    assert any("a former protocol" in note for note in shown["notes"])
    assert not any("own tuning" in line for line in shown["verdict"]["details"])
    with pytest.raises(
        StudyError, match="a study of a former protocol, which cannot be continued: thalweg report shows it"
    ):
        study(tmp_path / "old")


def test_a_study_whose_batches_were_runs_alone_is_shown_and_said_to_be_one(tmp_path, done):
    shutil.copytree(done.folder, tmp_path / "old")
    look = {"ended_by": "time", "at_most": 60.0, "seconds": 50.0, "batch_seconds": 20.0, "runs": 3, "of": 12}
    with sqlite3.connect(tmp_path / "old" / "study.sqlite") as file:
        design = json.loads(file.execute("SELECT value FROM facts WHERE name = 'design'").fetchone()[0])
        design["budget"]["looks"] = 4
        file.execute("DELETE FROM facts WHERE name = 'design'")
        file.execute("INSERT INTO facts VALUES (?, ?, ?)", sealed("design", json.dumps(design)))
        file.execute("INSERT INTO facts VALUES (?, ?, ?)", sealed("look 1", json.dumps(look)))
    shown = Comparison.open(tmp_path / "old").results
    assert (shown["protocol"], shown["budget"]["looks"], shown["budget"]["seeds"]) == (2, 4, 3)
    assert any("a former protocol of --until decided" in note for note in shown["notes"])
    assert any("after 3 of at most 12 runs" in line and "3 more runs" in line for line in shown["verdict"]["details"])
    with pytest.raises(StudyError, match="a study of a former protocol, which cannot be continued"):
        study(tmp_path / "old", until="decided")


def test_a_study_that_is_judged_once_is_another_than_one_until_decided(tmp_path, done):
    shutil.copytree(done.folder, tmp_path / "s")
    with pytest.raises(StudyError, match=r"contains a different study: until is not given there and decided here:"):
        study(tmp_path / "s", until="decided")


def test_one_strategy_under_two_names_is_a_tie(tmp_path):
    from dataclasses import replace

    from thalweg import Strategy

    one = Strategy.parse("adam")
    verdict = study(tmp_path / "out", strategies=(one, replace(one, name="twin"))).results["verdict"]
    assert verdict["winner"] is None
    assert set(verdict["tied"]) == {"adam", "twin"}


def test_the_order_of_strategies_does_not_change_their_results(tmp_path, done):
    turned = study(tmp_path / "out", strategies=("adam@warmup-linear", "sgd")).results
    scores = {s["name"]: s["test"] for s in turned["strategies"]}
    assert scores == {s["name"]: s["test"] for s in done.results["strategies"]}


def test_a_comparison_shows_itself_in_a_notebook(done):
    html = done._repr_html_()
    assert done.verdict.split(":")[0] in html
    assert all(line in html for line in done.details)
    assert "<table>" in html
    assert done.verdict in repr(done)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"trials": 0}, "trials must be at least 1, not 0"),
        ({"steps": -1}, "steps must be at least 1, not -1"),
        ({"seeds": 0}, "seeds must be at least 1"),
        ({"strategies": ()}, "no strategies: name at least one"),
        ({"strategies": ("adam", "adam")}, "'adam' is named twice"),
        ({"device": "cuda:77"}, "cannot be used here .*: use --device cpu"),
        ({"device": "teapot"}, "cannot be used here"),
        ({"strategies": ("sgd", "torch.nn.Linear")}, "cannot step this model"),
    ],
)
def test_bad_settings_leave_no_folder_behind(tmp_path, options, match):
    with pytest.raises(ValueError, match=match):
        study(tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_lanes_for_a_model_that_cannot_be_stacked_are_refused(tmp_path):
    task = small_task(model=Recurrent)
    with pytest.raises(ValueError, match="--engine lanes is not possible .*LSTM.*use --engine auto"):
        study(tmp_path / "out", task=task, engine="lanes")
    result = study(tmp_path / "auto", task=task, engine="auto").results
    assert result["engine"][0]["name"] == "serial"
    assert "LSTM" in result["engine"][0]["reason"]


def test_two_at_once_on_one_folder_the_second_is_refused_and_the_first_goes_on(tmp_path, done):
    class Second(Reporter):
        message = ""

        def standing(self, best):
            with pytest.raises(
                StudyError, match="another thalweg compare is running in .*: wait until it ends"
            ) as error:
                study(tmp_path / "out")
            Second.message = str(error.value)

    study(tmp_path / "out", reporter=Second())
    assert "\n" not in Second.message != ""
    assert records(tmp_path / "out") == records(done.folder)
    study(tmp_path / "out")  # the lock went with its holder


@pytest.mark.parametrize("column", ["curve", "first_loss", "test", "snapshot", "hyper", "digest"])
def test_a_number_that_was_changed_is_found_where_the_file_is_sound(tmp_path, column):
    with pytest.raises(KeyboardInterrupt):
        study(tmp_path / "out", reporter=Interrupt(50))
    path = tmp_path / "out" / "study.sqlite"
    with sqlite3.connect(path) as db:
        db.execute(f"UPDATE outcomes SET {column} = substr({column}, 2) WHERE {column} IS NOT NULL")
        if not db.total_changes:
            db.execute(f"UPDATE outcomes SET {column} = 0.5")
    with pytest.raises(StudyError, match="is damaged .*its bytes have changed since they were written"):
        study(tmp_path / "out")


def test_a_kill_while_a_folder_is_begun_leaves_one_that_can_be_begun(tmp_path, done):
    (tmp_path / "study.sqlite.part").write_bytes(b"half a page")
    (tmp_path / "study.sqlite.part-journal").write_bytes(b"")
    assert records(study(tmp_path).folder) == records(done.folder)


@pytest.mark.parametrize("last", ["run", "diagnosis", "engine", "seconds_per_step", "untrained_test", "seconds"])
def test_killed_between_two_facts_it_goes_on(tmp_path, monkeypatch, done, last):
    add = Store.add_fact

    def cut(store, name, value):
        if name == last:
            raise KeyboardInterrupt
        add(store, name, value)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "add_fact", cut)
        with pytest.raises(KeyboardInterrupt):
            study(tmp_path / "out")
    assert records(study(tmp_path / "out").folder) == records(done.folder)


def test_a_kill_that_leaves_a_log_of_a_head_alone_is_read_past_at_once(tmp_path):
    """SQLite waits ten seconds for it, and then gives up."""
    made = study(tmp_path / "out")
    with sqlite3.connect(made.folder / "study.sqlite", isolation_level=None) as writer:
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("INSERT INTO facts VALUES ('more', '1', x'')")
        writer.execute("COMMIT")
        shutil.copytree(made.folder, tmp_path / "killed")
    log = tmp_path / "killed" / "study.sqlite-wal"
    log.write_bytes(log.read_bytes()[:32])
    found = Store.open(tmp_path / "killed")
    assert "untrained_test" in found.facts()
    assert "more" not in found.facts()
    found.close()


def test_an_interruption_once_a_fact_is_committed_is_the_interruption(tmp_path, done):
    class Interrupting:
        in_transaction = False

        def __init__(self, held):
            self.held = held

        def execute(self, statement, *values):
            found = self.held.execute(statement, *values)
            if statement == "COMMIT":
                raise KeyboardInterrupt
            return found

    shutil.copytree(done.folder, tmp_path / "s")
    store = Store.open(tmp_path / "s", write=True)
    held, store._db = store._db, Interrupting(store._db)
    with pytest.raises(KeyboardInterrupt):
        store.add_fact("more", 1)
    store._db = held
    assert store.fact("more") == 1
    store.close()
