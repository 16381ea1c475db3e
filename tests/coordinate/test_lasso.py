"""Sparse codes: both solvers against each other, scikit-learn and the conditions of optimality."""

import re
import sys
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import sparse_encode
from sklearn.linear_model import ElasticNet, Lasso

from thalweg.coordinate import duality_gap, lasso, sweeps

pivoting = pytest.importorskip("thalweg.coordinate.pivoting")
SOLVERS = {"pivoting": pivoting.solve, "sweeps": sweeps.solve}


@pytest.fixture(params=SOLVERS)
def solver(request, monkeypatch):
    monkeypatch.setattr(sys.modules["thalweg.coordinate.lasso"], "_solver", lambda device: SOLVERS[request.param])
    return request.param


def problem(n=60, d=16, k=40, seed=0, dtype=torch.float64, coherence=0.0):
    """Samples, and atoms that are as alike as asked for."""
    draws = torch.Generator().manual_seed(seed)
    atoms = torch.randn(k, d, generator=draws, dtype=torch.float64) + coherence
    atoms = atoms * torch.linspace(0.5, 2, k, dtype=torch.float64)[:, None]
    return torch.randn(n, d, generator=draws, dtype=torch.float64).to(dtype), atoms.to(dtype)


def cost(codes, x, atoms, alpha, l2=0.0):
    return 0.5 * ((x - codes @ atoms) ** 2).sum(1) + alpha * codes.abs().sum(1) + 0.5 * l2 * (codes**2).sum(1)


@pytest.mark.usefixtures("solver")
@pytest.mark.parametrize("positive", [False, True])
@pytest.mark.parametrize(("alpha", "coherence"), [(3.0, 0.0), (0.5, 0.0), (0.05, 0.0), (0.3, 1.0)])
def test_codes_are_those_of_scikit_learn(alpha, coherence, positive):
    x, atoms = problem(coherence=coherence)
    found = lasso(x, atoms, alpha, positive=positive, tol=1e-10)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = sparse_encode(
            x.numpy(), atoms.numpy(), algorithm="lasso_cd", alpha=alpha, positive=positive, max_iter=100_000
        )
    ours, reference = cost(found.codes, x, atoms, alpha), cost(torch.from_numpy(peer), x, atoms, alpha)
    assert (ours <= reference * (1 + 1e-9)).all()
    np.testing.assert_allclose(found.codes.numpy(), peer, atol=2e-3 * abs(peer).max())


@pytest.mark.usefixtures("solver")
@pytest.mark.parametrize("positive", [False, True])
@pytest.mark.parametrize("l2", [0.0, 0.7])
def test_subgradient_holds_zero(l2, positive):
    x, atoms = problem(seed=1)
    alpha = 0.4
    codes = lasso(x, atoms, alpha, l2=l2, positive=positive, tol=1e-12).codes
    q = (x - codes @ atoms) @ atoms.T - l2 * codes
    on = codes != 0
    torch.testing.assert_close(q[on], alpha * codes[on].sign(), rtol=1e-5, atol=0)
    assert ((q if positive else q.abs()) <= alpha * (1 + 1e-5)).all()
    assert not positive or (codes >= 0).all()


@pytest.mark.usefixtures("solver")
def test_elastic_net_is_that_of_scikit_learn():
    x, atoms = problem(n=5)
    alpha, l2, d = 0.5, 0.8, x.shape[1]
    peer = ElasticNet(alpha=(alpha + l2) / d, l1_ratio=alpha / (alpha + l2), fit_intercept=False, tol=1e-12)
    peer.max_iter = 100_000
    reference = np.stack([peer.fit(atoms.T.numpy(), row.numpy()).coef_ for row in x])
    np.testing.assert_allclose(lasso(x, atoms, alpha, l2=l2, tol=1e-12).codes.numpy(), reference, atol=1e-6)


@pytest.mark.usefixtures("solver")
@pytest.mark.parametrize("positive", [False, True])
@pytest.mark.parametrize("l2", [0.0, 0.3])
def test_reported_gap_is_the_gap_and_bounds_the_cost(l2, positive):
    x, atoms = problem(seed=2)
    found = lasso(x, atoms, 0.2, l2=l2, positive=positive, tol=1e-3)
    measured = duality_gap(found.codes, x, atoms, 0.2, l2=l2, positive=positive)
    torch.testing.assert_close(found.gap, measured, rtol=1e-5, atol=1e-12)
    torch.testing.assert_close(found.cost, cost(found.codes, x, atoms, 0.2, l2))
    best = cost(lasso(x, atoms, 0.2, l2=l2, positive=positive, tol=1e-12).codes, x, atoms, 0.2, l2)
    assert (found.gap <= 1e-3).all()
    assert (cost(found.codes, x, atoms, 0.2, l2) * (1 - found.gap) <= best * (1 + 1e-12)).all()


@pytest.mark.usefixtures("solver")
@pytest.mark.parametrize("positive", [False, True])
@pytest.mark.parametrize("alpha", [0.05, 0.5, 3.0])
def test_gap_bounds_the_distance_to_scikit_learns_minimum(alpha, positive):
    x, atoms = problem(n=8, seed=4)
    peer = Lasso(alpha / x.shape[1], fit_intercept=False, positive=positive, tol=1e-14, max_iter=1_000_000)
    best = torch.from_numpy(np.stack([peer.fit(atoms.T.numpy(), row.numpy()).coef_ for row in x]))
    least = cost(best, x, atoms, alpha)
    assert (duality_gap(best, x, atoms, alpha, positive=positive) < 1e-8).all()  # a second solver ends it in float64
    shaken = 0
    for share in (0.0, 0.5, 0.9, 0.99, 1.0):
        codes = share * best
        excess = (cost(codes, x, atoms, alpha) - least) / cost(codes, x, atoms, alpha)
        gap = duality_gap(codes, x, atoms, alpha, positive=positive)
        assert (excess <= gap + 1e-9).all()
        shaken = max(shaken, float((excess / gap.clamp(min=1e-6)).max()))
    assert shaken > 0.1  # the bound is within sight of what it bounds: a gap ten times as small would break it
    for tol in (1e-2, 1e-6):
        found = lasso(x, atoms, alpha, positive=positive, tol=tol)
        assert (found.cost - least <= (found.gap + 1e-9) * found.cost).all()
        assert (found.gap <= tol).all()


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    d=st.integers(1, 12),
    k=st.integers(1, 30),
    alpha=st.floats(1e-3, 5),
    positive=st.booleans(),
    copies=st.integers(0, 3),
)
@pytest.mark.filterwarnings("ignore:all codes are zero")
@pytest.mark.parametrize("name", SOLVERS)
def test_any_problem_ends_at_the_gap(name, seed, d, k, alpha, positive, copies):
    x, atoms = problem(n=7, d=d, k=k, seed=seed)
    atoms = torch.cat([atoms, atoms[:copies], -atoms[:copies], torch.zeros(1, d, dtype=torch.float64)])
    codes = torch.zeros(len(x), len(atoms), dtype=torch.float64)
    _, gap, _ = SOLVERS[name](x, atoms, atoms @ atoms.T, alpha, positive, 1e-6, 20_000, codes)
    assert (gap <= 1e-6).all()
    assert (duality_gap(codes, x, atoms, alpha, positive=positive) <= 1.1e-6).all()


CODES = {"seed": st.integers(0, 10**6), "alpha": st.floats(1e-2, 2), "positive": st.booleans()}


def problem_with_codes(seed, positive, size):
    x, atoms = problem(n=6, d=10, k=20, seed=seed)
    codes = torch.randn(6, 20, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    codes[:, size:] = 0
    return x, atoms, atoms @ atoms.T, x @ atoms.T, codes.abs() if positive else codes


@settings(max_examples=25, deadline=None)
@given(**CODES)
def test_cost_never_rises_from_pivot_to_pivot(seed, alpha, positive):
    x, atoms, gram, _, codes = problem_with_codes(seed, positive, 8)
    before = cost(codes, x, atoms, alpha)
    for most in (1, 2, 4, 8, 16, 32, 64):
        now = codes.clone()
        after, _, _ = pivoting.solve(x, atoms, gram, alpha, positive, 0.0, most, now)
        torch.testing.assert_close(after, cost(now, x, atoms, alpha))
        assert (after <= before * (1 + 1e-12)).all()
        before = after


@settings(max_examples=25, deadline=None)
@given(**CODES)
def test_cost_never_rises_from_sweep_to_sweep_nor_by_settling(seed, alpha, positive):
    x, atoms, gram, corr, codes = problem_with_codes(seed, positive, 20)
    before = cost(codes, x, atoms, alpha)
    for i in range(8):
        if i % 2:
            codes = sweeps.settle(gram, corr, codes, alpha)
        else:
            lanes = codes.T.contiguous()
            sweeps.sweep(gram, corr.T, lanes, alpha, positive)
            codes = lanes.T.contiguous()
        after = cost(codes, x, atoms, alpha)
        assert (after <= before * (1 + 1e-12)).all()
        before = after


@pytest.mark.usefixtures("solver")
def test_a_start_does_not_change_the_end():
    x, atoms = problem(seed=3)
    cold = lasso(x, atoms, 0.3, tol=1e-10)
    warm = lasso(x, atoms, 0.3, tol=1e-10, start=lasso(x, atoms, 0.4).codes)
    torch.testing.assert_close(warm.codes, cold.codes, atol=1e-7, rtol=0)
    assert warm.n_iter.sum() < cold.n_iter.sum()
    again = lasso(x, atoms, 0.3, tol=1e-9, start=cold.codes)
    assert again.n_iter.sum() == 0
    assert torch.equal(again.codes, cold.codes)


@pytest.mark.usefixtures("solver")
def test_single_precision_comes_out_in_single_precision():
    x, atoms = problem(dtype=torch.float32)
    found = lasso(x, atoms, 0.3)
    assert found.codes.dtype == torch.float32
    assert (duality_gap(found.codes, x, atoms, 0.3) < 1e-5).all()  # rounding the codes costs as much again


@pytest.mark.usefixtures("solver")
@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.int64])
def test_other_types_come_out_in_single_precision(kind):
    x, atoms = problem()
    x = (4 * x).round().to(kind)
    found = lasso(x, atoms, 2.0)
    assert found.codes.dtype == torch.float32
    torch.testing.assert_close(found.codes, lasso(x.double(), atoms, 2.0).codes.float(), atol=1e-5, rtol=0)


def test_without_numba_samples_are_swept(monkeypatch):
    monkeypatch.setitem(sys.modules, "thalweg.coordinate.pivoting", None)
    monkeypatch.delattr("thalweg.coordinate.pivoting", raising=False)
    solver = sys.modules["thalweg.coordinate.lasso"]._solver
    solver.cache_clear()
    try:
        assert solver("cpu") is sweeps.solve
    finally:
        solver.cache_clear()
    assert solver("cuda") is sweeps.solve


@pytest.mark.usefixtures("solver")
def test_batches_do_not_change_codes_and_progress_counts_them():
    x, atoms = problem(n=50)
    seen = []
    found = lasso(x, atoms, 0.3, batch_size=20, progress=lambda done, gap: seen.append((done, gap <= 1e-6)))
    torch.testing.assert_close(found.codes, lasso(x, atoms, 0.3).codes, atol=1e-6, rtol=0)
    assert seen == [(20, True), (40, True), (50, True)]


def test_a_code_of_one_atom_is_the_soft_threshold():
    x = torch.tensor([[3.0], [-3.0], [0.5]])
    assert lasso(x, torch.tensor([[2.0]]), 1.0).codes.flatten().tolist() == [1.25, -1.25, 0.0]
    assert lasso(x, torch.tensor([[2.0]]), 1.0, positive=True).codes.flatten().tolist() == [1.25, 0.0, 0.0]


def test_alpha_0_is_least_squares_and_said_so():
    x, atoms = problem(d=10, k=6)
    with pytest.warns(UserWarning, match="alpha=0 gives least-squares codes without sparsity"):
        codes = lasso(x, atoms, 0.0).codes
    torch.testing.assert_close(codes.T, torch.linalg.lstsq(atoms.T, x.T).solution, atol=1e-6, rtol=0)


def test_codes_all_zero_are_said_to_be_so():
    x, atoms = problem()
    with pytest.warns(UserWarning, match="all codes are zero at alpha=1000: pass less than"):
        found = lasso(x, atoms, 1000.0)
    assert not found.codes.any()
    assert not found.gap.any()


def test_a_gap_not_reached_is_said():
    x, atoms = problem()
    with pytest.warns(UserWarning, match="samples did not reach the gap 1e-06, the worst"):
        lasso(x, atoms, 0.1, max_iter=2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"alpha": -1.0}, "pass numbers >= 0"),
        ({"alpha": float("nan")}, "pass numbers >= 0"),
        ({"l2": -1.0}, "pass numbers >= 0"),
        ({"samples": torch.full((2, 16), float("nan"))}, "samples contain NaN or infinity"),
        ({"samples": torch.ones(2, 3)}, "pass (n, d) and (K, d)"),
        ({"samples": torch.ones(0, 16)}, "at least one"),
        ({"start": torch.ones(2, 3)}, "start has shape (2, 3): pass codes of shape (60, 40)"),
    ],
)
def test_bad_input_is_refused_in_a_line(change, message):
    x, atoms = problem()
    given = {"samples": x, "dictionary": atoms, "alpha": 1.0} | change
    with pytest.raises(ValueError, match=re.escape(message)):
        lasso(**given)


def test_numbers_may_be_tensors_and_nothing_else():
    x, atoms = torch.ones(2, 3), torch.eye(3)
    torch.testing.assert_close(lasso(x, atoms, torch.tensor(0.25)).codes, lasso(x, atoms, 0.25).codes)
    for bad in ({"alpha": "x"}, {"alpha": None}, {"alpha": 0.25, "max_iter": 0}, {"alpha": 0.25, "l2": [1]}):
        with pytest.raises(ValueError, match="pass "):
            lasso(x, atoms, **bad)
