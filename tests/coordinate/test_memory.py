"""Memory is bounded by the batch: of what torch and NumPy allocate, only what is returned grows with the samples."""

import gc
import sys
import tracemalloc

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from thalweg.coordinate import MiniBatchDictionaryLearning, SparseCoder, lasso, sweeps

WIDTH, ATOMS, BATCH = 8, 12, 512


class Large(TorchDispatchMode):
    """Adds up the bytes of all storages that torch's operations make, if they are larger than a bound."""

    def __init__(self, bound):
        super().__init__()
        self.bound, self.total = bound, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        given = {t.untyped_storage().data_ptr() for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)}
        out = function(*args, **(kwargs or {}))
        made = {t.untyped_storage() for t in tree_leaves(out) if isinstance(t, torch.Tensor)}
        self.total += sum(s.nbytes() for s in made if s.nbytes() > self.bound and s.data_ptr() not in given)
        return out


def allocated(function, bound):
    """Returns the bytes of torch's storages above the bound, freed or not, and NumPy's at their peak."""
    gc.collect()
    tracemalloc.start()
    try:
        with Large(bound) as large:
            function()
        return large.total, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def samples(n):
    return torch.randn(n, WIDTH, generator=torch.Generator().manual_seed(0))


def dictionary():
    atoms = torch.randn(ATOMS, WIDTH, generator=torch.Generator().manual_seed(1))
    return atoms / atoms.norm(dim=1, keepdim=True)


def test_the_count_counts():
    x = torch.ones(1000, 1000)
    assert allocated(lambda: (x + 1, x.add_(1), x[:500], x.view(-1), torch.ones(1000)), 1_000_000)[0] == 4_000_000
    assert allocated(lambda: np.ones((1000, 1000)), 0)[1] >= 8_000_000


@pytest.mark.parametrize("solver", ["pivoting", "sweeps"])
def test_coding_allocates_the_codes_and_what_a_batch_needs(solver, monkeypatch):
    if solver == "sweeps":
        monkeypatch.setattr(sys.modules["thalweg.coordinate.lasso"], "_solver", lambda device: sweeps.solve)
        monkeypatch.setattr(sweeps, "_ELEMENTS", BATCH * ATOMS)
    x, atoms, bound = samples(8 * BATCH).half(), dictionary(), BATCH * ATOMS * 8 * 3
    lasso(x[:BATCH], atoms, 1.0)  # compiles
    torchs, numpys = allocated(lambda: lasso(x, atoms, 1.0, batch_size=BATCH), bound)
    assert torchs == len(x) * ATOMS * 4
    assert numpys < bound


@pytest.mark.parametrize("algorithm", ["omp", "threshold", "lasso_cd"])
def test_transform_allocates_the_codes_and_what_a_batch_needs(algorithm, monkeypatch):
    monkeypatch.setattr("thalweg.coordinate.omp._ELEMENTS", BATCH * ATOMS)
    coder = SparseCoder(dictionary(), transform_algorithm=algorithm, transform_alpha=0.5)
    x, bound = samples(1 << 16).numpy(), (1 << 14) * ATOMS * 8
    coder.transform(x[:100])
    torchs, numpys = allocated(lambda: coder.transform(x), bound)
    assert torchs == len(x) * ATOMS * 4
    assert numpys < bound


def learner(**options):
    options |= {"tol": 0, "max_no_improvement": None, "batch_size": BATCH, "random_state": 0}
    return MiniBatchDictionaryLearning(ATOMS, alpha=0.3, max_iter=1, **options)


def test_learning_from_a_loader_allocates_what_a_batch_needs():
    def learn(batches):
        data = [samples(BATCH) for _ in range(2)] * (batches // 2)
        learner(dict_init=dictionary()).fit(torch.utils.data.DataLoader(data, batch_size=None))

    learn(2)
    (_, few), (large, many) = (allocated(lambda n=n: learn(n), BATCH * ATOMS * 8) for n in (4, 20))
    assert large == 0
    assert many - few < 16 * BATCH * WIDTH  # a quarter of the samples' bytes: costs and seconds are kept


def test_learning_from_an_array_allocates_what_a_batch_needs_and_an_order(monkeypatch):
    monkeypatch.setattr("thalweg.coordinate.learning._PART", BATCH)
    x = samples(1 << 14).numpy()
    learner().fit(x[: 2 * BATCH])
    torchs, numpys = allocated(lambda: learner().fit(x), BATCH * ATOMS * 8)
    assert torchs == 0
    assert numpys < x.nbytes  # an order and weights, 8 bytes a sample each
