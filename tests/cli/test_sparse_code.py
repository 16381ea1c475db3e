"""``thalweg sparse-code``: what it leaves in its folder, and what it refuses in a line."""

import sys

import numpy as np
import pytest
from PIL import Image
from scipy import sparse

from thalweg.cli import main


@pytest.fixture
def run(monkeypatch, capsys):
    def command(*arguments):
        monkeypatch.setattr(sys, "argv", ["thalweg", "sparse-code", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main.run()
        return end.value.code or 0, *capsys.readouterr()

    return command


def scene(height=70, width=53):
    rows, columns = np.mgrid[:height, :width]
    return (127 + 60 * np.sin(rows / 5) + 60 * np.cos((rows + columns) / 7)).astype(np.uint8)


def test_an_image_gives_dictionary_codes_and_pictures(run, tmp_path):
    Image.fromarray(scene()).convert("RGB").save(tmp_path / "scene.png")
    code, printed, error = run(
        tmp_path / "scene.png", "--atoms", 20, "--patch", 6, "--epochs", 3, "--out", tmp_path / "out"
    )
    assert code == 0, error
    assert "88 codes" in printed
    dictionary, codes = np.load(tmp_path / "out/dictionary.npy"), sparse.load_npz(tmp_path / "out/codes.npz")
    assert dictionary.shape == (20, 36)
    assert codes.shape == (88, 20)
    rebuilt = np.asarray(Image.open(tmp_path / "out/rebuilt.png"), dtype=float)
    assert rebuilt.shape == (66, 48)
    assert np.sqrt(((rebuilt - scene()[:66, :48]) ** 2).mean()) < 15
    assert Image.open(tmp_path / "out/dictionary.png").size == (5 * 7 + 1, 4 * 7 + 1)


def test_codes_of_an_array_are_at_the_minimum(run, tmp_path):
    x = np.random.default_rng(0).normal(size=(60, 12))
    np.save(tmp_path / "x.npy", x)
    code, _, error = run(tmp_path / "x.npy", "--atoms", 16, "--alpha", 0.5, "--out", tmp_path / "out")
    assert code == 0, error
    dictionary = np.load(tmp_path / "out/dictionary.npy")
    codes = sparse.load_npz(tmp_path / "out/codes.npz").toarray()
    q = (x - codes @ dictionary) @ dictionary.T
    assert abs(q).max() <= 0.5 * (1 + 1e-3)
    np.testing.assert_allclose(q[codes != 0], 0.5 * np.sign(codes[codes != 0]), rtol=1e-3)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.png", None, "none.png does not exist"),
        ("text.png", b"not an image", "not a readable image"),
        ("text.npy", b"not an array", "not an array of numbers"),
        ("objects.npy", np.array([["a"]]), "pass real numbers of shape (samples, features)"),
        ("line.npy", np.ones(3), "pass real numbers of shape (samples, features)"),
        ("holes.npy", np.full((3, 4), np.nan), "NaN"),
        ("small.png", np.zeros((4, 4), np.uint8), "at least 8 × 8 pixels"),
    ],
)
def test_bad_input_is_one_line(run, tmp_path, name, content, message):
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None and name.endswith("npy"):
        np.save(path, content)
    elif content is not None:
        Image.fromarray(content).save(path)
    code, _, error = run(path, "--out", tmp_path / "out")
    assert code == 2
    assert message in error.replace("\n", "")
    assert "Traceback" not in error
    assert not (tmp_path / "out").exists()
