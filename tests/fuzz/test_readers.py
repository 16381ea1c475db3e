"""Any bytes in any file that is read, and any words in any argument: what is right, or a line; never another error."""

import contextlib
import gzip
import io
import json
import os
import random
import shutil
import sqlite3
import string
import struct

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn

import thalweg
from tests.compare.small import small_task
from thalweg.cli.sparse_code import _array
from thalweg.compare.arguments import size
from thalweg.compare.comparison import Comparison
from thalweg.compare.report import render
from thalweg.compare.storage.rows import FIELDS, sealed
from thalweg.compare.storage.store import StudyError
from thalweg.compare.strategy import Strategy
from thalweg.compare.study.verdict import parse_expectation
from thalweg.compare.task.builtin.mnist import read_idx
from thalweg.pretraining import read_weights
from thalweg.tensors.files import FileError, read_safely
from thalweg.training import checkpoint

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "40"))
fuzz = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


@st.composite
def mutated(draw, raw):
    """Draws the bytes with some replaced, put in, left out or cut off."""
    data = bytearray(raw)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        piece = draw(st.binary(max_size=8))
        match draw(st.integers(0, 3)):
            case 0:
                data[at : at + len(piece)] = piece
            case 1:
                data[at:at] = piece
            case 2:
                del data[at : at + draw(st.integers(1, 64))]
            case 3:
                del data[at:]
    return bytes(data)


def good_or_a_line(read, errors):
    """Reads; an error must be of those, and a line."""
    try:
        return read()
    except errors as found:
        words = str(found)
    assert words
    assert "\n" not in words
    return None


IDX = struct.pack(">HBB2I", 0, 8, 2, 3, 4) + bytes(range(12))


@fuzz
@given(
    st.one_of(mutated(IDX).map(gzip.compress), mutated(gzip.compress(IDX)), st.binary(max_size=60).map(gzip.compress))
)
def test_idx_files(place, raw):
    name = "t10k-labels-idx1-ubyte.gz"
    (place / "mnist").mkdir(exist_ok=True)
    (place / "mnist" / name).write_bytes(raw)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("THALWEG_DATA", str(place))
        good_or_a_line(lambda: read_idx(name), ValueError)


def saved(state, **options):
    file = io.BytesIO()
    torch.save(state, file, **options)
    return file.getvalue()


MODEL = nn.Linear(2, 3)
STATE = {"format": checkpoint.FORMAT, "version": checkpoint.VERSION, "outline": {}, "model": MODEL.state_dict()}
CHECKPOINTS = [saved(STATE), saved(STATE, _use_new_zipfile_serialization=False), saved({"model": 3, "version": []})]


@fuzz
@given(st.one_of(*map(mutated, CHECKPOINTS), st.binary(max_size=60)))
def test_checkpoints_and_weights(place, raw):
    path = place / "state.pt"
    path.write_bytes(raw)
    for read in (read_safely, read_weights, lambda p: checkpoint.load(p, {}, MODEL)):
        good_or_a_line(lambda read=read: read(path), FileError)


@fuzz
@given(
    st.dictionaries(
        st.sampled_from(["format", "version", "outline", "model"]),
        st.one_of(
            st.none(),
            st.integers(),
            st.just(checkpoint.FORMAT),
            st.just(checkpoint.VERSION),
            st.dictionaries(st.text(max_size=3), st.integers(), max_size=3),
        ),
    )
)
def test_checkpoints_of_another_form(place, state):
    path = place / "state.pt"
    torch.save({"format": checkpoint.FORMAT, "version": checkpoint.VERSION, "outline": {}} | state, path)
    good_or_a_line(lambda: checkpoint.load(path, {}, MODEL), FileError)


@fuzz
@given(st.data())
def test_safetensors(place, data):
    from safetensors.torch import save

    path = place / "state.safetensors"
    path.write_bytes(data.draw(st.one_of(mutated(save(MODEL.state_dict())), st.binary(max_size=40))))
    good_or_a_line(lambda: read_weights(path), FileError)


@pytest.fixture(scope="module")
def study(place):
    out = place / "study"
    return thalweg.compare(small_task(), ("sgd", "adam"), trials=2, steps=6, seeds=2, engine="serial", out=out)


@fuzz
@given(st.data())
def test_stores(study, place, data):
    raw = (study.folder / "study.sqlite").read_bytes()
    folder = place / "mutated"
    folder.mkdir(exist_ok=True)
    (folder / "study.sqlite").write_bytes(data.draw(st.one_of(mutated(raw), st.binary(max_size=200))))
    found = good_or_a_line(lambda: Comparison.open(folder), StudyError)
    assert found is None or found.results == study.results


ANYTHING = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-3, 2**70), st.floats(), st.text(max_size=4)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)),
    max_leaves=5,
)


def places(value, path=()):
    """Yields the path to every value within plain data."""
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, within in inner:
        yield from places(within, (*path, key))


def put(value, path, new):
    """Returns the plain data with another value at a path."""
    if not path:
        return new
    copied = value.copy()
    copied[path[0]] = put(value[path[0]], path[1:], new)
    return copied


@fuzz
@given(st.data())
def test_stores_whose_digests_are_right_but_not_their_words(study, place, data):
    def changed(text):
        value = json.loads(text)
        return json.dumps(put(value, data.draw(st.sampled_from(list(places(value)))), data.draw(ANYTHING)))

    folder = place / "forged"
    folder.mkdir(exist_ok=True)
    shutil.copyfile(study.folder / "study.sqlite", folder / "study.sqlite")
    with contextlib.closing(sqlite3.connect(folder / "study.sqlite")) as db:
        if data.draw(st.booleans()):
            name, text = data.draw(st.sampled_from(db.execute("SELECT name, value FROM facts").fetchall()))
            db.execute("REPLACE INTO facts VALUES (?, ?, ?)", sealed(name, changed(text)))
        else:
            rows = db.execute(f"SELECT {', '.join(FIELDS)}, snapshot FROM outcomes").fetchall()
            *row, snapshot = data.draw(st.sampled_from(rows))
            row = dict(zip(FIELDS, row, strict=True))
            field = data.draw(st.sampled_from(FIELDS[2:]))
            plain = st.one_of(st.integers(-3, 2**40), st.floats(allow_nan=False), st.text(max_size=4))
            row[field] = changed(row[field]) if field in ("hyper", "curve") else data.draw(plain)
            values = (*sealed(*row.values()), snapshot)
            db.execute(f"REPLACE INTO outcomes VALUES ({', '.join('?' * len(values))})", values)
        db.commit()
    good_or_a_line(lambda: Comparison.open(folder, write=True), StudyError)


WORDS = st.text(string.printable + "é☃\x00", max_size=12)


NUMBERS = (None, 0.0, -0.0, 1e-300, -1e100, 1e100, 0.1, 3)


@settings(fuzz, max_examples=EXAMPLES // 4)
@given(st.integers(0, 2**32), st.lists(WORDS, min_size=4, max_size=4))
def test_a_report_of_any_words_and_numbers_is_made(study, seed, words):
    draws = random.Random(seed)

    def drawn(value):
        if isinstance(value, dict):
            return {k: drawn(v) for k, v in value.items()}
        if isinstance(value, list):
            return [drawn(v) for v in value]
        return draws.choice(NUMBERS[1:]) if isinstance(value, float) and not draws.randrange(20) else value

    results = drawn(study.results)
    name, description, note, sentence = words
    results["task"] |= {"name": name, "description": description, "target": draws.choice(NUMBERS)}
    results["notes"], results["verdict"]["sentence"] = [note], sentence
    assert render(results).count("<script") == render(study.results).count("<script")


def picture(form):
    file = io.BytesIO()
    Image.fromarray(np.arange(24 * 20, dtype=np.uint8).reshape(24, 20)).save(file, form)
    return file.getvalue()


def array():
    file = io.BytesIO()
    np.save(file, np.arange(12.0).reshape(3, 4))
    return file.getvalue()


PICTURES = {
    "png": picture("png"),
    "jpg": picture("jpeg"),
    "gif": picture("gif"),
    "bmp": picture("bmp"),
    "tif": picture("tiff"),
    "webp": picture("webp"),
    "npy": array(),
}


@fuzz
@given(st.sampled_from(sorted(PICTURES)).flatmap(lambda form: st.tuples(st.just(form), mutated(PICTURES[form]))))
@pytest.mark.filterwarnings("ignore")
def test_what_is_coded_sparsely(place, given):
    form, raw = given
    path = place / f"picture.{form}"
    path.write_bytes(raw)
    found = good_or_a_line(lambda: _array(path, Image), ValueError)
    assert found is None or (found.dim() == 2 and bool(torch.isfinite(found).all()))


@fuzz
@given(
    st.one_of(
        WORDS, st.from_regex(r"(adam|sgd|torch\.optim\.\w{1,9}|\w{1,5}\.py:\w{0,5})(\+[\w.-]{0,12})*(@\w{0,12})?")
    )
)
def test_names_of_strategies(text):
    good_or_a_line(lambda: Strategy.parse(text), ValueError)


@fuzz
@given(st.one_of(WORDS, st.from_regex(r"[0-9.e+-]{1,9} ?[kKmMgGiIbB]{0,3}")))
def test_amounts_of_memory(text):
    found = good_or_a_line(lambda: size(text), ValueError)
    assert found is None or found > 0


@fuzz
@given(st.one_of(WORDS, st.from_regex(r"(adam|sgd|x) ?(beats|ties)? ?(adam|sgd|y)?")))
def test_expectations(text):
    good_or_a_line(lambda: parse_expectation(text, ["adam", "sgd"]), ValueError)


class Stop(Exception):
    """The arguments were good enough to begin."""


@settings(fuzz, max_examples=max(10, EXAMPLES // 2))
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "trials": st.integers(-2, 5),
            "steps": st.one_of(st.none(), st.integers(-2, 50)),
            "seeds": st.integers(-2, 4),
            "seed": st.integers(-(2**70), 2**70),
            "device": st.one_of(st.none(), WORDS, st.just("meta")),
            "memory": st.one_of(st.none(), st.integers(-5, 10**12)),
            "engine": st.sampled_from(["auto", "serial"]),
            "trial_seconds": st.one_of(st.none(), st.floats()),
            "strategies": st.lists(
                st.sampled_from(["sgd", "adam", "adam@cosine", "sgd+ema", "nowhere", "", "adam+"]), max_size=3
            ),
        },
    )
)
def test_arguments_of_a_study(place, arguments):
    with pytest.MonkeyPatch.context() as patch:

        def begun(*_):
            raise Stop

        patch.setattr("thalweg.compare.run.Store.resume_or_create", begun)
        with contextlib.suppress(Stop):
            good_or_a_line(lambda: thalweg.compare(small_task(), out=place / "never", **arguments), ValueError)
    assert not (place / "never").exists()
