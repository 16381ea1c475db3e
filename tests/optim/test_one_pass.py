"""Clip, skip, step and average in one pass are what they are one after the other, for every rule and engine."""

import copy
import io
import math
import pickle

import pytest
import torch
from torch import nn

from tests.optim.test_conventions import OPTIMIZERS, each, loss_of, net
from thalweg import optim
from thalweg.averaging import EMA, Average, Polyak
from thalweg.optim import implementations, one_pass

both = pytest.mark.parametrize("engine", ["foreach", "compiled"])


@pytest.fixture
def small(monkeypatch):
    """Compiles tensors of any size."""
    monkeypatch.setattr(implementations, "SMALL", 1)


def train(make, steps=6, model=None, spoil=(), **options):
    """Returns a model after steps whose gradients grow, some of them spoilt."""
    model = model or net(torch.float64)
    optimizer = make(model.parameters(), **options)
    go_on(model, optimizer, steps, spoil)
    return model, optimizer


def go_on(model, optimizer, steps, spoil=()):
    for i in range(steps):
        optimizer.zero_grad()
        (loss_of(model) * 4.0**i).backward()
        if i in spoil:
            next(model.parameters()).grad[0, 0] = spoil[i]
        optimizer.step()


def by_hand(make, steps=6, clip=None, averaging=None, spoil=(), model=None, **options):
    """The same, one thing after the other, by torch's own clipping and an average of its own."""
    model = model or net(torch.float64)
    optimizer = make(model.parameters(), engine="foreach", **options)
    average = Average(model, averaging) if averaging else None
    for i in range(steps):
        optimizer.zero_grad()
        (loss_of(model) * 4.0**i).backward()
        if i in spoil:
            continue
        if clip:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        if average:
            average.update()
    return model, average


def same(one, two, **tolerance):
    one, two = ([p.detach() for p in m.parameters()] for m in (one, two))
    torch.testing.assert_close(one, two, **tolerance or {"rtol": 1e-12, "atol": 1e-14})


# Each rule is held to one after the other through foreach; compiled, the one with the most state stands for all.
@pytest.mark.parametrize(
    ("name", "engine"), [*((name, "foreach") for name in OPTIMIZERS), ("RMSProp Nesterov", "compiled")]
)
def test_all_at_once_is_one_after_the_other(name, engine, small):
    make = OPTIMIZERS[name]
    spoil = {2: math.nan, 4: math.inf}
    model = net(torch.float64)
    average = Average(model, EMA(0.7))
    model, optimizer = train(
        make, 8, model, spoil, engine=engine, clip_norm=0.5, skip_nonfinite=True, average=average, weight_decay=0.1
    )
    expected, mean = by_hand(make, 8, 0.5, EMA(0.7), spoil, weight_decay=0.1)
    same(model, expected)
    assert optimizer.skipped == 2
    assert average.step == mean.step == 6
    torch.testing.assert_close(average.means, mean.means, rtol=1e-12, atol=1e-14)


@each
def test_where_the_host_does_not_wait_a_skipped_step_changes_no_parameter_nor_state(make, monkeypatch):
    monkeypatch.setattr(one_pass, "waits", lambda norm: True)
    spoil = {0: math.nan, 3: math.inf}
    if make is OPTIMIZERS["NAdam"]:
        with pytest.raises(RuntimeError, match="keeps a scalar on the host"):
            train(make, 8, spoil=spoil, clip_norm=0.5, skip_nonfinite=True)
        return
    model, optimizer = train(make, 8, spoil=spoil, clip_norm=0.5, skip_nonfinite=True)
    expected, _ = by_hand(make, 8, 0.5, spoil=spoil)
    same(model, expected)
    assert optimizer.skipped == 2


def test_the_norm_is_that_of_all_groups_and_each_clips_by_its_own():
    model, twin = net(torch.float64), net(torch.float64)
    groups = [{"params": model[0].parameters(), "clip_norm": 0.1}, {"params": model[2].parameters()}]
    optimizer = optim.SGD(groups, lr=1.0)
    for m in (model, twin):
        loss_of(m).backward()
    optimizer.step()
    norm = torch.cat([p.grad.flatten() for p in twin.parameters()]).norm()
    torch.testing.assert_close(optimizer.gradient_norm, norm)
    with torch.no_grad():
        for p in twin[0].parameters():
            p -= p.grad * 0.1 / (norm + 1e-6)
        for p in twin[2].parameters():
            p -= p.grad
    same(model, twin)


def test_the_norm_of_large_gradients_is_torchs():
    torch.manual_seed(0)
    params = [nn.Parameter(torch.zeros(shape)) for shape in [(300, 400), (7,), (65_536,)]]
    for p in params:
        p.grad = torch.randn(p.shape)
    optimizer = optim.SGD(params, lr=1.0, clip_norm=1.0)
    optimizer.step()
    expected = torch.nn.utils.get_total_norm([p.grad.double() for p in params])
    assert optimizer.gradient_norm.item() == pytest.approx(expected.item(), rel=1e-5)
    assert sum(float(p.detach().square().sum()) for p in params) == pytest.approx(1.0, rel=1e-4)


def test_nothing_is_measured_where_nobody_asked():
    _, optimizer = train(optim.Adam)
    assert optimizer.gradient_norm is None
    assert optimizer.skipped == 0


@pytest.mark.parametrize(
    ("make", "engine"),
    [(optim.AdamW, "foreach"), (optim.Adam, "foreach"), (optim.SGD, "foreach"), (optim.SGD, "compiled")],
)
def test_decay_is_for_all_unless_weights_are_asked_for(make, engine, small):
    def after(**options):
        model = nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3, bias=False))
        for p in model.parameters():
            nn.init.ones_(p)
            p.grad = torch.zeros_like(p)
        make(model.parameters(), lr=0.1, weight_decay=0.5, engine=engine, **options).step()
        return [bool((p == 1).all()) for p in model.parameters()]

    assert after() == [False] * 3
    assert after(decay="weights") == [False, True, True]


@pytest.mark.parametrize(
    ("dtype", "engine"),
    [
        *((dtype, "foreach") for dtype in (torch.float16, torch.bfloat16, torch.complex64, torch.float32)),
        *((dtype, "compiled") for dtype in (torch.bfloat16, torch.complex64, torch.float32)),
    ],
)
def test_types_and_means_that_the_pass_leaves_to_the_average(dtype, engine, small):
    torch.manual_seed(0)
    start = torch.randn(40, 30).to(dtype)
    for kept in (None, torch.float64, torch.bfloat16):
        if dtype.is_complex and kept:
            continue
        p, q = nn.Parameter(start.clone()), nn.Parameter(start.clone())
        together, apart = (Average([t], Polyak(), dtype=kept) for t in (p, q))
        one = optim.AdamW([p], lr=0.1, engine=engine, average=together)
        two = optim.AdamW([q], lr=0.1, engine=engine)
        for i in range(4):
            p.grad = q.grad = torch.full_like(start, 0.1 * (i - 1))
            one.step()
            two.step()
            apart.update()
        assert torch.equal(p, q)
        (mean,), (expected,) = together.means.values(), apart.means.values()
        half = dtype.itemsize == 2  # whose points the pass takes before they are rounded
        torch.testing.assert_close(mean, expected, **({"rtol": 2e-2, "atol": 1e-2} if half else {}))


def test_parameters_without_a_gradient_are_averaged_too():
    model = net()
    model[2].requires_grad_(True)
    average = Average(model, Polyak())
    optimizer = optim.SGD(model.parameters(), lr=0.1, average=average)
    loss_of(model).backward()
    model[0].weight.grad = None
    with torch.no_grad():
        model[0].weight.fill_(3.0)
    optimizer.step()
    assert average.step == 1
    assert average.means["0.weight"].eq(3).all()
    torch.testing.assert_close(average.means["2.weight"], model[2].weight.detach())


@each
def test_it_resumes_bit_for_bit_and_leaves_out_what_older_states_lack(make):
    def begin():
        model = net()
        average = Average(model, EMA(0.9))
        options = {"clip_norm": 1.0, "skip_nonfinite": True, "average": average}
        return model, average, make(model.parameters(), **options)

    model, average, optimizer = begin()
    go_on(model, optimizer, 3, {1: math.nan})
    file = io.BytesIO()
    torch.save({"m": model.state_dict(), "a": average.state_dict(), "o": optimizer.state_dict()}, file)
    go_on(model, optimizer, 3)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    again, mean, other = begin()
    again.load_state_dict(saved["m"])
    mean.load_state_dict(saved["a"])
    other.load_state_dict(saved["o"])
    go_on(again, other, 3)
    same(model, again, rtol=0, atol=0)
    assert all(torch.equal(a, b) for a, b in zip(average.means.values(), mean.means.values(), strict=True))
    assert other.skipped == 1
    older = copy.deepcopy(saved["o"])
    for group in older["param_groups"]:
        for key in ("clip_norm", "skip_nonfinite", "decay", "skipped"):
            del group[key]
    plain = make(net().parameters())
    plain.load_state_dict(older)
    assert plain.param_groups[0]["decay"] == "all"
    assert plain.skipped == 0


def test_a_step_within_applied_is_refused_before_anything_changes():
    model = net()
    average = Average(model, EMA(0.9))
    optimizer = optim.Adam(model.parameters(), average=average)
    go_on(model, optimizer, 2)
    with average.applied():
        loss_of(model).backward()
        before = [p.detach().clone() for p in model.parameters()]
        with pytest.raises(RuntimeError, match=r"step\(\) was called within applied"):
            optimizer.step()
        assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clip_norm": 0.0}, "Invalid clip_norm value: 0.0: give a number above 0"),
        ({"decay": "biases"}, "Invalid decay: 'biases': choose all or weights"),
        ({"average": EMA(0.9)}, "Invalid average: EMA"),
    ],
)
def test_bad_options_are_one_line(options, message):
    with pytest.raises(ValueError, match=message):
        optim.Adam(net().parameters(), **options)


def test_non_finite_gradients_at_the_first_step_leave_the_model_as_it_was():
    model = net()
    before = [p.detach().clone() for p in model.parameters()]
    _, optimizer = train(optim.Adam, 1, model, {0: math.nan}, skip_nonfinite=True)
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))
    assert optimizer.skipped == 1
    go_on(model, optimizer, 1)
    expected, _ = train(optim.Adam, 1, net())
    same(model, expected)


def test_a_captured_step_clips_skips_and_averages():
    options = {"clip_norm": 0.5, "skip_nonfinite": True}
    model = nn.Linear(4, 1, dtype=torch.float64)  # two parameters: each one more is traced as these are
    twin = copy.deepcopy(model)
    average = Average(model, EMA(0.7))
    optimizer = optim.Adam(model.parameters(), lr=torch.tensor(0.01, dtype=torch.float64), **options, average=average)
    step = torch.compile(optimizer.step, backend="eager")
    for i in range(5):
        optimizer.zero_grad()
        (loss_of(model) * 4.0**i).backward()
        if i == 2:
            model.weight.grad[0, 0] = math.nan
        step()
    expected, _ = by_hand(optim.Adam, 5, 0.5, spoil=(2,), model=twin, lr=0.01)
    same(model, expected, rtol=1e-4, atol=1e-6)  # a captured step counts in float32
    assert optimizer.skipped == 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@both
def test_on_a_gpu_no_step_waits(engine):
    model = net().cuda()
    average = Average(model, EMA(0.9))
    optimizer = optim.Adam(model.parameters(), engine=engine, clip_norm=1.0, skip_nonfinite=True, average=average)
    x = torch.linspace(-1, 1, 24, device="cuda").view(6, 4)
    for _ in range(3):
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
    torch.cuda.set_sync_debug_mode("error")
    try:
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))])
@pytest.mark.parametrize("make", [optim.Adam, lambda p, **o: optim.LBFGS(p, max_iter=2, **o)])
def test_a_copy_goes_on_averaging_its_own_parameters(make, copied):
    model = net()
    optimizer = make(model.parameters(), average=Average(model, EMA(0.5)))

    def step(model, optimizer):
        def closure():
            optimizer.zero_grad()
            loss = loss_of(model)
            loss.backward()
            return loss

        optimizer.step(closure)
        return {name: mean.clone() for name, mean in optimizer.average.means.items()}

    step(model, optimizer)
    its_model, its_optimizer = copied((model, optimizer))
    average = optimizer.average
    before = {name: mean.clone() for name, mean in average.means.items()}
    again = step(its_model, its_optimizer)
    assert (its_optimizer.average.step, average.step) == (2, 1)
    for p, mine in zip(its_model.parameters(), model.parameters(), strict=True):
        assert average.mean_of(p) is None
        assert its_optimizer.average.mean_of(p).shape == mine.shape
    with its_optimizer.average.applied():
        average.check("update")  # the original's parameters hold no average
    torch.testing.assert_close(dict(average.means), before, rtol=0, atol=0)
    torch.testing.assert_close(again, step(model, optimizer), rtol=0, atol=0)


@pytest.mark.parametrize(("dtype", "value"), [(torch.float16, 300.0), (torch.float32, 1e25), (torch.complex64, 1e25)])
@pytest.mark.parametrize("count", [70_000, 70])
def test_a_finite_gradient_whose_squares_overflow_is_clipped_and_not_skipped(dtype, value, count):
    p = nn.Parameter(torch.ones(count, dtype=dtype))
    optimizer = optim.SGD([p], lr=1.0, clip_norm=1.0, skip_nonfinite=True)
    p.grad = torch.full_like(p, value)
    optimizer.step()
    assert optimizer.skipped == 0
    assert optimizer.gradient_norm.item() == pytest.approx(value * math.sqrt(count), rel=1e-3)
    assert torch.allclose(p.detach(), torch.full_like(p, 1 - 1 / math.sqrt(count)), atol=1e-3)


def test_an_average_of_another_model_is_refused():
    model, other = nn.Linear(3, 2), nn.Linear(3, 2)
    with pytest.raises(ValueError, match="averages none of the parameters"):
        optim.Adam(model.parameters(), average=Average(other, EMA(0.9)))
    optim.Adam([model.weight], average=Average(model, EMA(0.9)))


@pytest.mark.parametrize(
    "switch", [{}, {"capturable": True}, {"differentiable": True}], ids=lambda switch: str([*switch])
)
@each
def test_a_parameter_without_dimensions_is_stepped_as_one_of_a_single_number(make, switch):
    """Hyperparameters in float64 tensors change the type of nothing."""

    def end(shape):
        p = nn.Parameter(torch.full(shape, 0.7))
        average = None if "differentiable" in switch else Average([p], EMA(0.9))
        optimizer = make([p], lr=torch.tensor(0.1, dtype=torch.float64), average=average, **switch)
        if "differentiable" in switch:
            p.requires_grad_(False)
        for i in range(3):
            p.grad = torch.full(shape, i - 0.5)
            optimizer.step()
        means = list(average.means.values()) if average else []
        return [t.detach().reshape(()) for t in (p, *means, *optimizer.state[p].values())]

    torch.testing.assert_close(end(()), end((1,)), rtol=0, atol=0)
