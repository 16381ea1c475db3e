"""The second-order optimizers: equal to ``minimize``, and what a torch optimizer with a closure must honour."""

import copy
import inspect
import io
import math
import pickle
import warnings

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn

import thalweg
from thalweg import optim
from thalweg.averaging import Average, Polyak
from thalweg.second_order import FunctionObjective, HessianFree, NotAnObjective

MAKE = {
    "LBFGS": optim.LBFGS,
    "LBFGS hager_zhang": lambda p, **o: optim.LBFGS(p, **{"line_search_fn": "hager_zhang", **o}),
    "LBFGS bfloat16": lambda p, **o: optim.LBFGS(p, **{"history_dtype": torch.bfloat16, **o}),
    "BFGS": optim.BFGS,
    "ConjugateGradient": optim.ConjugateGradient,
    "Newton": lambda p, **o: optim.Newton(p, **{"max_iter": 20, **o}),
    "Newton saddle-free": lambda p, **o: optim.Newton(p, **{"max_iter": 20, "damping": "saddle-free", **o}),
    "TruncatedNewton": lambda p, **o: optim.TruncatedNewton(p, **{"max_iter": 20, **o}),
    "TruncatedNewton trust region": lambda p, **o: optim.TruncatedNewton(
        p, **{"max_iter": 20, "globalization": "trust_region", **o}
    ),
}
each = pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
lines = pytest.mark.parametrize("make", [optim.LBFGS, optim.BFGS, optim.ConjugateGradient])


def net(dtype=torch.float64):
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 1)).to(dtype)


def loss_of(model):
    x = torch.linspace(-1, 1, 24, dtype=torch.float64).view(6, 4).to(next(model.parameters()).dtype)
    return (model(x) - x.sin().sum(dim=1, keepdim=True)).square().mean()


def run(model, optimizer, steps=3, closure=None):
    for _ in range(steps):
        optimizer.step(closure or (lambda: loss_of(model)))
    return [p.detach().clone() for p in model.parameters()]


def same(a, b, **tolerance):
    torch.testing.assert_close(a, b, **tolerance or {"rtol": 0, "atol": 0})


def nothing_to_step(make, match):
    """A step without any gradient is an error; of L-BFGS, as of torch's, it is none, with a warning."""
    if make([nn.Parameter(torch.zeros(1))]).rests:
        return pytest.warns(RuntimeWarning, match=f"{match}.*the step changes nothing")
    return pytest.raises(ValueError, match=match)


def rosenbrock(x):
    return 100 * (x[1:] - x[:-1] ** 2).square().sum() + (1 - x[:-1]).square().sum()


class Counting:
    def __init__(self, function):
        self.function, self.calls = function, 0

    def __call__(self):
        self.calls += 1
        return self.function()


@each
def test_it_lowers_the_loss_and_returns_the_last_one(make):
    model = net()
    before, optimizer = loss_of(model).item(), make(model.parameters())
    last = optimizer.step(lambda: loss_of(model))
    assert last.item() == loss_of(model).item() == optimizer.report.loss
    assert last.item() < 0.1 * before


@pytest.mark.parametrize(
    ("make", "method"),
    [
        (optim.LBFGS, "lbfgs"),
        (optim.BFGS, "bfgs"),
        (optim.ConjugateGradient, "cg"),
        (MAKE["Newton"], "newton"),
        (MAKE["TruncatedNewton trust region"], "truncated-newton"),
    ],
)
@pytest.mark.parametrize("iterations", [1, 4, 15])
def test_a_step_goes_where_minimize_goes(make, method, iterations):
    """Rosenbrock's valley rejects steps, so that curvature is asked for again where the parameters have left."""
    start = torch.tensor([-1.2, 1.0, -0.5, 0.8], dtype=torch.float64)
    expected = thalweg.minimize(rosenbrock, start, method, gtol=0.0, options={"max_iter": iterations})
    w = [nn.Parameter(start[:1].clone()), nn.Parameter(start[1:].clone())]
    optimizer = make(w, max_iter=iterations, max_eval=1000, tolerance_grad=0.0, tolerance_change=0.0)
    optimizer.step(lambda: rosenbrock(torch.cat(w)))
    same(torch.cat(w).detach(), expected.x, rtol=1e-12, atol=1e-13)
    report = optimizer.report
    assert (report.iterations, report.message) == (expected.nit, expected.message)
    assert report.gradient_norm == pytest.approx(expected.grad.abs().max().item(), rel=1e-9)
    if method != "truncated-newton":
        assert report.evaluations == expected.nfev + 1  # the one that asks whether the closure repeats itself
        assert report.products == expected.nhev


@each
def test_the_report_counts_what_the_closure_saw(make):
    model = net()
    closure, optimizer = (
        Counting(lambda: loss_of(model)),
        make(model.parameters(), tolerance_grad=1e-3, tolerance_change=0.0),
    )
    for step in range(3):
        before = closure.calls
        optimizer.step(closure)
        report = optimizer.report
        assert report.evaluations == closure.calls - before
        gradients = torch.autograd.grad(loss_of(model), model.parameters())
        assert report.gradient_norm == pytest.approx(max(g.abs().max().item() for g in gradients), rel=1e-6)
        assert report.message
        assert step or report.iterations
    state = optimizer.state[next(model.parameters())]
    assert state["func_evals"] == closure.calls


@each
def test_a_step_ends_where_the_minimum_is_near_and_the_next_one_knows(make):
    w = nn.Parameter(torch.tensor([5.0, -3.0], dtype=torch.float64))
    optimizer = make([w], max_iter=200, tolerance_grad=1e-6, tolerance_change=0.0)
    for _ in range(2):
        optimizer.step(lambda: (w - 1).square().sum() + (w[0] * w[1] - 1).square())
        assert optimizer.report.ending == "gradient"
        same(w.detach(), torch.ones(2, dtype=torch.float64), rtol=1e-5, atol=1e-5)
    assert optimizer.report.iterations <= 3


@each
def test_backward_in_the_closure_or_not_is_the_same(make):
    one, two = net(), net()
    a, b = make(one.parameters()), make(two.parameters())

    def backward():
        assert torch.is_grad_enabled()
        b.zero_grad()
        loss = loss_of(two)
        loss.backward()
        return loss

    expected = run(one, a)
    if isinstance(b, (optim.Newton, optim.TruncatedNewton)):
        before = [p.detach().clone() for p in two.parameters()]
        with pytest.raises(ValueError, match=r"must return the loss without calling backward\(\)"):
            b.step(backward)
        same([p.detach() for p in two.parameters()], before)
    else:
        same(run(two, b, closure=backward), expected)


@lines
def test_a_closure_may_return_a_number_when_it_calls_backward(make):
    model = net()

    def closure():
        loss = loss_of(model)
        loss.backward()
        return loss.item()

    assert float(make(model.parameters()).step(closure)) < 0.1


@each
@pytest.mark.parametrize("factor", [2.0**-498, 2.0**498])
def test_multiplying_the_loss_changes_nothing(make, factor):
    one, two = net(), net()
    a, b = make(one.parameters(), tolerance_grad=1e-4), make(two.parameters(), tolerance_grad=1e-4)
    for _ in range(4):
        a.step(lambda: loss_of(one))
        b.step(lambda: factor * loss_of(two))
        assert (a.report.ending, a.report.iterations, a.report.evaluations, a.report.products) == (
            b.report.ending,
            b.report.iterations,
            b.report.evaluations,
            b.report.products,
        )
    same(list(one.parameters()), list(two.parameters()), rtol=1e-6, atol=1e-8)


@lines
def test_a_small_change_ends_a_step_relative_to_the_loss(make):
    w = nn.Parameter(torch.tensor([5.0, -3.0], dtype=torch.float64))
    for factor in (1e-6, 1e6):
        optimizer = make([w], tolerance_grad=0.0, tolerance_change=0.5)
        optimizer.step(lambda factor=factor: factor * (1000 + (w**2).sum()))
        assert (optimizer.report.ending, optimizer.report.iterations) == ("change", 1)


@each
def test_groups_have_their_own_weight_decay(make):
    def penalised(model):
        decay = 0.05 * sum(p.square().sum() for p in model[0].parameters())
        return loss_of(model) + decay + 0.005 * sum(p.square().sum() for p in model[2].parameters())

    one, two = net(), net()
    groups = [
        {"params": one[0].parameters(), "weight_decay": 0.1},
        {"params": one[2].parameters(), "weight_decay": 0.01},
    ]
    a, b = make(groups, max_iter=4), make(two.parameters(), max_iter=4)
    run(one, a, 1)
    run(two, b, 1, lambda: penalised(two))
    same(list(one.parameters()), list(two.parameters()), rtol=1e-7, atol=1e-9)
    assert a.report.loss == pytest.approx(loss_of(one).item())
    assert b.report.loss == pytest.approx(penalised(two).item())
    assert a.report.gradient_norm == pytest.approx(b.report.gradient_norm, rel=1e-4)


@each
def test_maximize_goes_up(make):
    one, two = net(), net()
    a, b = make(one.parameters(), weight_decay=0.01), make(two.parameters(), weight_decay=0.01, maximize=True)
    run(one, a, 2)
    run(two, b, 2, lambda: -loss_of(two))
    same(list(one.parameters()), list(two.parameters()))
    assert b.report.loss == -a.report.loss


@each
def test_schedulers_rewrite_the_lr_and_zero_stands_still(make):
    model = net()
    optimizer = make(model.parameters())
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    run(model, optimizer, 1)
    scheduler.step()
    assert optimizer.param_groups[0]["lr"] == 0.5
    before = run(model, optimizer)
    optimizer.param_groups[0]["lr"] = 0.0
    same(run(model, optimizer), before)
    assert optimizer.report.iterations <= 3


def test_lr_is_a_factor_on_newtons_step():
    w = nn.Parameter(torch.tensor([4.0], dtype=torch.float64))
    for make in (optim.Newton, lambda p, **o: optim.TruncatedNewton(p, damping=0.0, **o)):
        w.data.fill_(4.0)
        for lr in (0.5, torch.tensor([0.25])):
            before = w.item()
            make([w], lr=lr).step(lambda: (w**2).sum())
            assert w.item() == pytest.approx((1 - float(lr)) * before)


@each
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_resuming_is_bit_for_bit_through_a_weights_only_file(make, dtype):
    def settings():
        return {"weight_decay": 0.01, "max_iter": 3, "tolerance_change": 0.0}

    model = net(dtype)
    optimizer = make(model.parameters(), **settings())
    run(model, optimizer)
    file = io.BytesIO()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, file)
    expected, report = run(model, optimizer), optimizer.report
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    again = net(dtype)
    again.load_state_dict(saved["model"])
    resumed = make(again.parameters(), **settings())
    resumed.load_state_dict(saved["optimizer"])
    same(run(again, resumed), expected)
    assert resumed.report == report


@pytest.mark.parametrize("make", [optim.LBFGS, optim.ConjugateGradient])
def test_a_state_is_divided_among_the_parameters_that_the_loss_uses(make):
    def build():
        idle, w = nn.Parameter(torch.ones(3)), nn.Parameter(torch.linspace(-1, 1, 4, dtype=torch.float64))
        z = nn.Parameter(torch.ones(2, 3, dtype=torch.complex128))
        return [idle, z, w], lambda: ((z - 1j).abs() ** 2).sum() * w.square().sum() + (w - 1).square().sum()

    params, closure = build()
    optimizer = make(params, max_iter=4)
    optimizer.step(closure)
    saved = optimizer.state_dict()
    name, lead = ("pairs", (15, 2)) if make is optim.LBFGS else ("direction", ())
    shapes = {i: tuple(s[name].shape) for i, s in saved["state"].items() if name in s}
    assert shapes == {1: (*lead, 2, 3, 2), 2: (*lead, 4)}
    others, closure_there = build()
    again = make(others, max_iter=4)
    for p, q in zip(others, params, strict=True):
        p.data.copy_(q.data)
    again.load_state_dict(saved)
    optimizer.step(closure), again.step(closure_there)
    same([p.detach() for p in others], [p.detach() for p in params])
    assert again.state_dict()["state"][0]["n_iter"] == 8


@each
def test_copies_go_on_as_the_original(make):
    model = net()
    optimizer = make(model.parameters(), max_iter=3)
    run(model, optimizer)
    pair = copy.deepcopy((model, optimizer))
    both = pickle.loads(pickle.dumps((model, optimizer)))
    expected = run(model, optimizer)
    same(run(*pair), expected)
    same(run(*both), expected)


@each
def test_what_was_learned_is_carried_from_step_to_step(make):
    """Four steps of five iterations come to about where one of twenty comes."""
    one, two = net(), net()
    whole = make(one.parameters(), max_iter=20, max_eval=500, tolerance_change=0.0)
    parts = make(two.parameters(), max_iter=5, max_eval=500, tolerance_change=0.0)
    run(one, whole, 1)
    run(two, parts, 4)
    assert loss_of(two) < 2 * loss_of(one) + 1e-6


@each
def test_named_parameters_several_groups_types_and_shapes(make):
    model = net(torch.float32)
    model[2].double()

    def closure():
        x = torch.linspace(-1, 1, 24).view(6, 4)
        return (model[2](torch.tanh(model[0](x)).double()) - x.sum(dim=1, keepdim=True)).square().mean()

    groups = [{"params": list(model[0].named_parameters())}, {"params": list(model[2].named_parameters())}]
    optimizer, before = make(groups), closure().item()
    optimizer.step(closure)
    assert closure().item() < 0.1 * before
    assert [p.dtype for p in model.parameters()] == [torch.float32] * 2 + [torch.float64] * 2


@lines
def test_complex_parameters_count_as_two_real_ones(make):
    z = nn.Parameter(torch.tensor([1.0 + 2.0j, -1.0j], dtype=torch.complex128))
    target = torch.tensor([0.5 - 1.0j, 2.0 + 0.0j], dtype=torch.complex128)
    make([z], max_iter=50).step(lambda: ((z - target).abs() ** 2 * torch.tensor([1.0, 30.0])).sum())
    same(z.detach(), target, rtol=1e-5, atol=1e-5)


@each
def test_parameters_without_gradient_are_left_alone_weight_decay_included(make):
    unused, frozen, used = (nn.Parameter(torch.ones(3, dtype=torch.float64)) for _ in range(3))
    frozen.requires_grad_(False)
    optimizer = make([unused, frozen, used, nn.Parameter(torch.empty(0, dtype=torch.float64))], weight_decay=0.1)
    for _ in range(2):
        optimizer.step(lambda: ((used - 3) ** 2 * frozen).sum())
    same(unused.detach(), torch.ones(3, dtype=torch.float64))
    same(used.detach(), torch.full((3,), 6 / 2.1, dtype=torch.float64), rtol=1e-5, atol=1e-5)
    assert len(optimizer.state) == 1


@each
def test_an_empty_group_is_no_error_and_none_at_all_is_named(make):
    model = net()
    optimizer = make([{"params": []}, {"params": model.parameters()}])
    before = loss_of(model).item()
    optimizer.step(lambda: loss_of(model))
    assert loss_of(model).item() < before
    with nothing_to_step(make, "no parameter requires a gradient"):
        make([{"params": []}]).step(lambda: torch.zeros(()))


@each
def test_a_group_added_later_is_trained_too(make):
    model = net()
    optimizer = make(model[0].parameters())
    run(model, optimizer, 2)
    optimizer.add_param_group({"params": model[2].parameters()})
    before, bias = loss_of(model).item(), model[2].bias.item()
    run(model, optimizer, 2)
    assert loss_of(model).item() < before
    assert model[2].bias.item() != bias
    with pytest.raises(ValueError, match="Invalid weight_decay value: -1"):
        optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(1))], "weight_decay": -1})
    assert len(optimizer.param_groups) == 2


@each
def test_a_bare_step_says_what_is_missing_and_makes_state_for_checkpoints(make):
    from torch.distributed.checkpoint.state_dict import _init_optim_state

    model = net()
    optimizer = make(model.parameters())
    loss_of(model).backward()
    with pytest.raises(RuntimeError, match=r"call step\(closure\)"):
        optimizer.step()
    optimizer.zero_grad()
    before = [p.detach().clone() for p in model.parameters()]
    _init_optim_state(optimizer)
    same([p.detach() for p in model.parameters()], before)
    trained = make(net().parameters())
    run(net(), trained, 0)
    other = net()
    trained = make(other.parameters())
    run(other, trained, 1)
    first, second = (next(iter(o.state_dict()["state"].values())) for o in (optimizer, trained))
    assert {name: tuple(v.shape) for name, v in first.items()} == {name: tuple(v.shape) for name, v in second.items()}
    optimizer.load_state_dict(trained.state_dict())
    model.load_state_dict(other.state_dict())
    same(run(model, optimizer), run(other, trained))


@each
def test_what_is_no_objective_is_refused_and_the_parameters_stay(make):
    model = net()
    optimizer = make(model.parameters())
    before = [p.detach().clone() for p in model.parameters()]
    for closure, match in (
        (lambda: None, "does not return a scalar"),
        (lambda: model(torch.ones(2, 4, dtype=torch.float64)), "does not return a scalar"),
        (lambda: loss_of(model) * math.nan, "the loss is nan where the step begins"),
        (lambda: loss_of(model) * math.inf, "the loss is inf where the step begins"),
    ):
        with pytest.raises(ValueError, match=match):
            optimizer.step(closure)
        same([p.detach() for p in model.parameters()], before)
    for closure, match in (
        (lambda: loss_of(model).detach(), "without a gradient"),
        (lambda: loss_of(net()), "depends on none of the"),
    ):
        with nothing_to_step(make, match):
            optimizer.step(closure)
        same([p.detach() for p in model.parameters()], before)
    run(model, optimizer)
    assert loss_of(model) < 0.01


def test_sparse_gradients_are_refused():
    embedding = nn.Embedding(5, 2, sparse=True)
    with pytest.raises(ValueError, match="sparse gradients are not supported"):
        optim.LBFGS(embedding.parameters()).step(lambda: embedding(torch.tensor([1, 2])).square().sum())


@each
@pytest.mark.parametrize("error", [RuntimeError("out of memory"), KeyboardInterrupt()])
def test_an_error_in_the_closure_leaves_the_last_good_point(make, error):
    model, calls = net(), []

    def closure():
        calls.append(1)
        if len(calls) == 9:
            raise error
        return loss_of(model)

    before, optimizer = loss_of(model).item(), make(model.parameters())
    with pytest.raises(type(error)):
        optimizer.step(closure)
    assert loss_of(model).item() < before
    run(model, optimizer)
    assert loss_of(model).item() < 0.1 * before


@each
def test_values_that_are_not_finite_on_the_way_are_backed_off_from(make):
    w = nn.Parameter(torch.tensor([3.0], dtype=torch.float64))
    optimizer = make([w], max_eval=200, tolerance_grad=1e-9)
    for _ in range(3):
        optimizer.step(lambda: (100 * w - w.log()).sum())
    assert w.item() == pytest.approx(0.01, rel=1e-4)


def test_an_unguarded_step_into_nothing_leaves_the_last_good_point():
    w = nn.Parameter(torch.tensor([3.0], dtype=torch.float64))
    optimizer = optim.Newton([w], damping="fixed", max_iter=5)
    optimizer.step(lambda: (100 * w - w.log()).sum())  # Newton's step leaves the logarithm's domain
    assert w.item() == 3.0
    assert optimizer.report.ending == "not finite"


@each
def test_a_loss_that_changes_for_the_same_parameters_is_warned_of_once(make):
    model = nn.Sequential(net(), nn.Dropout(0.5))
    optimizer = make(model.parameters(), max_iter=2)
    with pytest.warns(RuntimeWarning, match="at the same parameters: .* Dropout"):
        optimizer.step(lambda: loss_of(model))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        optimizer.step(lambda: loss_of(model))
        model.eval()
        make(model.parameters()).step(lambda: loss_of(model))


@each
def test_a_minibatch_a_step_trains(make):
    torch.manual_seed(0)
    x = torch.randn(512, 4, dtype=torch.float64)
    y = x.sin().sum(dim=1, keepdim=True)
    model = net()
    optimizer = make(model.parameters(), max_iter=2, weight_decay=1e-4)
    before = (model(x) - y).square().mean().item()
    for step in range(24):
        rows = torch.arange(step % 4 * 128, step % 4 * 128 + 128)
        optimizer.step(lambda rows=rows: (model(x[rows]) - y[rows]).square().mean())
    assert (model(x) - y).square().mean().item() < 0.2 * before


def test_pairs_come_from_the_other_closure():
    w = nn.Parameter(torch.tensor([1.0, 2.0], dtype=torch.float64))
    curved = torch.tensor([3.0, 7.0], dtype=torch.float64)
    optimizer = optim.LBFGS([w], max_iter=1)
    before = w.detach().clone()
    optimizer.step(lambda: (w**2).sum(), pair=lambda: 0.5 * (curved * w**2).sum())
    state, s = optimizer.state[w], w.detach() - before
    same(state["pairs"][0, 0], s, rtol=1e-12, atol=1e-14)
    same(state["pairs"][0, 1], curved * s, rtol=1e-12, atol=1e-14)
    assert optimizer.report.evaluations == state["func_evals"] >= 5
    assert optimizer.report.loss == (w**2).sum().item()
    with pytest.raises(TypeError, match="does not use pairs"):
        optim.Newton([w]).step(lambda: (w**2).sum(), pair=lambda: (w**2).sum())


@each
def test_the_loss_is_the_closures_own_also_under_a_large_penalty(make):
    w, v = nn.Parameter(torch.full((100,), 30.0)), nn.Parameter(torch.tensor(2.0))
    optimizer = make([w, v], max_iter=2, weight_decay=1e-2)

    def closure():
        return 1e-6 * (v - 1) ** 2 + 0 * w.sum()

    assert optimizer.step(closure).item() == optimizer.report.loss == closure().item() > 0


@each
def test_another_start_or_loss_is_measured_anew(make):
    one, two = net(), net()
    optimizer = make(one.parameters(), max_iter=50, max_eval=500)
    optimizer.step(lambda: 1e6 * loss_of(one))
    one.load_state_dict(two.state_dict())
    optimizer.step(lambda: 1e-3 * loss_of(one))
    assert optimizer.report.iterations > 1
    assert loss_of(one) < 0.2 * loss_of(two)


def test_another_optimizers_state_is_begun_anew():
    model = net()
    reference, tested = torch.optim.LBFGS(model.parameters()), optim.LBFGS(model.parameters())

    def closure():
        model.zero_grad()
        loss = loss_of(model)
        loss.backward()
        return loss

    reference.step(closure)
    tested.load_state_dict(reference.state_dict())
    before = loss_of(model).item()
    tested.step(closure)
    assert loss_of(model).item() <= before


def test_a_hessian_that_is_zero_is_named():
    w = nn.Parameter(torch.tensor([1.0, -2.0]))
    for damping in ("adaptive", "fixed"):
        optimizer = optim.Newton([w], damping=damping)
        optimizer.step(lambda: (3 * w).sum() + 0 * (w**2).sum())
        assert optimizer.report.ending == "singular"
        assert "damp it" in optimizer.report.message


def test_lbfgs_takes_torchs_arguments():
    tested, reference = inspect.signature(optim.LBFGS).parameters, inspect.signature(torch.optim.LBFGS).parameters
    assert list(reference) == list(tested)[: len(reference)]
    for name in ("lr", "max_iter", "max_eval", "tolerance_grad", "tolerance_change"):
        assert tested[name].default == reference[name].default
    w = nn.Parameter(torch.zeros(2))
    optim.LBFGS([w], 1, 20, 25, 1e-7, 1e-9, 100, None).step(lambda: ((w - 1) ** 2).sum())
    same(w.detach(), torch.ones(2), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda p: optim.LBFGS(p, lr=-1), "Invalid learning rate: -1"),
        (lambda p: optim.LBFGS(p, max_iter=0), "Invalid max_iter: 0: give a whole number"),
        (lambda p: optim.LBFGS(p, max_eval=1), "Invalid max_eval: 1: give a whole number of at least 2"),
        (lambda p: optim.LBFGS(p, max_iter=2.5), "Invalid max_iter: 2.5"),
        (lambda p: optim.LBFGS(p, history_size=2.5), "whole number"),
        (lambda p: optim.ConjugateGradient(p, restart_every=0), "restart_every must be a whole number of at least 1"),
        (lambda p: optim.LBFGS(p, tolerance_grad=math.nan), "Invalid tolerance_grad"),
        (lambda p: optim.LBFGS(p, history_size=0), "history_size must be a whole number of at least 1"),
        (lambda p: optim.LBFGS(p, damping=1.0), r"damping must be in \[0, 1\)"),
        (lambda p: optim.LBFGS(p, history_dtype=torch.int8), "floating-point type"),
        (lambda p: optim.LBFGS(p, line_search_fn="exact"), "Invalid line_search_fn: 'exact': choose strong_wolfe"),
        (lambda p: optim.LBFGS(p, lr=torch.ones(2)), "Tensor lr must be 1-element"),
        (lambda p: optim.ConjugateGradient(p, beta="polak"), "unknown beta 'polak'"),
        (lambda p: optim.Newton(p, damping="none"), "unknown damping 'none': choose fixed"),
        (lambda p: optim.Newton(p, alpha=-1.0), "alpha must be a finite number of at least 0"),
        (lambda p: optim.TruncatedNewton(p, curvature="fisher"), "unknown curvature 'fisher'"),
        (lambda p: optim.TruncatedNewton(p, globalization="none"), "unknown globalization 'none'"),
        (lambda p: optim.TruncatedNewton(p, warm_start=2.0), "warm_start 2.0"),
        (lambda p: optim.BFGS([]), "empty parameter list"),
    ],
)
def test_settings_out_of_their_range_are_refused(call, match):
    with pytest.raises(ValueError, match=match):
        call([nn.Parameter(torch.zeros(1))])


def test_settings_that_differ_between_groups_are_refused():
    one, two = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    optimizer = optim.LBFGS([{"params": [one], "lr": 0.1}, {"params": [two]}])
    with pytest.raises(ValueError, match="steps all groups together: lr is 0.1 in one group and 1.0 in another"):
        optimizer.step(lambda: (one - two - 1).square().sum())


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (optim.Newton, "the Hessian of 50,000 parameters in float32 takes 9.3 GiB"),
        (optim.BFGS, "the estimate of BFGS of 50,000 parameters in float32 takes 9.3 GiB"),
    ],
)
def test_matrices_too_large_are_refused_by_size_with_what_to_use_instead(make, match):
    w = nn.Parameter(torch.ones(50_000))
    with pytest.raises(ValueError, match=f"{match}.*L-BFGS"):
        make([w]).step(lambda: (w**2).sum())
    same(w.detach(), torch.ones(50_000))


def test_gauss_newton_is_exact_in_one_step_on_linear_least_squares():
    torch.manual_seed(0)
    x, y = torch.randn(30, 4, dtype=torch.float64), torch.randn(30, 1, dtype=torch.float64)
    model = nn.Linear(4, 1, bias=False).double()
    optimizer = optim.TruncatedNewton(model.parameters(), curvature="gauss_newton", damping=0.0)

    def closure():
        outputs = model(x)
        return (outputs - y).square().mean(), outputs

    for _ in range(3):
        optimizer.step(closure)
    same(model.weight.detach().T, torch.linalg.lstsq(x, y).solution, rtol=1e-5, atol=1e-6)
    with pytest.raises(NotAnObjective, match=r"let the closure return \(loss, outputs\)"):
        optimizer.step(lambda: loss_of(model))


def test_gauss_newton_goes_down_where_the_hessian_is_not_positive():
    model = net()
    optimizer = optim.TruncatedNewton(model.parameters(), curvature="gauss_newton", max_iter=10, weight_decay=1e-4)
    x = torch.linspace(-1, 1, 24, dtype=torch.float64).view(6, 4)

    def closure():
        outputs = model(x)
        return (outputs - x.sin().sum(dim=1, keepdim=True)).square().mean(), outputs

    before = loss_of(model).item()
    optimizer.step(closure)
    assert loss_of(model).item() < 0.05 * before


@pytest.mark.parametrize("warm_start", [0.0, 0.95])
def test_hessian_free_solves_the_damped_system(warm_start):
    """(B + λI) d = −g, against the dense matrix; what it predicts; and λ moves by 2/3 where that came true."""
    torch.manual_seed(2)
    a = torch.randn(6, 6, dtype=torch.float64)
    a, b = a @ a.T + torch.eye(6, dtype=torch.float64), torch.randn(6, dtype=torch.float64)
    objective = FunctionObjective(lambda x: 0.5 * x @ a @ x - b @ x)
    model, x = HessianFree(0.5, warm_start, progress=1e-14), torch.zeros(6, dtype=torch.float64)
    model.prepare(x)
    g = a @ x - b
    damping = 0.5 * (g @ a @ g) / (g @ g)
    for _ in range(3):
        at = objective.evaluate(x, curvature=True)
        d, predicted = model.step(x, at, gradient_share=1e-20)
        exact = torch.linalg.solve(a + damping * torch.eye(6, dtype=torch.float64), -at.gradient)
        same(d, exact, rtol=1e-7, atol=1e-9)
        after = objective.evaluate(x + d)
        assert predicted == pytest.approx((at.value - after.value).item(), rel=1e-7)
        model.judge(1.0, d)
        damping, x = damping * 2 / 3, x + d
        assert model.state()["damping"].item() == pytest.approx(damping.item(), rel=1e-12)


def test_gauss_newton_takes_named_outputs_and_says_where_its_matrix_is_zero():
    torch.manual_seed(0)
    model, x, y = nn.Linear(4, 3), torch.randn(9, 4), torch.arange(9) % 3

    def named():
        outputs = model(x)
        return nn.functional.cross_entropy(outputs, y), {"logits": outputs}

    def linear():
        logs = torch.log_softmax(model(x), dim=1)
        return nn.functional.nll_loss(logs, y), logs

    for closure, ending in ((named, "iterations"), (linear, "singular")):
        optimizer = optim.TruncatedNewton(model.parameters(), curvature="gauss_newton")
        optimizer.step(closure)
        assert optimizer.report.ending == ending


def test_newton_at_a_saddle():
    def end(**settings):
        w = nn.Parameter(torch.tensor([1.0, 0.1], dtype=torch.float64))
        optim.Newton([w], max_iter=50, **settings).step(lambda: w[0] ** 2 - w[1] ** 2 + w[1] ** 4)
        return w.detach()

    assert end(damping="fixed").abs().max() < 1e-6
    for others in ({"damping": "adaptive"}, {"damping": "saddle-free"}, {"damping": "fixed", "alpha": 3.0}):
        assert end(**others)[1].abs().item() == pytest.approx(0.5**0.5, rel=1e-3)


@settings(max_examples=15, deadline=None)
@example(seed=43, n=8, condition=734.4715967026438)  # values off by more than 50 units in the last place
@given(seed=st.integers(0, 10**6), n=st.integers(1, 12), condition=st.floats(1.0, 1e3))
def test_every_method_finds_the_minimum_of_a_convex_quadratic(seed, n, condition):
    g = torch.Generator().manual_seed(seed)
    q, _ = torch.linalg.qr(torch.randn(n, n, dtype=torch.float64, generator=g))
    a = q @ torch.diag(torch.logspace(0, math.log10(condition), n, dtype=torch.float64)) @ q.T
    b = torch.randn(n, dtype=torch.float64, generator=g)
    for make in MAKE.values():
        w = nn.Parameter(torch.zeros(n, dtype=torch.float64))
        optimizer = make([w], max_iter=200, max_eval=500, tolerance_grad=1e-8, tolerance_change=0.0)
        optimizer.step(lambda w=w: 0.5 * w @ a @ w - b @ w)
        # Values tell of gradients down to √(2 ε λ |f|), here 4e-7; below it is the slopes that are gone by.
        assert optimizer.report.gradient_norm <= 1e-7 * max(1.0, b.abs().max().item()), optimizer


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@each
def test_on_cuda_as_on_the_cpu(make):
    """Of a loss with weight decay: without it the Hessian is singular, and |H|⁻¹ makes rounding errors large."""

    def end(device):
        model = net().to(device)
        x = torch.linspace(-1, 1, 24, dtype=torch.float64, device=device).view(6, 4)

        def loss():
            decay = 0.1 * sum(p.square().sum() for p in model.parameters())
            return (model(x) - x.sin().sum(dim=1, keepdim=True)).square().mean() + decay

        return [p.cpu() for p in run(model, make(model.parameters(), max_iter=3), 1, loss)]

    same(end("cuda"), end("cpu"), rtol=1e-6, atol=1e-8)


@each
def test_each_steps_end_is_averaged(make):
    model = net()
    average = Average(model, Polyak())
    optimizer = make(model.parameters(), max_iter=2, average=average)
    ends = torch.stack([torch.cat([p.flatten() for p in run(model, optimizer, 1)]) for _ in range(4)])
    mean = torch.cat([m.flatten() for m in average.means.values()])
    torch.testing.assert_close(mean, ends.mean(0))
    with average.applied(), pytest.raises(RuntimeError, match=r"step\(\) was called within applied"):
        optimizer.step(lambda: loss_of(model))


def test_the_former_name_of_globalization_works_with_a_warning():
    p = [torch.nn.Parameter(torch.ones(2))]
    with pytest.warns(DeprecationWarning, match="the option 'leash' is now called 'globalization'"):
        old = optim.TruncatedNewton(p, leash="trust_region")
    assert old.param_groups[0]["globalization"] == "trust_region"
    saved = old.state_dict()
    for group in saved["param_groups"]:
        group["leash"] = group.pop("globalization")  # as a former release saved it
    new = optim.TruncatedNewton(p)
    new.load_state_dict(saved)
    assert new.param_groups[0]["globalization"] == "trust_region"
    with pytest.raises(TypeError, match="unexpected keyword argument 'leach'"):
        optim.TruncatedNewton(p, leach="trust_region")
