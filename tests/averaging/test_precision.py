"""Averages kept in another type or on another device: small increments are not lost where they would be."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tests.averaging.points import theta, trainable, walk
from thalweg.averaging import EMA, Average, Polyak
from thalweg.averaging.rounding import round_into_


def drifting(kind, dtype, steps=4000, n=4000):
    """Returns the average of parameters that go from 1 to 1.2 in equal steps, and the exact average."""
    w = nn.Parameter(torch.ones(n))
    average, exact = Average([w], kind, dtype=dtype), Average([reference := theta([1.0])], kind)
    for t in range(1, steps + 1):
        with torch.no_grad():
            w.fill_(1 + 0.2 * t / steps)
            reference.fill_(1 + 0.2 * t / steps)
        average.update(), exact.update()
    return average.means["0"].double(), exact.means["0"].item()


@pytest.mark.parametrize("kind", [EMA(0.999), Polyak(), EMA(0.999, "none")], ids=str)
def test_a_bfloat16_average_follows_a_long_drift(kind):
    mean, exact = drifting(kind, torch.bfloat16)
    ulp = 2.0**-7
    assert abs(mean.mean().item() - exact) < 0.15 * ulp
    assert (mean - exact).square().mean().sqrt() < 3 * ulp


def test_rounded_to_the_nearest_it_would_stand_still():
    mean = torch.ones(1, dtype=torch.bfloat16)
    for t in range(1, 4001):
        mean.lerp_(torch.full((1,), 1 + 0.2 * t / 4000).bfloat16(), 0.001)
    assert mean.item() == 1.0


@given(st.floats(-(2.0**100), 2.0**100, width=32, allow_subnormal=False))
@settings(max_examples=50)
def test_a_rounded_number_is_a_neighbour_and_right_on_average(x):
    n = 4096
    rounded = torch.empty(n, dtype=torch.bfloat16)
    round_into_(rounded, torch.full((n,), x), torch.Generator().manual_seed(0))
    bits = torch.tensor(x).view(torch.int32).item()
    low = torch.tensor(bits & -(2**16), dtype=torch.int32)
    below, above = low.view(torch.float32), (low + 2**16).view(torch.float32)
    up = rounded.float() == above
    assert ((rounded.float() == below) | up).all()
    assert abs(up.double().mean() - (bits & 0xFFFF) / 2**16) < 2 / n**0.5


@given(st.floats(width=16, allow_subnormal=False))
def test_what_bfloat16_holds_is_not_changed(x):
    exact = torch.tensor([x]).bfloat16()
    rounded = torch.empty_like(exact)
    round_into_(rounded, exact.float(), torch.Generator().manual_seed(0))
    assert torch.equal(rounded, exact) or (rounded.isnan().all() and exact.isnan().all())


def test_every_nan_and_infinity_stays():
    nan = torch.tensor([0x7FFFFFFF, -1, 0x7FC00000, 0x7F800000, -0x800000], dtype=torch.int32).view(torch.float32)
    rounded = torch.empty(5, dtype=torch.bfloat16)
    round_into_(rounded, nan, torch.Generator().manual_seed(0))
    assert rounded[:3].isnan().all()
    assert rounded[3:].tolist() == [float("inf"), -float("inf")]


def test_chance_comes_from_the_generator_alone():
    def mean(generator):
        w = nn.Parameter(torch.ones(100))
        average = Average([w], EMA(0.9), dtype=torch.bfloat16, generator=generator)
        for _ in walk([w], 5):
            average.update()
        return average.means["0"]

    state = torch.get_rng_state()
    assert torch.equal(mean(None), mean(torch.Generator().manual_seed(0)))
    assert not torch.equal(mean(None), mean(torch.Generator().manual_seed(1)))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_half_precision_parameters_have_a_float32_average(half):
    model = nn.Linear(3, 2).to(half)
    average = Average(model, EMA(0.999, "none"))
    exact = [p.double() for p in trainable(model)]
    for points in walk(trainable(model), 50):
        average.update()
        exact = [0.999 * e + 0.001 * p.double() for e, p in zip(exact, points, strict=True)]
    for mean, e in zip(average.means.values(), exact, strict=True):
        assert mean.dtype == torch.float32
        torch.testing.assert_close(mean.double(), e, rtol=1e-5, atol=1e-6)
    with average.applied():
        assert torch.equal(model.weight, average.means["weight"].to(half))
    assert model.weight.dtype == half


def test_after_ten_million_points_float32_stands_still_and_float64_does_not():
    w = nn.Parameter(torch.ones(1))
    averages = {dtype: Average([w], Polyak(), dtype=dtype) for dtype in (torch.float32, torch.float64)}
    with torch.no_grad():
        w.fill_(1.2)
    for average in averages.values():
        average.load_state_dict({**average.state_dict(), "step": 10_000_000})
        for _ in range(1000):
            average.update()
    assert averages[torch.float32].means["0"].item() == 1.0
    assert averages[torch.float64].means["0"].item() == pytest.approx(1 + 0.2 * 1000 / 10_001_000, rel=1e-9)


@pytest.mark.parametrize("dtype", [None, torch.float64, torch.bfloat16])
def test_an_average_kept_elsewhere_comes_back_to_the_parameters(dtype):
    model = nn.Linear(3, 2)
    average = Average(model, EMA(0.5), device="cpu", dtype=dtype)
    for _ in walk(trainable(model), 3):
        average.update()
    assert {m.device.type for m in average.means.values()} == {"cpu"}
    assert {m.dtype for m in average.means.values()} == {dtype or torch.float32}
    with average.applied():
        torch.testing.assert_close(model.bias.detach(), average.means["bias"].float())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a second device")
@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
@pytest.mark.parametrize("device", ["cpu", None])
def test_a_model_on_a_gpu_is_averaged_there_or_here(device, dtype):
    model = nn.Linear(30, 20).cuda()
    average, twin = Average(model, EMA(0.5), device=device, dtype=dtype), Average(model, EMA(0.5), dtype=torch.float64)
    for _ in range(3):
        with torch.no_grad():
            model.weight.add_(torch.rand_like(model.weight))
        if device is None:
            torch.cuda.set_sync_debug_mode("error")
        average.update()
        torch.cuda.set_sync_debug_mode("default")
        twin.update()
    assert average.means["weight"].device.type == (device or "cuda")
    close = {"rtol": 0.03, "atol": 0.03} if dtype else {}
    with average.applied():
        torch.testing.assert_close(model.weight.detach().double(), twin.means["weight"], **close)
