"""What the atoms learn of the codes, by the compiled way and by products; torch's threads stay as they were."""

import pytest
import torch

from thalweg.coordinate import DictionaryLearning, MiniBatchDictionaryLearning, moments
from thalweg.coordinate.lasso import one_thread


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_moments_are_weighted_products(compiled, kind, monkeypatch):
    if not compiled:
        monkeypatch.setattr(moments, "_compiled", lambda: None)
        monkeypatch.setattr(moments, "_PART", 7)
    draws = torch.Generator().manual_seed(0)
    c, x, w = (torch.randn(*shape, generator=draws, dtype=torch.float64) for shape in ((30, 6), (30, 4), (30,)))
    c = c * (c.abs() > 0.7)
    c, x, w = c.to(kind), x.to(kind), w.abs()
    second, cross = moments.moments(c, x, w)
    torch.testing.assert_close(second, c.double().T @ (w[:, None] * c.double()))
    torch.testing.assert_close(cross, c.double().T @ (w[:, None] * x.double()))


@pytest.mark.parametrize("learner", [DictionaryLearning, MiniBatchDictionaryLearning])
def test_torch_has_its_threads_back(learner):
    before, seen = torch.get_num_threads(), []
    torch.set_num_threads(3)
    try:
        x = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
        learner(
            5, alpha=0.1, max_iter=2, random_state=0, callback=lambda now: seen.append(torch.get_num_threads())
        ).fit(x)
        with one_thread(10):
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 3
        assert seen == [3] * len(seen)
        with one_thread(1 << 30):
            assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
