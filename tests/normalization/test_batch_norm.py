"""Batch normalization equals the book's formulas and torch's modules; ghosts, half precision, refusals."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tests.reference import batch_norm as book
from thalweg.normalization import BatchNorm, Statistics, batch_norm

SHAPES = {1: (7, 3), 2: (6, 3, 5), 3: (4, 3, 2, 5), 4: (3, 3, 2, 3, 2)}
TORCHS = {1: nn.BatchNorm1d, 2: nn.BatchNorm1d, 3: nn.BatchNorm2d, 4: nn.BatchNorm3d}


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).to(dtype)


def pair(extent, dtype=torch.float64, **options):
    """Returns ours and torch's with the same drawn parameters and statistics, loaded from torch's state."""
    of_torch = TORCHS[extent](3, dtype=dtype, **options)
    for i, tensor in enumerate([*of_torch.parameters(), *of_torch.buffers()]):
        if tensor.is_floating_point():
            tensor.data.copy_(normal(3, seed=i).square() + 0.5)
    ours = BatchNorm(3, dtype=dtype, **options)
    ours.load_state_dict(of_torch.state_dict())
    return ours, of_torch


def same_buffers(a, b):
    for (name, value), (other, expected) in zip(a.named_buffers(), b.named_buffers(), strict=True):
        assert name == other
        torch.testing.assert_close(value, expected)


def derivatives(norm, x):
    """Returns output, gradients, and the gradients of a function of the gradients."""
    x = x.clone().requires_grad_()
    y = norm(x)
    wanted = [x, *norm.parameters()]
    first = torch.autograd.grad((y.sin() * normal(*y.shape, seed=9)).sum(), wanted, create_graph=True)
    second = torch.autograd.grad(sum(g.square().sum() for g in first), wanted, allow_unused=True)
    return [y, *first, *(g for g in second if g is not None)]


@given(m=st.integers(2, 9), units=st.integers(1, 4), seed=st.integers(0, 99), scale=st.sampled_from([1e-3, 1.0, 1e4]))
@settings(max_examples=30, deadline=None)
def test_the_books_formulas(m, units, seed, scale):
    h = (scale * normal(m, units, seed=seed)).requires_grad_()
    γ, β = (normal(units, seed=seed + i).requires_grad_() for i in (1, 2))
    y, new = batch_norm(h, Statistics.fresh(units, torch.float64), γ, β, training=True, momentum=1.0, eps=1e-3)
    direction = normal(m, units, seed=seed + 3)
    by_h, by_γ, by_β = torch.autograd.grad((y * direction).sum(), [h, γ, β])
    out, μ, variance = book.batch_norm(h.detach().numpy(), γ.detach().numpy(), β.detach().numpy(), 1e-3)
    np.testing.assert_allclose(y.detach(), out, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(new.mean, μ, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(new.var, variance * m / (m - 1), rtol=1e-9, atol=1e-12)
    expected = book.gradient(h.detach().numpy(), γ.detach().numpy(), 1e-3, direction.numpy())
    for found, value in zip((by_h, by_γ, by_β), expected, strict=True):
        np.testing.assert_allclose(found, value, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("extent", SHAPES)
@pytest.mark.parametrize(
    "options",
    [{}, {"momentum": None}, {"momentum": 0.3, "eps": 0.1}, {"affine": False}, {"track_running_stats": False}],
    ids=str,
)
def test_torchs_modules_in_value_derivatives_and_statistics(extent, options):
    ours, of_torch = pair(extent, **options)
    assert ours.state_dict().keys() == of_torch.state_dict().keys()
    for step in range(3):
        x = normal(*SHAPES[extent], seed=step) * (step + 1) + step
        for a, b in zip(derivatives(ours, x), derivatives(of_torch, x), strict=True):
            torch.testing.assert_close(a, b)
        same_buffers(ours, of_torch)
    for a, b in zip(derivatives(ours.eval(), x), derivatives(of_torch.eval(), x), strict=True):
        torch.testing.assert_close(a, b)
    same_buffers(ours, of_torch)
    of_torch.load_state_dict(ours.state_dict())


@pytest.mark.parametrize("momentum", [0.2, None])
def test_the_function_is_the_module(momentum):
    module, of_torch = pair(3, momentum=momentum)
    statistics = module.statistics
    for step in range(3):
        x = normal(*SHAPES[3], seed=step)
        before = [t.clone() for t in statistics]
        y, new = batch_norm(x, statistics, module.weight, module.bias, training=True, momentum=momentum)
        assert all(torch.equal(a, b) for a, b in zip(before, statistics, strict=True))
        torch.testing.assert_close(y, of_torch(x))
        statistics = new
    for value, buffer in zip(statistics, of_torch.buffers(), strict=True):
        torch.testing.assert_close(value, buffer)
    y, same = batch_norm(x, statistics, module.weight, module.bias, training=False)
    torch.testing.assert_close(y, of_torch.eval()(x))
    assert same is statistics


@pytest.mark.parametrize("options", [{"track_running_stats": False}, {}])
def test_statistics_switched_off_later_stay_as_they_are(options):
    ours, of_torch = pair(1, momentum=None)
    ours.track_running_stats = of_torch.track_running_stats = False
    x = normal(7, 3)
    torch.testing.assert_close(ours(x), of_torch(x))
    same_buffers(ours, of_torch)


def test_gradients_are_right_to_second_order_in_groups_too():
    x, γ, β = normal(7, 2, 3).requires_grad_(), normal(2, seed=1).requires_grad_(), normal(2, seed=2).requires_grad_()

    def output(x, γ, β):
        return batch_norm(x, None, γ, β, training=True, ghost=3)[0]

    assert torch.autograd.gradcheck(output, (x, γ, β))
    assert torch.autograd.gradgradcheck(output, (x, γ, β))


@pytest.mark.parametrize(("rows", "extent"), [(12, ()), (14, ()), (13, ()), (13, (2,)), (3, ()), (5, (2, 2))])
def test_ghosts_are_batches_of_their_own(rows, extent):
    ours, of_torch = pair(1, momentum=0.3)
    ours.ghost = 4
    x = normal(rows, 3, *extent)
    groups = list(x.split(4))
    if groups[-1][:, 0].numel() == 1:  # a single value is joined to the group before
        groups[-2:] = [torch.cat(groups[-2:])]
    by_hand = torch.cat([nn.functional.batch_norm(g, None, None, ours.weight, ours.bias, True) for g in groups])
    torch.testing.assert_close(ours(x), by_hand)
    reference = Statistics(*(b.clone() for b in of_torch.buffers()))
    for group in groups:
        _, reference = batch_norm(group, reference, training=True, momentum=0.3)
    for value, expected in zip(ours.statistics, reference, strict=True):
        torch.testing.assert_close(value, expected)
    torch.testing.assert_close(ours.eval()(x), nn.functional.batch_norm(x, *reference[:2], ours.weight, ours.bias))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("ghost", [None, 512])
@pytest.mark.parametrize("wide", [False, True], ids=["all half", "half input"])
def test_half_precision_takes_its_statistics_in_float32(dtype, ghost, wide):
    """A mean of 100 over 4,096 examples: their sum is beyond float16, and bfloat16 cannot count so far."""
    x = (100 + 8 * normal(4096, 2)).to(dtype)
    norm = BatchNorm(2, momentum=1.0, ghost=ghost).to(torch.float32 if wide else dtype)
    y = norm(x)
    assert y.dtype == dtype
    last = x.double()[-(ghost or len(x)) :]
    rounding = 1e-5 if wide else torch.finfo(dtype).eps
    torch.testing.assert_close(norm.running_mean.double(), last.mean(dim=0), rtol=rounding, atol=0)
    torch.testing.assert_close(norm.running_var.double(), last.var(dim=0), rtol=rounding, atol=0)
    expected = batch_norm(x.double(), None, training=True, ghost=ghost)[0]
    torch.testing.assert_close(y.double(), expected, rtol=torch.finfo(dtype).eps, atol=torch.finfo(dtype).eps)


@pytest.mark.parametrize("ghost", [None, 2])
def test_no_variance_gives_beta(ghost):
    norm = BatchNorm(2, ghost=ghost, dtype=torch.float64)
    nn.init.constant_(norm.bias, 0.7)
    x = torch.full((4, 2), 3.0, dtype=torch.float64)
    torch.testing.assert_close(norm(x), torch.full_like(x, 0.7))


@pytest.mark.parametrize("make", [lambda: BatchNorm(3, dim=-1), lambda: BatchNorm(3, dim=-1, ghost=2)])
def test_channels_may_be_in_any_dimension(make):
    last, usual = make(), make()
    usual.dim = 1
    x = normal(4, 5, 3, dtype=torch.float32)
    torch.testing.assert_close(last(x), usual(x.mT).mT)
    same_buffers(last, usual)
    assert last(x[:, 0]).shape == (4, 3)


@pytest.mark.parametrize(
    ("options", "shape", "match"),
    [
        ({}, (1, 3), "a batch with 1 value per channel has no variance: pass more examples, drop the last batch"),
        ({"ghost": 4}, (1, 3), "a batch with 1 value per channel"),
        ({"ghost": 1}, (5, 3), "a batch with 1 value per channel"),
        ({"momentum": None}, (1, 3, 1), "a batch with 1 value per channel"),
        ({}, (4, 2), r"shape \(4, 2\) has no 3 channels in dimension 1, .*: pass \(N, C\)"),
        ({}, (3,), r"shape \(3,\) has no 3 channels in dimension 1"),
        (
            {"dim": -3},
            (3, 4, 4),
            r"shape \(3, 4, 4\) has no 3 channels in dimension -3, after the dimension of examples",
        ),
    ],
)
def test_what_cannot_be_normalized_is_refused_and_nothing_changes(options, shape, match):
    norm = BatchNorm(3, **options)
    before = copy.deepcopy(norm.state_dict())
    with pytest.raises(ValueError, match=match):
        norm(torch.ones(shape))
    assert all(torch.equal(before[name], value) for name, value in norm.state_dict().items())


def test_single_examples_are_fine_in_evaluation_and_with_an_extent():
    norm = BatchNorm(3)
    norm(normal(1, 3, 5, dtype=torch.float32))
    assert norm.eval()(torch.ones(1, 3)).shape == (1, 3)


@pytest.mark.parametrize("options", [{"ghost": 0}, {"ghost": 4, "synchronize": True}])
def test_bad_options_are_refused(options):
    with pytest.raises(ValueError, match="give ghost >= 1, and not both"):
        BatchNorm(3, **options)


def test_it_is_one_of_torchs_to_torchs_own_tools():
    net = nn.Sequential(nn.Linear(2, 3), BatchNorm(3, momentum=None))
    torch.optim.swa_utils.update_bn([normal(8, 2, dtype=torch.float32)], net)
    assert int(net[1].num_batches_tracked) == 1
    assert str(BatchNorm(3, ghost=4, dim=-1)).endswith("track_running_stats=True, ghost=4, dim=-1)")
    fixed = BatchNorm(3, bias=False)
    assert fixed.bias is None
    assert fixed(normal(5, 3, dtype=torch.float32)).mean().abs() < 1e-6


@pytest.mark.parametrize("options", [{}, {"ghost": 2}, {"affine": False}, {"track_running_stats": False}])
def test_an_input_on_another_device_is_refused_before_anything_changes(options):
    norm = BatchNorm(3, **options)
    before = {name: value.clone() for name, value in norm.state_dict().items()}
    with pytest.raises(ValueError, match="the input is on meta and the normalization on cpu: move one of them"):
        norm(torch.randn(4, 3, device="meta"))
    assert all(torch.equal(value, before[name]) for name, value in norm.state_dict().items())


BY_RANK = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "options", [{}, {"momentum": None}, {"affine": False}, {"track_running_stats": False}, {"ghost": 2}]
)
@pytest.mark.parametrize("shape", [(0, 3), (0, 3, 5), (2, 3, 0, 2), (0, 3, 1, 2, 2)])
@pytest.mark.parametrize("training", [True, False])
def test_an_empty_batch_is_taken_as_torch_takes_it(dtype, options, shape, training):
    of_torch = {k: v for k, v in options.items() if k != "ghost"}
    ours, torchs = BatchNorm(3, **options).train(training), BY_RANK[len(shape)](3, **of_torch).train(training)
    inputs = [torch.empty(shape, dtype=dtype, requires_grad=True) for _ in range(2)]
    outputs = [norm(x) for norm, x in zip((ours, torchs), inputs, strict=True)]
    assert (outputs[0].shape, outputs[0].dtype) == (outputs[1].shape, outputs[1].dtype)
    for y in outputs:
        y.sum().backward()
    assert (inputs[0].grad.shape, inputs[0].grad.dtype) == (inputs[1].grad.shape, inputs[1].grad.dtype)
    for a, b in zip(ours.state_dict().items(), torchs.state_dict().items(), strict=True):
        assert a[0] == b[0]
        torch.testing.assert_close(a[1], b[1])
    for p, q in zip(ours.parameters(), torchs.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad)


def test_an_empty_batch_is_counted_by_the_function_and_changes_nothing():
    before = Statistics(torch.ones(3), torch.full((3,), 2.0), torch.tensor(4))
    y, after = batch_norm(torch.empty(0, 3), before, training=True)
    assert (y.shape, int(after.batches)) == ((0, 3), 5)
    assert torch.equal(after.mean, before.mean)
    assert torch.equal(after.var, before.var)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "options", [{}, {"momentum": None}, {"affine": False}, {"track_running_stats": False}, {"bias": False}, {"dim": -1}]
)
@pytest.mark.filterwarnings("ignore:.*torch.jit.script.* is:DeprecationWarning")
def test_a_script_computes_the_same_and_keeps_the_names(options, training):
    ours, other = (nn.Sequential(BatchNorm(3, **options)).train(training) for _ in range(2))
    script = torch.jit.script(other)
    for seed in range(3):
        x = normal(5, 3, 3, dtype=torch.float32) + seed
        torch.testing.assert_close(script(x), ours(x))
    assert list(script.state_dict()) == list(ours.state_dict())
    for a, b in zip(script.state_dict().values(), ours.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b)
    assert isinstance(other[0], BatchNorm)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.* is:DeprecationWarning")
def test_a_script_without_whole_batches_is_refused():
    script = torch.jit.script(BatchNorm(3, ghost=2))
    with pytest.raises(
        torch.jit.Error, match="TorchScript supports neither ghost batches nor processes: set ghost=None"
    ):
        script(torch.ones(4, 3))


@pytest.mark.parametrize("options", [{}, {"ghost": 2}, {"momentum": None}])
def test_shared_memory_stays_shared_through_training(options):
    norm = BatchNorm(3, **options).share_memory()
    norm(normal(4, 3, dtype=torch.float32))
    assert all(t.is_shared() for t in norm.state_dict().values())
    assert norm.num_batches_tracked > 0
