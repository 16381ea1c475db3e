"""Data as their users have them: what is read is a function of the seed, the step and nothing else."""

import gc
import multiprocessing
import random
import weakref
from collections import OrderedDict, UserDict
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    TensorDataset,
    WeightedRandomSampler,
    default_collate,
)

from tests.command import command
from thalweg.compare.task import HeldSplit, Task, materialize
from thalweg.compare.task.nested import leaves, moved, size_of
from thalweg.compare.task.reading import ReadSplit
from thalweg.compare.user_errors import TaskError
from thalweg.tensors.draws import global_states

X = torch.arange(240.0).view(60, 4)
Y = (torch.arange(60) % 3 == 0).long()


class Examples(Dataset):
    """Examples that ``change`` makes different each time that they are read."""

    def __init__(self, change=lambda x: x, bad=()):
        self.change, self.bad = change, bad

    def __len__(self):
        return 60

    def __getitem__(self, index):
        if index in self.bad:
            raise KeyError(f"no image {index}")
        return self.change(X[index]), Y[index]


def crop(x):
    return x + torch.randn(1) + random.random() + np.random.random()  # noqa: NPY002


def rarely(x):
    return x if random.random() < 2.0 else -x


def task(train, **options):
    held = TensorDataset(X, Y)
    options = {"loss": nn.functional.cross_entropy, "batch_size": 10, **options}
    return Task(lambda: nn.Linear(4, 2), train, held, held, **options)


def read(split, seed, *steps):
    rows = split.rows(seed, 0, max(steps) + 1, 10)
    return [list(leaves(split.batch(rows[t]))) for t in steps]


def equal(one, two):
    return all(torch.equal(a, b) for x, y in zip(one, two, strict=True) for a, b in zip(x, y, strict=True))


def test_examples_that_draw_are_read_anew_and_others_are_held():
    assert isinstance(task(Examples()).split("train"), HeldSplit)
    assert isinstance(task(TensorDataset(X, Y)).split("train"), HeldSplit)
    for change in (crop, rarely):  # the second gives the same all the same, but draws for it
        split = task(Examples(change)).split("train")
        assert isinstance(split, ReadSplit)
        assert split.draws
        assert isinstance(task(Examples(change), resident=True).split("train"), HeldSplit)


def test_a_batch_follows_from_seed_and_step_alone_with_any_number_of_workers():
    alone = task(Examples(crop)).split("train")
    expected = read(alone, 7, 0, 3, 11)
    torch.manual_seed(5), np.random.seed(5), random.seed(5)  # noqa: NPY002
    before = global_states()
    assert equal(read(alone, 7, 11, 0), [expected[2], expected[0]])
    assert torch.equal(before[0], global_states()[0])
    assert before[2] == global_states()[2]
    loader = DataLoader(Examples(crop), batch_size=10, shuffle=True, num_workers=2)
    split = task(loader).split("train")
    split.expect(split.rows(7, 0, 12, 10))
    assert equal(read(split, 7, 0, 3, 11), expected)
    assert not torch.equal(expected[0][0], read(alone, 8, 0)[0][0])


def test_what_is_held_is_what_would_be_read():
    held, anew = task(Examples()).split("train"), ReadSplit(Examples(), "train", 10)
    assert equal(read(held, 3, 0, 5, 9), read(anew, 3, 0, 5, 9))
    assert [t.numel() for t in held.known_by()] == [32 * 4, 32]  # a sample, so that the digest of either is a few reads
    assert torch.equal(torch.cat([x for x, _ in anew.chunks(7)]), X)


def test_a_loader_keeps_its_batch_size_its_collate_its_order_and_its_sampler():
    def doubled(examples):
        return torch.stack([2 * x for x, _ in examples]), torch.stack([y for _, y in examples])

    in_order = task(DataLoader(Examples(), batch_size=12, collate_fn=doubled))
    assert in_order.batch_size == 12
    split = in_order.split("train")
    (first, _), *_ = read(split, 0, 0)
    assert torch.equal(first, 2 * X[:12])
    assert split.steps_per_epoch(12) == 5
    shuffled = task(DataLoader(TensorDataset(X, Y), batch_size=12, shuffle=True)).split("train")
    assert isinstance(shuffled, HeldSplit)
    weights = [0.0] * 50 + [1.0] * 10
    for own in (None, torch.Generator()):
        sampler = WeightedRandomSampler(weights, 60, generator=own)
        drawn = task(DataLoader(TensorDataset(X, Y), batch_size=12, sampler=sampler)).split("train")
        assert isinstance(drawn, ReadSplit)
        some = read(drawn, 4, 0, 7)  # the second epoch too
        assert all(bool((x >= 200).all()) for x, _ in some)
        assert equal(some, read(drawn.to(torch.device("cpu")), 4, 0, 7))
        assert not torch.equal(some[0][0], read(drawn, 5, 0)[0][0])
    twice = RandomSampler(TensorDataset(X, Y), replacement=True)
    assert isinstance(task(DataLoader(TensorDataset(X, Y), batch_size=12, sampler=twice)).split("train"), ReadSplit)


class Windows(IterableDataset):
    def __iter__(self):
        while True:
            yield X[int(torch.randint(60, ()))]


def test_streams_are_the_same_for_a_seed_wherever_they_are_taken_up():
    for given in (Windows(), lambda seed: (torch.full((2,), seed + k) for k in range(3))):
        split, again = (task(given, step=lambda m, b: b, loss=None).split("train") for _ in range(2))
        assert equal(read(split, 1, 0, 4, 5), read(again, 1, 0, 4, 5))
        assert equal(read(split, 1, 2), read(again, 1, 2))  # earlier than where it is
        assert not equal(read(split, 1, 0), read(again, 2, 0))
    begun = []

    def from_step(seed, start):
        begun.append(start)
        return iter(torch.full((2,), float(k)) for k in range(start, 100))

    skipping = task(from_step, step=lambda m, b: b, loss=None).split("train")
    assert read(skipping, 1, 40)[0][0].tolist() == [40.0, 40.0]
    assert 40 in begun


@pytest.mark.parametrize("workers", [0, 2])
def test_an_example_that_cannot_be_read_is_one_line_with_its_index(workers):
    def nan(x):
        return x + torch.randn(1) * 0 if x[0] != 4 * 37 else x * torch.nan

    for examples, why in (
        (Examples(crop, bad=(37,)), r"example 37 of the train data raises KeyError: 'no image 37'"),
        (Examples(nan), "example 37 of the train data contains NaN or infinity"),
    ):
        split = ReadSplit(
            examples,
            "train",
            10,
            options={"num_workers": workers},
            check=task(Examples(crop)).split("train").check,
        )
        split.expect(split.rows(0, 0, 6, 10))
        with pytest.raises(TaskError, match=why) as raised:
            read(split, 0, 0, 1, 2, 3, 4, 5)
        assert len(str(raised.value).splitlines()) == 1


DYING = """
import os, torch, thalweg
from torch.utils.data import DataLoader, Dataset, TensorDataset

class Examples(Dataset):
    def __len__(self):
        return 60

    def __getitem__(self, index):
        if torch.utils.data.get_worker_info():
            os.kill(os.getpid(), 9)
        return torch.rand(4), 0

held = TensorDataset(torch.zeros(20, 4), torch.arange(20) % 2)
loader = DataLoader(Examples(), batch_size=10, shuffle=True, num_workers=1)
task = thalweg.Task(lambda: torch.nn.Linear(4, 2), loader, held, held, step=lambda m, b: m(b[0]).square().mean())
"""


@pytest.mark.slow
def test_a_worker_that_dies_is_one_line(tmp_path):
    (tmp_path / "mine.py").write_text(DYING)
    done = command("compare", "mine.py:task", "--strategies", "sgd", "--steps", "6", cwd=tmp_path)
    assert done.returncode == 2
    line = [line for line in done.stderr.splitlines() if line.startswith("thalweg: ")][-1]
    assert "DataLoader worker" in line
    assert "Traceback" not in done.stderr


def test_a_large_data_set_is_set_up_without_being_read():
    class Large(Examples):
        reads = 0

        def __len__(self):
            return 10**6

        def __getitem__(self, index):
            Large.reads += 1
            return torch.randn(4), index % 2

    split = task(Large()).split("train")
    read(split, 0, 0)
    assert Large.reads < 200
    assert split.count == 10**6


BAD = {
    "nothing": (lambda seed: [], "the train data yields no batch: yield at least one"),
    "raises": (lambda seed: 1 / 0, "the train data raises ZeroDivisionError"),
    "a number": (3, "the train data is a int: give a data set with a length, a DataLoader, an IterableDataset"),
    "no pairs": (TensorDataset(X, Y, Y), r"3 parts: give pairs \(input, target\), or Task\(step=...\)"),
    "dicts": ([{"x": X[0]}] * 20, r"is a dict: give pairs \(input, target\), or Task\(step=...\)"),
}


@pytest.mark.parametrize(("given", "match"), BAD.values(), ids=BAD)
def test_bad_data(given, match):
    with pytest.raises(TaskError, match=match):
        materialize(task(given))


def test_an_evaluation_that_has_no_end_is_refused(monkeypatch):
    monkeypatch.setattr("thalweg.compare.task.streaming.ENDLESS", 20)
    endless = task(TensorDataset(X, Y), step=lambda m, b: b, loss=None)
    object.__setattr__(endless, "valid", Windows())
    with pytest.raises(TaskError, match="the valid data has no end after 20 batches: let it end"):
        list(endless.split("valid").chunks())


class Cropped(TensorDataset):
    """A data set in memory whose examples are changed as they are read."""

    def __getitem__(self, index):
        x, y = super().__getitem__(index)
        return crop(x), y


class Remembering(Examples):
    """It draws for an example once."""

    def __init__(self):
        super().__init__()
        self.known = {}

    def __getitem__(self, index):
        if index not in self.known:
            self.known[index] = crop(X[index]), Y[index]
        return self.known[index]


def test_a_data_set_in_memory_that_changes_its_examples_is_read_anew():
    split = task(Cropped(X, Y)).split("train")
    assert isinstance(split, ReadSplit)
    assert not torch.equal(read(split, 0, 0)[0][0], read(task(TensorDataset(X, Y)).split("train"), 0, 0)[0][0])


def test_what_is_drawn_once_is_drawn_under_a_seed():
    one, two = (task(Remembering()).split("train") for _ in range(2))
    assert isinstance(one, HeldSplit)
    assert equal(read(one, 0, 0), read(two, 0, 0))
    one, two = (task(Examples(crop), resident=True).split("train") for _ in range(2))
    assert equal(read(one, 0, 0), read(two, 0, 0))


def test_a_data_set_that_draws_from_a_generator_of_its_own_is_told():
    own = np.random.default_rng(0)
    with pytest.warns(UserWarning, match="examples of the train data differ though the generators .* are seeded"):
        task(Examples(lambda x: x + own.normal())).split("train")


def test_what_a_trial_changes_in_a_batch_no_other_trial_sees():
    def named(examples):
        x, y = default_collate(examples)
        return {"x": x, "more": [{"y": y}]}

    split = task(Examples(crop), collate_fn=named, step=lambda m, b: b, loss=None).split("train")
    (row,) = split.rows(0, 0, 1, 10)
    first = split.batch(row)
    x = first["x"].clone()
    first["x"].mul_(2)
    first["more"][0].pop("y")
    again = split.batch(row)
    assert torch.equal(again["x"], x)
    assert "y" in again["more"][0]


@dataclass(frozen=True)
class Pair:
    x: torch.Tensor
    y: torch.Tensor


class Moves:
    """It moves itself, and returns nothing."""

    def __init__(self):
        self.x = torch.zeros(3, 2)

    def to(self, device):
        self.x = self.x.to(device)


@pytest.mark.parametrize("batch", [Pair(X[:5], Y[:5]), OrderedDict(x=X[:5], y=Y[:5]), UserDict(x=X[:5], y=Y[:5])])
def test_batches_of_any_class_are_moved_and_counted(batch):
    meta = torch.device("meta")
    assert {tensor.device for tensor in leaves(moved(batch, meta))} == {meta}
    assert {tensor.device for tensor in leaves(batch)} == {torch.device("cpu")}
    assert size_of(batch) == 5
    assert moved(Moves(), meta).x.device == meta


@pytest.mark.parametrize("workers", [0, 1])
def test_streams_of_one_loader_are_apart(workers):
    def made():
        drawing = RandomSampler(TensorDataset(X, Y), replacement=True, generator=torch.Generator())
        more = {"num_workers": workers, "persistent_workers": workers > 0}
        return task(DataLoader(Examples(crop), batch_size=12, sampler=drawing, **more)).split("train")

    alone = [read(made(), seed, *range(8)) for seed in (1, 2)]
    split = made()
    rows = [split.rows(seed, 0, 8, 12) for seed in (1, 2)]
    both = [[list(split.batch(own[t])) for own in rows] for t in range(8)]
    for k in range(2):
        assert equal(alone[k], [batches[k] for batches in both])
        assert equal(alone[k], read(split, k + 1, *range(8)))


def test_a_stream_of_a_seed_and_a_step_may_end():
    def six(seed, start):
        return (torch.full((2,), float(100 * (seed % 100) + k)) for k in range(start, 6))

    straight, later = (task(six, step=lambda m, b: b, loss=None).split("train") for _ in range(2))
    assert equal(read(straight, 1, *range(15))[14:], read(later, 1, 14))


@pytest.mark.parametrize("sampler", [None, WeightedRandomSampler([1.0] * 60, 60)])
def test_workers_end_with_what_reads(sampler):
    loader = DataLoader(Examples(crop), batch_size=10, shuffle=sampler is None, sampler=sampler, num_workers=1)
    split = task(loader).split("train")
    for seed in range(12):
        read(split, seed, 0)
    assert len(multiprocessing.active_children()) <= 8
    gone = weakref.ref(split)
    gc.disable()
    try:
        del split
        assert gone() is None  # not in a cycle, in which workers are waited for in vain
    finally:
        gc.enable()
    assert not multiprocessing.active_children()


def test_no_more_batches_stay_in_memory_than_a_step_takes():
    batches = []

    def collate(examples):
        batch = torch.stack([x for x, _ in examples])
        batches.append(weakref.ref(batch))
        return batch

    split = ReadSplit(Examples(crop), "train", 10, collate)
    for width in (1, 3):
        rows = torch.stack([split.rows(seed, 0, 20, 10) for seed in range(width)], dim=1)
        split.expect(rows)
        for row in rows:
            split.batch(row)
        assert sum(batch() is not None for batch in batches) <= width + 1  # and what the loader has at hand


def test_workers_ask_no_cuda_device(monkeypatch):
    def initialized():
        if torch.utils.data.get_worker_info():
            raise RuntimeError("Cannot re-initialize CUDA in forked subprocess")
        return []

    for name in ("is_available", "is_initialized"):
        monkeypatch.setattr(torch.cuda, name, lambda: True)
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda seed: initialized())
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", initialized)
    alone = read(ReadSplit(Examples(crop), "train", 10), 0, 0)
    assert equal(alone, read(ReadSplit(Examples(crop), "train", 10, options={"num_workers": 1}), 0, 0))


def test_a_worker_does_not_ask_for_devices_that_a_forked_process_must_not_touch(monkeypatch):
    def forbidden(*_):
        raise RuntimeError("Cannot re-initialize CUDA in forked subprocess")

    for name in ("get_rng_state_all", "manual_seed_all", "set_rng_state"):
        monkeypatch.setattr(torch.cuda, name, forbidden)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)  # as in a worker beside a GPU
    split = ReadSplit(Examples(crop), "train", 10)
    assert len(read(split, 0, 0)[0][0]) == 10
