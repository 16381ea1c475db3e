"""A study exported for Optuna: its own API and its dashboard read what the store holds."""

import io
import json
import math
import sys

import pytest

from tests.serve.synthetic import make
from thalweg.cli.main import run
from thalweg.compare.storage.store import Store
from thalweg.compare.to_optuna import to_optuna

optuna = pytest.importorskip("optuna", reason="optuna is not installed")
SMALL = {"names": ("sgd", "adam@cosine"), "trials": 8, "steps": 12, "seeds": 3}


def storage_of(path):
    return optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(path)))


def exported(tmp_path, **options):
    store = Store.open(make(tmp_path / "o", **{**SMALL, **options}))
    names = to_optuna(store, tmp_path / "o.journal")
    records = list(store.records())
    store.close()
    return names, records, storage_of(tmp_path / "o.journal")


def test_trials_hold_what_the_records_do(tmp_path):
    names, records, storage = exported(tmp_path)
    assert names == ["made: sgd", "made: adam@cosine", "made: final runs"]
    for name in SMALL["names"]:
        study = optuna.load_study(study_name=f"made: {name}", storage=storage)
        assert study.direction.name == "MAXIMIZE"
        assert study.metric_names == ["validation accuracy"]
        mine = [r for r in records if r["strategy"] == name and r["rung"] != "final"]
        assert len(study.trials) == len({r["key"] for r in mine}) == 9
        for trial in study.trials:
            parts = [r for r in mine if r["key"] == trial.user_attrs["configuration"]]
            points = {s: v for r in parts for s, v in zip(r["curve"]["step"], r["curve"]["valid_metric"], strict=True)}
            assert trial.intermediate_values == points
            assert trial.params == {"lr": parts[0]["hyper"]["lr"]}
            assert trial.distributions["lr"].log
            diverged, whole = parts[-1]["status"] == "diverged", parts[-1]["steps"] == 12
            assert trial.state.name == ("FAIL" if diverged else "COMPLETE" if whole else "PRUNED")
            assert trial.value == (points[12] if trial.state.name == "COMPLETE" else None)
        best = max(r["curve"]["valid_metric"][-1] for r in mine if r["steps"] == 12)
        assert math.isclose(study.best_value, best)
    finals = optuna.load_study(study_name="made: final runs", storage=storage).trials
    tests = {(t.params["strategy"], t.params["seed"]): t.value for t in finals}
    assert tests == {(r["strategy"], r["seed"]): r["test"] for r in records if r["rung"] == "final"}


def test_a_study_that_is_not_finished_is_exported_as_far_as_it_is(tmp_path):
    names, records, storage = exported(tmp_path, until="tune-1")
    assert names == ["made: sgd", "made: adam@cosine"]
    studies = [optuna.load_study(study_name=name, storage=storage) for name in names]
    assert sum(len(study.trials) for study in studies) == len(records)


def test_the_command_exports_and_the_dashboard_opens_it(tmp_path, monkeypatch, capsys):
    dashboard = pytest.importorskip("optuna_dashboard", reason="optuna-dashboard is not installed")
    make(tmp_path / "o", **SMALL)
    monkeypatch.chdir(tmp_path)

    def thalweg(*words):
        monkeypatch.setattr(sys, "argv", ["thalweg", "export", "o", "--format", "optuna", *words])
        with pytest.raises(SystemExit) as ended:
            run()
        return ended.value.code, capsys.readouterr().err.strip()

    assert thalweg("--to", "a b.journal") == (0, "exported 3 studies: show them with optuna-dashboard 'a b.journal'")
    assert {p.name for p in tmp_path.iterdir()} == {"o", "a b.journal"}

    app = dashboard.wsgi(storage_of(tmp_path / "a b.journal"))

    def get(path):
        environ = {
            "REQUEST_METHOD": "GET",
            "PATH_INFO": path,
            "SERVER_NAME": "x",
            "SERVER_PORT": "80",
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(),
            "wsgi.errors": io.StringIO(),
        }
        status = []
        body = b"".join(app(environ, lambda line, *_: status.append(line)))
        assert status == ["200 OK"]
        return json.loads(body)

    studies = get("/api/studies")["study_summaries"]
    assert [s["study_name"] for s in studies] == ["made: sgd", "made: adam@cosine", "made: final runs"]
    assert len(get(f"/api/studies/{studies[0]['study_id']}")["trials"]) == 9

    held = (tmp_path / "a b.journal").read_bytes()
    for to, needle in (("a b.journal", "already exists"), ("nowhere/x", "cannot write nowhere/x"), (None, "--to")):
        code, output = thalweg(*(["--to", to] if to else []))
        assert code == 2
        assert needle in output
        assert len(output.splitlines()) == 1
    assert (tmp_path / "a b.journal").read_bytes() == held
