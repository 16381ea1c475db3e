"""Batches of tensors: each example once an epoch, in an order that the seed and the epoch decide."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from thalweg.stages import Batches, EarlyStopping, Measures


@given(st.integers(1, 30), st.integers(1, 12), st.integers(0, 3), st.booleans())
def test_an_epoch_has_each_example_once_in_batches_of_the_size(count, size, seed, drop_last):
    if drop_last and size > count:
        size = count
    batches = Batches(torch.arange(count), torch.arange(count) * 2, batch_size=size, seed=seed, drop_last=drop_last)
    epoch = list(batches)
    assert len(epoch) == len(batches)
    assert all(len(x) == size for x, _ in epoch[: len(epoch) if drop_last else -1])
    assert all(torch.equal(2 * x, y) for x, y in epoch)
    seen = torch.cat([x for x, _ in epoch]).sort().values.tolist()
    assert len(seen) == len(set(seen)) == (count // size * size if drop_last else count)


def test_orders_differ_by_epoch_and_seed_and_come_again():
    def orders(seed, *epochs):
        batches = Batches(torch.arange(40), batch_size=40, seed=seed)
        found = []
        for epoch in epochs:
            batches.set_epoch(epoch)
            found.append(next(iter(batches))[0].tolist())
        return found

    first, second, again = orders(0, 0, 1, 0)
    assert first == again != second
    assert orders(1, 0) != [first]
    batches = Batches(torch.arange(40), batch_size=40)
    assert [next(iter(batches))[0].tolist() for _ in range(2)] == [first, second]


@pytest.mark.parametrize(
    ("tensors", "options", "words"),
    [
        ([], {"batch_size": 2}, r"have \[\] examples: pass at least one"),
        ([torch.zeros(3), torch.zeros(4)], {"batch_size": 2}, r"have \[3, 4\] examples"),
        ([torch.zeros(3)], {"batch_size": 0}, "batch_size is 0 for 3 examples: give 1 to 3"),
        ([torch.zeros(3)], {"batch_size": 4, "drop_last": True}, "batch_size is 4 for 3 examples: give 1 to 3"),
    ],
)
def test_batches_that_cannot_be(tensors, options, words):
    with pytest.raises(ValueError, match=words):
        Batches(*tensors, **options)


def test_measures_weigh_batches_by_their_examples():
    x = torch.randn(10, 3, generator=torch.Generator().manual_seed(0))
    model = torch.nn.Linear(3, 1)
    batches = Batches(x, x[:, :1], batch_size=4, shuffle=False)
    found = Measures(batches, prefix="test_", mse=torch.nn.functional.mse_loss)(model)
    assert found == {"test_mse": pytest.approx(torch.nn.functional.mse_loss(model(x), x[:, :1]).item())}
    with pytest.raises(ValueError, match="nothing to validate on"):
        Measures([], mse=torch.nn.functional.mse_loss)(model)
    with pytest.raises(ValueError, match="nothing to measure"):
        Measures(batches)


def test_early_stopping_knows_its_direction_and_nan():
    falling, rising = EarlyStopping(1, least=0.1), EarlyStopping(1, higher_is_better=True)
    assert [falling.improves(v, best=1.0) for v in (0.8, 0.95, 1.2, float("nan"))] == [True, False, False, False]
    assert [rising.improves(v, best=1.0) for v in (0.8, 1.2)] == [False, True]
    assert falling.improves(5.0, None)
    for patience in (1.5, "3", None):
        with pytest.raises(ValueError, match=f"patience is {patience!r}: give a whole number"):
            EarlyStopping(patience)
    with pytest.raises(ValueError, match="patience is 0"):
        EarlyStopping(0)
