"""Kernels that index memory by hand are given what they take it for, or one line says what is not."""

import numpy as np
import pytest
import torch

from thalweg.coordinate import MiniBatchDictionaryLearning, lasso, orthogonal_matching_pursuit, pivoting
from thalweg.coordinate.atoms import update_atoms
from thalweg.coordinate.moments import moments


def emptied(*shape):
    t = torch.ones(*shape)
    t.untyped_storage().resize_(8)
    return t


ones, eye = torch.ones, torch.eye
REFUSED = {
    "atoms: few statistics": lambda: update_atoms(ones(50, 8), eye(3), ones(50, 8)),
    "atoms: few rows": lambda: update_atoms(ones(5000, 8), eye(5000), ones(2, 8)),
    "atoms: one column": lambda: update_atoms(ones(5, 8), eye(5), ones(5, 1)),
    "atoms: no matrix": lambda: update_atoms(ones(8), eye(8), ones(8, 8)),
    "atoms: no memory": lambda: update_atoms(ones(5, 8), emptied(5, 5), ones(5, 8)),
    "moments: few samples": lambda: moments(ones(100_000, 4), ones(3, 8), ones(3).double()),
    "moments: few weights": lambda: moments(ones(100_000, 4), ones(100_000, 8), ones(2).double()),
    "moments: complex": lambda: moments(ones(3, 4, dtype=torch.complex64), ones(3, 8), ones(3).double()),
    "moments: no memory": lambda: moments(ones(3, 4), emptied(3, 8), ones(3).double()),
    "lasso: small gram": lambda: lasso(ones(2000, 8), ones(400, 8), 0.1, gram=eye(3)),
    "lasso: large gram": lambda: lasso(ones(20, 8), ones(4, 8), 0.1, gram=eye(9)),
    "lasso: gram that is not finite": lambda: lasso(ones(20, 8), ones(4, 8), 0.1, gram=ones(4, 4) / 0),
    "lasso: complex": lambda: lasso(ones(20, 8, dtype=torch.complex64), ones(4, 8), 0.1),
    "lasso: sparse": lambda: lasso(ones(20, 8).to_sparse(), ones(4, 8), 0.1),
    "lasso: no memory": lambda: lasso(ones(20, 8), emptied(4, 8), 0.1),
    "lasso: a tolerance that is none": lambda: lasso(ones(20, 8), ones(4, 8), 0.1, tol=float("nan")),
    "lasso: iterations that are none": lambda: lasso(ones(20, 8), ones(4, 8), 0.1, max_iter=float("nan")),
    "omp: features": lambda: orthogonal_matching_pursuit(ones(20, 8), ones(4, 9), 2),
    "pivots: few codes": lambda: pivoting.solve(
        ones(20_000, 8), ones(4, 8).double(), eye(4).double(), 0.1, False, 1e-6, 100, torch.zeros(2, 4)
    ),
    "pivots: features": lambda: pivoting.solve(
        ones(20, 8), ones(4, 800).double(), eye(4).double(), 0.1, False, 1e-6, 100, torch.zeros(20, 4)
    ),
}


@pytest.mark.parametrize("call", REFUSED.values(), ids=REFUSED)
def test_what_does_not_fit_is_one_line(call):
    with pytest.raises(ValueError, match=r"pass |contain NaN") as raised:
        call()
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.int64, torch.float64])
def test_moments_of_any_real_type_are_products(kind):
    codes, samples = torch.arange(-6, 6).view(4, 3).to(kind).requires_grad_(kind.is_floating_point), ones(4, 2).to(kind)
    second, cross = moments(codes, samples, torch.arange(4.0))
    weighted = codes.detach().double().T * torch.arange(4.0).double()
    torch.testing.assert_close(second, weighted @ codes.detach().double())
    torch.testing.assert_close(cross, weighted @ samples.double())


def test_a_dictionary_changed_between_steps_is_refused():
    learner, X = MiniBatchDictionaryLearning(4, alpha=0.1), np.random.default_rng(0).normal(size=(20, 8))
    learner.partial_fit(X)
    learner.components_ = np.ones((400, 8))
    with pytest.raises((ValueError, RuntimeError)):
        learner.partial_fit(X)
