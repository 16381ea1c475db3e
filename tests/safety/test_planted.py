"""A malicious pickle in every file that is read: nothing in it runs, and a line says that the file is no good."""

import gzip
import pickle
import sqlite3
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import thalweg
from tests.compare.small import small_task
from thalweg.cli import main
from thalweg.compare.comparison import Comparison
from thalweg.compare.storage.rows import FIELDS, digest_of
from thalweg.compare.storage.store import Store, StudyError
from thalweg.compare.task.builtin import TASKS
from thalweg.pretraining import read_weights
from thalweg.tensors.files import FileError, read_safely
from thalweg.training import checkpoint


class Bomb:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, mark):
        self.mark = str(mark)

    def __reduce__(self):
        return Path.touch, (Path(self.mark),)


@pytest.fixture
def bomb(tmp_path):
    """Yields the bomb, and sees afterwards that it did not go off; that it can was seen before."""
    mark = tmp_path / "mark"
    pickle.loads(pickle.dumps(Bomb(mark)))
    assert mark.exists()
    mark.unlink()
    yield Bomb(mark)
    assert not mark.exists()


def forms(bomb, folder):
    """Yields files in every form that a pickle comes in."""
    plain = folder / "plain.pt"
    plain.write_bytes(pickle.dumps({"model": bomb}))
    saved, old = folder / "saved.pt", folder / "old.pt"
    torch.save({"format": checkpoint.FORMAT, "version": checkpoint.VERSION, "model": bomb}, saved)
    torch.save({"weight": torch.zeros(2), "more": bomb}, old, _use_new_zipfile_serialization=False)
    array = folder / "array.pt"
    with array.open("wb") as file:
        np.save(file, np.array([bomb], dtype=object), allow_pickle=True)
    return plain, saved, old, array


def test_checkpoints_and_weights(tmp_path, bomb):
    for path in forms(bomb, tmp_path):
        for read in (read_safely, read_weights, lambda p: checkpoint.load(p, {}, nn.Linear(2, 2))):
            with pytest.raises(FileError, match="cannot be read as tensors") as error:
                read(path)
            assert "\n" not in str(error.value)
        weights = path.with_suffix(".safetensors")
        weights.write_bytes(path.read_bytes())
        with pytest.raises(FileError, match="cannot be read as safetensors"):
            read_weights(weights)


def test_a_checkpoint_that_is_resumed_from(tmp_path, bomb, monkeypatch):
    folder = tmp_path / "run"
    folder.mkdir()
    torch.save({"format": checkpoint.FORMAT, "version": checkpoint.VERSION, "model": bomb}, folder / "checkpoint.pt")
    words = ["train", "quadratic", "--strategy", "sgd", "--steps", "5", "--resume", "--out", str(folder)]
    monkeypatch.setattr(sys, "argv", ["thalweg", *words])
    with pytest.raises(SystemExit) as end:
        main.run()
    assert end.value.code == 2


def test_a_store_that_is_a_pickle(tmp_path, bomb):
    path = tmp_path / "out" / "study.sqlite"
    path.parent.mkdir()
    for form in forms(bomb, tmp_path):
        path.write_bytes(form.read_bytes())
        with pytest.raises(StudyError, match="damaged or not a study"):
            Comparison.open(path.parent)


def test_a_pickle_in_each_cell_of_a_store(tmp_path, bomb):
    options = {"trials": 2, "steps": 6, "seeds": 2, "engine": "serial"}
    done = thalweg.compare(small_task(), ("sgd",), out=tmp_path / "out", **options)
    raw, path = pickle.dumps(bomb), done.folder / "study.sqlite"
    whole = path.read_bytes()
    for column in ("hyper", "curve", "status", "first_loss", "snapshot"):
        path.write_bytes(whole)
        with sqlite3.connect(path) as db:
            db.execute(f"UPDATE outcomes SET {column} = ?", (raw,))
            if column == "snapshot":  # whoever plants it knows how digests are made
                db.execute("UPDATE outcomes SET snapshot = ?", (digest_of((), raw) + raw,))
        store = Store.open(done.folder)
        try:
            with pytest.raises(StudyError, match="damaged"):
                store.rung("tune-1"), store.snapshot("tune-1", 0)
        finally:
            store.close()
    path.write_bytes(whole)
    with sqlite3.connect(path) as db:
        db.execute("UPDATE facts SET value = ?, digest = ?", (raw, digest_of(("design", raw))))
    with pytest.raises(StudyError, match="damaged"):
        Comparison.open(done.folder)


def test_a_store_with_right_digests_of_what_is_no_record(tmp_path):
    options = {"trials": 2, "steps": 6, "seeds": 2, "engine": "serial"}
    done = thalweg.compare(small_task(), ("sgd",), out=tmp_path / "out", **options)
    for curve in ('{"step": [', '{"other": []}', "[]"):
        with sqlite3.connect(done.folder / "study.sqlite") as db:
            for rowid, *row in db.execute(f"SELECT rowid, {', '.join(FIELDS)} FROM outcomes").fetchall():
                changed = tuple(curve if name == "curve" else value for name, value in zip(FIELDS, row, strict=True))
                found = curve, digest_of(changed), rowid
                db.execute("UPDATE outcomes SET curve = ?, digest = ? WHERE rowid = ?", found)
        store = Store.open(done.folder)
        try:
            with pytest.raises(StudyError, match="damaged"):
                store.rung("final")
        finally:
            store.close()


@pytest.mark.parametrize("name", ["mnist", "shakespeare"])
def test_data_files(tmp_path, bomb, monkeypatch, name):
    from thalweg.compare.task.builtin.mnist import SHA256

    monkeypatch.setenv("THALWEG_DATA", str(tmp_path))
    raw = pickle.dumps(bomb)
    for file, content in (*((f"mnist/{f}", gzip.compress(raw)) for f in SHA256), ("tinyshakespeare/input.txt", raw)):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_bytes(content)
    with pytest.raises(ValueError, match="is damaged|is too short"):
        TASKS[name]()


@pytest.mark.parametrize("name", ["a.npy", "zipped.npy", "a.png", "a.jpg"])
def test_what_is_coded_sparsely(tmp_path, bomb, monkeypatch, capsys, name):
    path = tmp_path / name
    if name == "a.npy":
        np.save(path, np.array([[bomb, bomb]], dtype=object), allow_pickle=True)
    elif name == "zipped.npy":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("array.npy", pickle.dumps(bomb))
    else:
        path.write_bytes(pickle.dumps(bomb))
    monkeypatch.setattr(sys, "argv", ["thalweg", "sparse-code", str(path), "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as end:
        main.run()
    assert end.value.code == 2
    assert "Traceback" not in capsys.readouterr().err
