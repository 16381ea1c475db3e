"""The sampler: who is admitted, how often each is drawn, ranks, workers, and going on in the middle of an epoch."""

import json
import math
from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader, TensorDataset

from thalweg.curriculum import CurriculumSampler, Pacing
from thalweg.curriculum.order import order_of


def up_and_down(step):
    """A pacing that falls now and then."""
    return [0.3, 0.7, 0.05, 1.0, 0.5][step % 5]


PACINGS = st.one_of(
    st.builds(
        Pacing,
        st.sampled_from(["linear", "step"]),
        start=st.floats(0.01, 1),
        over=st.integers(1, 12),
        by=st.sampled_from(["step", "epoch"]),
    ),
    st.just(up_and_down),
)
ARGUMENTS = st.fixed_dictionaries(
    {
        "pacing": PACINGS,
        "batch_size": st.integers(1, 9),
        "mixture": st.sampled_from([0.0, 0.2, 0.5, 1.0]),
        "replacement": st.booleans(),
        "num_samples": st.sampled_from([None, 1, 7, 100]),
        "seed": st.integers(0, 3),
    }
)


def scores(n):
    return torch.rand(n, generator=torch.Generator().manual_seed(n))


def draw(sampler, count):
    """Returns the next indices, over as many epochs as it takes."""
    found = []
    while len(found) < count:
        found += islice(sampler, count - len(found))
    return found


def steps_of(sampler, count):
    """Returns the batches of the next steps, as a loader cuts them."""
    found = []
    while len(found) < count:
        epoch = list(sampler)
        assert len(epoch) == len(sampler)
        found += [epoch[i : i + sampler.batch_size] for i in range(0, len(epoch), sampler.batch_size)]
    return found[:count]


@given(ARGUMENTS, st.integers(1, 40), st.integers(1, 30))
@settings(max_examples=60, deadline=None)
def test_only_the_easiest_share_is_drawn_but_for_the_mixture(arguments, n, steps):
    difficulty = scores(n)
    rank = np.argsort(order_of(difficulty, seed=arguments["seed"]))
    sampler = CurriculumSampler(difficulty, **arguments)
    harder = 0
    for step, batch in enumerate(steps_of(sampler, steps)):
        limit = math.ceil(round(sampler.share(step) * n, 6))
        harder += sum(rank[i] >= limit for i in batch)
        assert arguments["mixture"] > 0 or harder == 0
    epochs, rest = divmod(steps, math.ceil(len(sampler) / sampler.batch_size))
    drawn = epochs * len(sampler) + rest * sampler.batch_size
    assert harder <= arguments["mixture"] * drawn


@given(PACINGS, st.integers(1, 9), st.integers(1, 40))
@settings(max_examples=60, deadline=None)
def test_within_a_pass_none_is_drawn_twice_and_none_left_out(pacing, batch_size, n):
    """The reference: a set of those left, to which those admitted are added, and which is filled when it is empty."""
    difficulty = scores(n)
    order = order_of(difficulty).tolist()
    sampler = CurriculumSampler(difficulty, pacing, batch_size=batch_size)
    left, admitted = set(), 0
    for step, batch in enumerate(steps_of(sampler, 40)):
        limit = math.ceil(round(sampler.share(step) * n, 6))
        left = set(order[:limit]) if limit < admitted else left | set(order[admitted:limit])
        admitted = limit
        for index in batch:
            left = left or set(order[:limit])
            assert index in left
            left.remove(index)


@pytest.mark.parametrize("options", [{"pacing": lambda step: 1.0}, {"pacing": Pacing(start=0.1), "mixture": 1.0}])
def test_with_all_admitted_or_all_mixed_epochs_are_shuffles(options):
    sampler = CurriculumSampler(scores(23), batch_size=4, **options)
    epochs = [list(sampler) for _ in range(3)]
    assert all(sorted(epoch) == list(range(23)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


@pytest.mark.parametrize("replacement", [False, True])
@pytest.mark.parametrize("mixture", [0.0, 0.3])
def test_draws_follow_the_probabilities(replacement, mixture):
    n, share, count = 20, 0.25, 40_000
    sampler = CurriculumSampler(
        torch.arange(n), lambda step: share, batch_size=50, mixture=mixture, replacement=replacement
    )
    seen = np.bincount(draw(sampler, count), minlength=n)
    expected = count * ((1 - mixture) * (np.arange(n) < share * n) / (share * n) + mixture / n)
    assert (np.abs(seen - expected) <= 4.5 * np.sqrt(expected) + 1e-9).all()
    assert seen.sum() == count


def test_the_places_in_a_pass_are_uniform():
    """Each example is equally often the first, the second, … of a pass."""
    sampler = CurriculumSampler(torch.zeros(5), lambda step: 1.0, batch_size=5)
    places = np.zeros((5, 5))
    for _ in range(4000):
        for place, index in enumerate(sampler):
            places[place, index] += 1
    assert (np.abs(places - 800) < 4.5 * 640**0.5).all()


def test_the_average_share_of_hard_ones_rises_and_none_is_ever_shut_out():
    n, steps = 100, 500
    sampler = CurriculumSampler(torch.arange(n), Pacing(start=0.1, over=steps), batch_size=20, mixture=0.2)
    batches = np.array(steps_of(sampler, steps)).reshape(5, -1)
    hard = (batches >= n // 2).mean(axis=1)
    assert hard[0] > 0
    assert (np.diff(hard) >= 0).all()
    assert hard[-1] > 0.4
    shares = [(1 - 0.2) * max(0.0, 1 - 0.5 / sampler.share(t)) + 0.2 * 0.5 for t in range(steps)]
    assert hard == pytest.approx(np.reshape(shares, (5, -1)).mean(axis=1), abs=0.02)


def test_the_controls_admit_as_many_but_others():
    difficulty, pacing = torch.arange(40), Pacing("step", start=0.25, over=3, jumps=1)
    first = {
        order: set(draw(CurriculumSampler(difficulty, pacing, batch_size=10, order=order), 10))
        for order in ("easy-first", "hard-first", "random")
    }
    assert first["easy-first"] == set(range(10))
    assert first["hard-first"] == set(range(30, 40))
    assert len(first["random"]) == 10
    assert first["random"] not in (first["easy-first"], first["hard-first"])


def test_classes_stay_balanced_where_one_is_easier():
    difficulty = torch.cat([torch.rand(60), 5 + torch.rand(40)])
    classes = torch.arange(100) >= 60
    plain = draw(CurriculumSampler(difficulty, lambda step: 0.2, batch_size=10), 100)
    balanced = draw(CurriculumSampler(difficulty, lambda step: 0.2, batch_size=10, classes=classes), 100)
    assert classes[plain].sum() == 0
    assert classes[balanced].sum() == 40
    assert set(difficulty[balanced][classes[balanced]].tolist()) <= set(difficulty[60:].sort().values[:8].tolist())


def test_by_epoch_the_share_changes_between_epochs_only():
    sampler = CurriculumSampler(torch.arange(12), Pacing(start=0.25, over=3, by="epoch"), batch_size=5)
    assert [round(sampler.share(step), 6) for step in range(10)] == [0.25] * 3 + [0.5] * 3 + [0.75] * 3 + [1.0]
    assert [max(epoch) for epoch in (list(sampler), list(sampler), list(sampler), list(sampler))] == [2, 5, 8, 11]


@given(ARGUMENTS, st.integers(1, 30), st.integers(0, 60), st.booleans())
@settings(max_examples=80, deadline=None)
def test_it_goes_on_bit_for_bit_from_any_place(arguments, n, place, used):
    difficulty = scores(n)
    whole = draw(CurriculumSampler(difficulty, **arguments), place + 50)
    sampler = CurriculumSampler(difficulty, **arguments)
    assert draw(sampler, place) == whole[:place]
    state = json.loads(json.dumps(sampler.state_dict()))
    other = CurriculumSampler(difficulty, **arguments)
    if used:
        draw(other, 17)
    other.load_state_dict(state)
    assert draw(other, 50) == whole[place:]
    assert draw(sampler, 50) == whole[place:]  # a look at the state changes nothing


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_that_fetch_ahead_change_nothing_and_a_step_says_where_to_go_on(workers):
    n = 50
    data, arguments = TensorDataset(torch.arange(n)), {"batch_size": 4, "mixture": 0.2}
    pacing = Pacing("root", start=0.1, over=20)
    alone = DataLoader(data, 4, sampler=CurriculumSampler(torch.arange(n), pacing, **arguments))
    expected = [batch.tolist() for _ in range(2) for (batch,) in alone]
    sampler = CurriculumSampler(torch.arange(n), pacing, **arguments)
    loader = DataLoader(data, 4, sampler=sampler, num_workers=workers)
    assert len(loader) == 13
    assert [batch.tolist() for _ in range(2) for (batch,) in loader] == expected
    sampler = CurriculumSampler(torch.arange(n), pacing, **arguments)
    loader = DataLoader(data, 4, sampler=sampler, num_workers=workers)
    taken = [batch.tolist() for (batch,) in islice(loader, 5)]
    assert sampler.state_dict()["place"] > [5, 0]
    state = sampler.state_dict(step=5)
    sampler.load_state_dict(state)
    taken += [batch.tolist() for _ in range(2) for (batch,) in loader]
    assert taken == expected


@given(ARGUMENTS, st.integers(2, 40), st.integers(1, 4))
@settings(max_examples=40, deadline=None)
def test_ranks_share_the_draws_of_one(arguments, n, world):
    arguments = arguments | {"num_samples": arguments["num_samples"] or math.ceil(n / world)}
    large = {key: world * arguments[key] for key in ("batch_size", "num_samples")}
    one = CurriculumSampler(scores(n), **(arguments | large))
    ranks = [CurriculumSampler(scores(n), num_replicas=world, rank=r, **arguments) for r in range(world)]
    parts = [steps_of(rank, 20) for rank in ranks]
    for step, batch in enumerate(steps_of(one, 20)):
        assert [parts[i % world][step][i // world] for i in range(len(batch))] == batch
    ranks[0].load_state_dict(ranks[-1].state_dict())  # all ranks have one state
    default = CurriculumSampler(scores(n), Pacing(), batch_size=2, num_replicas=world, rank=world - 1)
    assert len(default) == math.ceil(n / world)


def test_draws_depend_on_the_seed():
    draws = [draw(CurriculumSampler(scores(40), Pacing(), batch_size=5, seed=seed), 40) for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]


def test_global_generators_are_left_alone():
    before = torch.random.get_rng_state()
    draw(CurriculumSampler(scores(10), Pacing(), batch_size=2, mixture=0.5), 30)
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pacing": lambda t: 0.0}, r"pacing gives 0\.0 at step 0, no example is admitted: return a number in"),
        ({"pacing": lambda t: float("nan")}, "pacing gives nan at step 0"),
        ({"pacing": lambda t: 2}, "pacing gives 2.0 at step 0, no share of the examples"),
        ({"mixture": 1.1}, r"mixture must be in \[0, 1\], not 1.1"),
        ({"num_replicas": 2, "rank": 2}, r"rank must be in \[0, 2\), not 2"),
        ({"batch_size": 0}, "batch_size 0, num_samples 3: give at least 1 of each"),
        ({"num_samples": 0}, "batch_size 2, num_samples 0: give at least 1"),
        ({"difficulty": [0.0, math.nan]}, "difficulty of example 1 is NaN"),
        ({"data": range(4)}, "difficulty has 3 numbers for 4 examples: give one for each"),
    ],
)
def test_what_cannot_be_sampled_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        CurriculumSampler(**({"difficulty": [1, 2, 3], "pacing": Pacing(), "batch_size": 2} | options))


def test_a_pacing_that_fails_later_says_at_which_step():
    sampler = CurriculumSampler([1, 2, 3], lambda step: 0.5 if step < 4 else -1.0, batch_size=1)
    with pytest.raises(ValueError, match="pacing gives -1.0 at step 4, no example is admitted"):
        draw(sampler, 10)


@pytest.mark.parametrize(
    ("other", "name"),
    [
        ({"difficulty": [3, 2, 1]}, "its admission is"),
        ({"difficulty": [1, 2]}, "its examples is 2, not 3"),
        ({"batch_size": 3}, "its batch_size is 3, not 2"),
        ({"mixture": 0.5}, "its mixture is 0.5, not 0.0"),
        ({"seed": 5}, "its seed is 5, not 0"),
        ({"pacing": Pacing(start=0.2)}, "its pacing is .*start=0.2"),
        ({"order": "hard-first"}, "its order is 'hard-first', not 'easy-first'"),
    ],
)
def test_the_state_of_another_sampler_is_refused_and_nothing_changed(other, name):
    arguments = {"difficulty": [1, 2, 3], "pacing": Pacing(), "batch_size": 2}
    sampler = CurriculumSampler(**arguments)
    first = draw(sampler, 2)
    with pytest.raises(ValueError, match=name):
        sampler.load_state_dict(CurriculumSampler(**(arguments | other)).state_dict())
    state = sampler.state_dict()
    del state["place"]
    with pytest.raises(ValueError, match="not the state of a curriculum: it lacks place"):
        sampler.load_state_dict(state)
    assert first + draw(sampler, 8) == draw(CurriculumSampler(**arguments), 10)
