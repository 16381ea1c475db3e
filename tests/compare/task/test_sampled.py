"""What a loader's sampler gives is drawn without reading, and is what the loader itself gives under the same seeds."""

import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, SubsetRandomSampler, WeightedRandomSampler

import thalweg
from tests.compare.task.test_data import Examples, X, equal, read, task
from thalweg.compare.execution.loop.batches import split_for
from thalweg.compare.task.reading import ReadSplit
from thalweg.compare.task.streaming import StreamSplit
from thalweg.compare.user_errors import TaskError
from thalweg.tensors import derive_seed
from thalweg.tensors.draws import own_draws

WEIGHTS = [1.0 + k % 7 for k in range(60)]


class Own:
    """Indices that are drawn one after another, by any of the generators."""

    def __init__(self, draw):
        self.draw = draw

    def __len__(self):
        return 33

    def __iter__(self):
        return (self.draw() for _ in range(33))


class Counting(Own):
    """Each iteration goes on where the last one was, in an order of its own."""

    def __init__(self):
        self.epoch = 0

    def __iter__(self):
        self.epoch += 1
        yield from np.random.default_rng(self.epoch).permutation(60)[:33].tolist()


class Buckets:
    """Batches of one remainder each, of two sizes."""

    def __len__(self):
        return 8

    def __iter__(self):
        for k in torch.randperm(8).tolist():
            yield [i for i in range(60) if i % 8 == k]


class Told(Own):
    def __init__(self):
        self.epoch = None

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __iter__(self):
        return iter(np.random.default_rng(self.epoch).permutation(60)[:33].tolist())


def generator():
    return torch.Generator()


MADE = {
    "weighted": lambda: {"sampler": WeightedRandomSampler(WEIGHTS, 35)},
    "weighted-generator": lambda: {"sampler": WeightedRandomSampler(WEIGHTS, 35, generator=generator())},
    "replacement": lambda: {"sampler": RandomSampler(X, replacement=True, num_samples=40)},
    "subset": lambda: {"sampler": SubsetRandomSampler(range(10, 50)), "generator": generator()},
    "torch": lambda: {"sampler": Own(lambda: int(torch.randint(60, ())))},
    "numpy": lambda: {"sampler": Own(lambda: int(np.random.randint(60)))},  # noqa: NPY002
    "python": lambda: {"sampler": Own(lambda: random.randrange(60))},
    "counting": lambda: {"sampler": Counting()},
    "told": lambda: {"sampler": Told()},
    "drop-last": lambda: {"sampler": WeightedRandomSampler(WEIGHTS, 35), "drop_last": True},
    "buckets": lambda: {"batch_sampler": Buckets(), "batch_size": 1},
    "of-batches": lambda: {
        "batch_sampler": BatchSampler(WeightedRandomSampler(WEIGHTS, 35), 8, False),
        "batch_size": 1,
    },
}


def loader_of(name, workers=0, dataset=None):
    return DataLoader(dataset or Examples(), **{"batch_size": 12, "num_workers": workers, **MADE[name]()})


def by_torch(loader, seed, epochs):
    """Returns what the loader gives where the generators are seeded as those of a trial are."""
    found = []
    for epoch in range(epochs):
        own = derive_seed(seed, "stream", epoch) % 2**31
        with own_draws(own):
            for holder in (loader, loader.sampler):
                if isinstance(made := getattr(holder, "generator", None), torch.Generator):
                    made.manual_seed(own)
            if hasattr(loader.sampler, "set_epoch"):
                loader.sampler.set_epoch(own)
            found += [list(batch) for batch in loader]
    return found


@pytest.mark.parametrize("name", MADE)
def test_batches_are_those_of_the_loader_over_several_epochs(name):
    split = task(loader_of(name)).split("train")
    assert isinstance(split, ReadSplit)
    for seed in (3, 4):
        expected = by_torch(loader_of(name), seed, 3)
        assert equal(read(split, seed, *range(len(expected))), expected)
    middle = len(expected) // 2
    assert equal(read(split, 4, middle), expected[middle : middle + 1])  # back to an earlier one
    later = task(loader_of(name)).split("train")
    assert equal(read(later, 4, middle, len(expected) - 1), [expected[middle], expected[-1]])


def test_workers_read_what_is_drawn():
    split, expected = task(loader_of("weighted", 2)).split("train"), by_torch(loader_of("weighted"), 3, 2)
    assert equal(read(split, 3, *range(6)), expected)


def test_what_was_read_is_not_read_again():
    asked = []
    split = task(loader_of("weighted", dataset=Examples(lambda x: asked.append(x) or x))).split("train")
    asked.clear()
    read(split, 3, 100)
    assert len(asked) == 12
    assert split.steps_per_epoch(12) == 3
    assert split.count == 35


def test_a_part_that_is_evaluated_is_one_epoch_the_same_each_time():
    given = thalweg.Task(nn.Linear(4, 1), Examples(), loader_of("subset"), Examples(), nn.functional.mse_loss)
    split = given.split("valid")
    (expected,) = [by_torch(loader_of("subset"), 0, 1)]
    for _ in range(2):
        assert equal([list(batch) for batch in split.chunks()], expected)
    assert len(split.chunks()) == 4
    assert split.count == 40


class Hard(Own):
    """It draws what the data set has seen least."""

    def __init__(self, data):
        self.data = data

    def __iter__(self):
        for _ in range(33):
            yield int(self.data.seen.argmin())


class Seen(Examples):
    def __init__(self):
        super().__init__()
        self.seen = np.zeros(60)

    def __getitem__(self, index):
        self.seen[index] += 1
        return super().__getitem__(index)


def test_a_sampler_that_follows_what_was_read_stays_a_stream_with_the_reason():
    data = Seen()
    split = task(DataLoader(data, batch_size=12, sampler=Hard(data))).split("train")
    assert isinstance(split, StreamSplit)
    assert split.how == "read as a stream, since what its sampler draws depends on what was read"


class Locked(Own):
    def __init__(self):
        super().__init__(lambda: 1)

    def __deepcopy__(self, memo):
        raise TypeError("cannot be copied")


def test_a_sampler_that_cannot_be_copied_stays_a_stream_too():
    split = task(DataLoader(Examples(), batch_size=12, sampler=Locked())).split("train")
    assert isinstance(split, StreamSplit)
    assert "its sampler cannot be copied" in split.how


def test_a_sampler_that_training_changes_is_refused():
    sampler = WeightedRandomSampler(WEIGHTS, 35)
    split = task(DataLoader(Examples(), batch_size=12, sampler=sampler)).split("train")
    split.expect(split.rows(1, 0, 2, 12))
    sampler.weights[3] = 100.0
    with pytest.raises(TaskError, match="sampler of the train data changes as a model trains"):
        split.expect(split.rows(1, 2, 4, 12))


def test_a_loop_gets_the_indices_of_torchs_samplers_and_follows_its_own():
    assert isinstance(split_for(loader_of("weighted")), ReadSplit)
    assert isinstance(split_for(loader_of("buckets")), StreamSplit)
    assert equal(
        read(split_for(loader_of("weighted")), 3, 0, 4), [by_torch(loader_of("weighted"), 3, 2)[t] for t in (0, 4)]
    )


def test_an_endless_sampler_has_no_epochs():
    class Endless(Own):
        def __init__(self):
            super().__init__(None)

        def __iter__(self):
            while True:
                yield int(torch.randint(60, ()))

    split = task(DataLoader(Examples(), batch_size=60, sampler=Endless())).split("train")
    assert split.count is None
    assert len(read(split, 3, 5)[0][0]) == 60
