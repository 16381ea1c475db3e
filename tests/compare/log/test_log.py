"""Records in TensorBoard, MLflow and Weights & Biases, read back by their own means: all, once, after cuts too."""

import re
import shutil
import socket
import sys

import pytest

from tests.command import script
from tests.compare.log.trackers import SHOWN
from tests.compare.small import small_task
from tests.serve.synthetic import RUNGS, Writer, make
from thalweg import compare
from thalweg.cli.main import run
from thalweg.compare.comparison import Comparison
from thalweg.compare.log.log import Log
from thalweg.compare.log.tracker import TRACKERS, TrackedRun, tracker_of
from thalweg.compare.log.training import log_training
from thalweg.compare.storage.store import Store

SMALL = {"names": ("sgd", "adam@cosine"), "trials": 4, "steps": 12, "seeds": 2}
PACKAGES = {"tensorboard": "tensorboard", "mlflow": "mlflow", "wandb": "wandb"}


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    """Refuses connections to anything but this machine."""
    connect = socket.socket.connect

    def refuse(self, address):
        if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "::1", "localhost"):
            pytest.fail(f"connects to {address}")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture(params=TRACKERS, scope="module")
def named(request, tmp_path_factory):
    """Yields a tracker's name and its place, empty but for MLflow's tables, which take their time to make."""
    pytest.importorskip(PACKAGES[request.param], reason=f"{request.param} is not installed")
    place = tmp_path_factory.mktemp(request.param)
    tracker_of(f"{request.param}={place}")
    return request.param, place


@pytest.fixture
def tracked(named, tmp_path):
    """Yields a tracker's name and a place of the test's own."""
    name, ready = named
    shutil.copytree(ready, tmp_path / "place")
    return name, tmp_path / "place"


def expected(store):
    """Returns what a tracker should show of the records."""
    found = {}
    for record in store.records():
        curve = record["curve"]
        points = {
            step: {"train/loss": train, "valid/loss": loss, "valid/accuracy": metric}
            for step, train, loss, metric in zip(*curve.values(), strict=True)
        }
        config = {"strategy": record["strategy"], "seed": record["seed"], **record["hyper"]}
        summary = {} if record["test"] is None else {"test/accuracy": record["test"]}
        found[f"{record['rung']}/{record['key']}"] = points, config, summary
    return found


def check(shown, wanted):
    """Compares all runs; names may be in the letters that a tracker has, numbers words or in single precision."""
    plain = {re.sub(r"[^\w./ -]", "_", name): run for name, run in shown.items()}
    assert plain.keys() == {re.sub(r"[^\w./ -]", "_", name) for name in wanted}
    for name, (points, config, summary) in wanted.items():
        its_points, its_config, its_summary = plain[re.sub(r"[^\w./ -]", "_", name)]
        assert its_points.keys() == points.keys()
        for step, values in points.items():
            assert its_points[step] == pytest.approx(values, rel=1e-6)
        for key, value in config.items():
            given = its_config[key]
            assert given == value if isinstance(value, str) else float(given) == pytest.approx(value)
        assert its_summary == pytest.approx(summary, rel=1e-6)


def test_every_record_is_there_once_as_rungs_come_and_at_the_end(tracked, tmp_path):
    name, place = tracked
    writer = Writer(tmp_path / "o", **SMALL)
    writer.begin()
    log = Log(writer.store, [tracker_of(f"{name}={place}")])
    writer.rung("tune-1")
    log.catch_up()
    check(without_verdict(SHOWN[name](place)), expected(writer.store))
    for rung in RUNGS[1:-1]:
        writer.rung(rung)
    writer.finish()
    # Another process goes on, and once more when all is there.
    for _ in range(2):
        Log(writer.store, [tracker_of(f"{name}={place}")]).all_of_it()
        shown = SHOWN[name](place)
        verdict = shown.pop("verdict")[2]
        check(shown, expected(writer.store))
    done = Comparison.from_store(writer.store, tmp_path / "o")
    assert done.details
    assert verdict.pop("text") == " ".join([done.verdict, *done.details])
    assert sorted(verdict.values()) == pytest.approx(sorted(s["test"]["typical"] for s in done.results["strategies"]))
    writer.store.close()


def without_verdict(shown):
    return {name: run for name, run in shown.items() if name != "verdict"}


def test_what_a_cut_left_is_written_again_whole(tracked):
    name, place = tracked

    class Torn(list):
        def __iter__(self):
            yield self[0]
            raise KeyboardInterrupt

    about = {"task.name": "made"}
    run = TrackedRun("tune-1/sgd/0", {"lr": 0.1}, [(1, {"train/loss": 0.5}), (2, {"train/loss": 0.25})])
    cut, after = tracker_of(f"{name}={place}"), tracker_of(f"{name}={place}")
    cut.begin("cut", "cut 1", about)
    with pytest.raises(KeyboardInterrupt):
        cut.write(TrackedRun(run.name, run.config, Torn(run.points)))
    assert not cut.holds(run.name)
    after.begin("cut", "cut 1", about)
    assert not after.holds(run.name)
    after.write(run)
    assert after.holds(run.name)
    points, config, _ = SHOWN[name](place)[run.name]
    assert points == {1: {"train/loss": 0.5}, 2: {"train/loss": 0.25}}
    assert float(config["lr"]) == 0.1


def test_a_tracker_that_fails_is_let_go_with_a_line_and_the_others_go_on(tmp_path):
    class Full:
        place, writes = "a full disk", 0

        def begin(self, project, study, about):
            pass

        def holds(self, name):
            return False

        def write(self, run):
            self.writes += 1
            if self.writes > 1:
                raise OSError(28, "No space left on device")

    class Kept(Full):
        def write(self, run):
            self.writes += 1

        conclude = write

    full, kept, lines = Full(), Kept(), []
    store = Store.open(make(tmp_path / "o", **SMALL))
    Log(store, [full, kept], lines.append).all_of_it()
    assert len(lines) == 1
    assert "a full disk failed (OSError: [Errno 28] No space left on device): the study continues" in lines[0]
    assert (full.writes, kept.writes) == (2, len(list(store.records())) * 2 + 1)  # it holds none of them
    with pytest.raises(ValueError, match="cannot log to a full disk"):
        Log(store, [Full()]).all_of_it()
    store.close()


def test_compare_logs_each_rung_and_going_on_adds_what_is_missing(tmp_path):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")

    def study():
        options = {"trials": 1, "steps": 6, "seeds": 2, "engine": "serial", "out": tmp_path / "o"}
        return compare(small_task(), ["sgd", "adam"], log=[f"tensorboard={tmp_path / 'runs'}"], **options)

    study()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("events*")}
    lost = next(path for path in before if "final" in str(path))
    lost.unlink()
    study()
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("events*")}
    assert len(after) == len(before) == 1 + len(list(Store.open(tmp_path / "o").records()))
    assert len(before.items() & after.items()) == len(before) - 1


def test_an_export_logs_what_there_is(tracked, tmp_path, monkeypatch):
    name, place = tracked
    make(tmp_path / "o", until="tune-2", **SMALL)
    monkeypatch.setattr(sys, "argv", ["thalweg", "export", str(tmp_path / "o"), "--format", name, "--to", str(place)])
    with pytest.raises(SystemExit, match="0"):
        run()
    store = Store.open(tmp_path / "o")
    check(without_verdict(SHOWN[name](place)), expected(store))
    store.close()


def test_bad_trackers_are_refused_in_one_line_before_anything_runs(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.delitem(sys.modules, "thalweg.compare.log.wandb", raising=False)
    for spec, words in (
        ("tensorbord", "unknown tracker 'tensorbord': did you mean 'tensorboard'?"),
        ("neptune=x", "choose among tensorboard, mlflow, wandb"),
        ("mlflow=http://127.0.0.1:1", "cannot log to http://127.0.0.1:1 .Connection refused.: start that server"),
        ("wandb", "pip install 'thalweg\\[wandb\\]'"),
        (f"tensorboard={tmp_path}/file/runs", "cannot write to .*file/runs .Not a directory.: choose another place"),
    ):
        with pytest.raises(ValueError, match=words) as raised:
            compare(small_task(), ["sgd"], log=[spec], out=tmp_path / "o")
        assert "\n" not in str(raised.value)
    assert not (tmp_path / "o").exists()


def test_names_and_values_that_are_awkward_come_through(tracked):
    name, place = tracked
    tracker = tracker_of(f"{name}={place}")
    tracker.begin("odd", "odd 1", {})
    tracker.write(TrackedRun("final/../../etc/0", {"lr": 1e-12, "strategy": "../x"}, [], {"test/a": 1.5}))
    assert tracker.holds("final/../../etc/0")
    assert not list(place.parent.glob("etc")) + list(place.glob("etc"))
    assert [run[2] for run in without_verdict(SHOWN[name](place)).values()] == [{"test/a": 1.5}]


def test_none_is_imported_unless_it_is_used(tmp_path):
    names = ("tensorboard", "mlflow", "wandb", "optuna", "transformers", "accelerate", "pytorch_lightning", "skorch")
    code = f"""
import sys, thalweg, thalweg.cli.main
from tests.compare.small import small_task
thalweg.compare(small_task(), ["sgd"], trials=1, steps=3, seeds=2, engine="serial", out={str(tmp_path / "o")!r})
sys.argv = ["thalweg", "export", {str(tmp_path / "o")!r}, "--format", "csv", "--to", {str(tmp_path / "csv")!r}]
try:
    thalweg.cli.main.run()
finally:
    print([name for name in {names} if name in sys.modules])
"""
    done = script(code)
    assert done.stdout.strip() == "[]", done.stderr


def test_a_trained_model_is_a_run_with_the_rows_of_all_its_stages(tracked, tmp_path):
    name, place = tracked
    (tmp_path / "history.json").write_text("{}")
    rows = [
        {"stage": "first", "step": 2, "epoch": 1, "train_loss": 1.0, "valid_accuracy": 0.5, "seconds": 0.1},
        {"stage": "second", "step": 1, "epoch": 1, "train_loss": 0.5, "valid_accuracy": None, "seconds": 0.2},
        {"stage": "second", "step": 2, "epoch": 2, "train_loss": 0.25, "valid_accuracy": 0.75, "seconds": 0.3},
    ]
    record = {"task": "made", "strategy": "adam@cosine", "hyperparameters": {"lr": 0.1}, "seed": 3}
    for _ in range(2):  # the second time it is there
        log_training([tracker_of(f"{name}={place}")], tmp_path, {**record, "test_loss": 0.2, "rows": rows})
    shown = {run: values for run, values in SHOWN[name](place).items() if run != "verdict"}
    points = {
        2: {"train/loss": 1.0, "valid/accuracy": 0.5},
        3: {"train/loss": 0.5},
        4: {"train/loss": 0.25, "valid/accuracy": 0.75},
    }
    config = {"task": "made", "strategy": "adam@cosine", "seed": 3, "lr": 0.1}
    check(shown, {"train/adam@cosine": (points, config, {"test/loss": 0.2})})


def test_train_logs_its_history(tmp_path, monkeypatch):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    monkeypatch.chdir(tmp_path)
    words = "train breast-cancer --strategy sgd --steps 20 --evaluate-every 10 --out o --log tensorboard=place"
    monkeypatch.setattr(sys, "argv", ["thalweg", *words.split()])
    with pytest.raises(SystemExit, match="0"):
        run()
    ((name, (points, config, summary)),) = SHOWN["tensorboard"](tmp_path / "place").items()
    assert name == "train/sgd"
    assert points.keys() == {10, 20}
    assert set(points[20]) == {"train/loss", "valid/loss"}
    assert config["task"] == "breast-cancer"
    assert set(summary) == {"test/loss"}
