"""Products with long rows: compiled, widened and plain give the same, against double precision."""

import pytest
import torch

from thalweg.second_order import LBFGS, rows

pytestmark = pytest.mark.slow


@pytest.fixture(params=["compiled", "eager"])
def path(request, monkeypatch):
    monkeypatch.setattr(rows, "COMPILE_FROM", 1 if request.param == "compiled" else 10**9)
    return request.param


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_a_kernel_first_met_in_the_middle_of_a_sum_serves_its_beginning_too(monkeypatch):
    """Kernels are not guarded: what they were compiled for must not show, in whichever order sizes come."""
    monkeypatch.setattr(rows, "COMPILE_FROM", 1)
    for kernel in (rows._dots, rows._sum, rows._add, rows._secant):
        kernel.cache_clear()
    for count, size in ((26, 4099), (6, 300), (12, 77), (2, 501), (24, 64)):
        block, vector, weights = numbers(count, size).float(), numbers(size, seed=1).float(), numbers(count, seed=2)
        expected = -0.7 * vector.double() + block.double().T @ weights
        found = rows.combination(vector, -0.7, block, weights).double()
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)
        torch.testing.assert_close(rows.times(block, vector), block.double() @ vector.double(), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("stored", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize(("count", "size"), [(2, 8), (10, 1000), (26, 4099)])
def test_products_are_those_of_double_precision(path, stored, count, size, monkeypatch):
    monkeypatch.setattr(rows, "BUFFER", 5000)  # several stretches of columns
    work = torch.float64 if stored == torch.float64 else torch.float32
    block, vector, weights = numbers(count, size).to(stored), numbers(size, seed=1).to(work), numbers(count, seed=2)
    exact = block.double()
    close = {"rtol": 1e-5, "atol": 1e-4} if work == torch.float32 else {"rtol": 1e-12, "atol": 1e-12}
    torch.testing.assert_close(rows.times(block, vector), exact @ vector.double(), **close)
    expected = -0.7 * vector.double() + exact.T @ weights
    before = vector.clone()
    torch.testing.assert_close(rows.combination(vector, -0.7, block, weights).double(), expected, **close)
    torch.testing.assert_close(vector, before, rtol=0, atol=0)


@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16])
def test_pairs_are_measured_and_stored(path, stored):
    d, before, after = (numbers(501, seed=i).float() for i in range(3))
    s, y = 0.3 * d, after - before
    expected = torch.stack([s @ y, y @ y, s @ s, s @ after, y @ after]).double()
    torch.testing.assert_close(rows.secant(d, 0.3, before, after), expected, rtol=1e-5, atol=1e-5)
    one, two = torch.empty(501, dtype=stored), torch.empty(501, dtype=stored)
    rows.store(d, 0.3, before, after, one, two)
    torch.testing.assert_close(one, s.to(stored), rtol=1e-2 if stored == torch.bfloat16 else 1e-6, atol=0)
    torch.testing.assert_close(two, y.to(stored), rtol=1e-2 if stored == torch.bfloat16 else 1e-6, atol=1e-7)


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_lbfgs_goes_the_same_way_compiled_or_not(dtype, monkeypatch):
    def path():
        direction, x, scales = LBFGS(3, dtype=dtype), numbers(300).float(), torch.logspace(0, 2, 300)
        direction.prepare(x)
        for _ in range(6):
            g = scales * x
            d = direction(g)
            step = float(-(g @ d) / (d @ (scales * d)))
            after = scales * (x + step * d)
            direction.learn(d, step, g, after)
            x = x + step * d
        return x

    plain = path()
    monkeypatch.setattr(rows, "COMPILE_FROM", 1)
    torch.testing.assert_close(path(), plain, rtol=1e-3, atol=1e-4)
