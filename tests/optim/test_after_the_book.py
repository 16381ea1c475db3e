"""Methods that came after the book as torch optimizers: each steps as its rule in lanes, and honours what others do.

They have a table of their own, with small cases, so that many methods cost little.
"""

import copy
import io
from functools import partial

import pytest
import torch
from torch import nn

from thalweg import optim
from thalweg.averaging import EMA, Average
from thalweg.compare.execution.kernels import rows_reduced, slots_of, update_kernel
from thalweg.optim.decay import is_weight
from thalweg.optim.kernel.source import can_write
from thalweg.rules import RULES, Partnered, scalars_of_step, switched
from thalweg.tensors import Layout

OPTIMIZERS = {
    "Lion": partial(optim.Lion, lr=0.01),
    "ScheduleFreeSGD": partial(optim.ScheduleFreeSGD, lr=0.1, warmup_steps=3),
    "ScheduleFreeAdamW": partial(optim.ScheduleFreeAdamW, lr=0.02, warmup_steps=3),
    "AdEMAMix": partial(optim.AdEMAMix, lr=0.01, alpha_warmup=5, beta3_warmup=7),
    "Adan": partial(optim.Adan, lr=0.01),
    "LAMB": partial(optim.LAMB, lr=0.02),
    "LARS": partial(optim.LARS, lr=10.0),
    "Prodigy": partial(optim.Prodigy, d0=1e-2),
    "AdamW, MARS, cautious": partial(optim.AdamW, lr=0.01, mars_gamma=0.025, cautious=True),
    "momentum, Lookahead": partial(optim.SGD, lr=0.02, momentum=0.9, lookahead_steps=2),
}
each = pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)


def net(dtype=torch.float64):
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 1)).to(dtype)


def loss_of(model):
    x = torch.linspace(-1, 1, 24).view(6, 4).to(next(model.parameters()).dtype)
    return (model(x) - x.sum(dim=1, keepdim=True)).square().mean()


def gradient(model, optimizer):
    optimizer.zero_grad()
    loss = loss_of(model)
    loss.backward()
    return loss


def run(model, optimizer, steps=4):
    for _ in range(steps):
        optimizer.step(partial(gradient, model, optimizer))
    return [p.detach().clone() for p in model.parameters()]


def same(a, b, **tolerance):
    torch.testing.assert_close(a, b, **tolerance or {"rtol": 0, "atol": 0})


CLOSE = {"rtol": 1e-10, "atol": 1e-12}


@each
@pytest.mark.parametrize("decay", ["all", "weights"])
def test_an_optimizer_steps_as_lanes_do(make, decay):
    model, twin = net(), net()
    layout = Layout.of_model(twin)
    optimizer = make(model.parameters(), weight_decay=0.1, decay=decay)
    rule, hyper = optimizer.form_of(optimizer.param_groups[0]), optimizer.hyper_of(optimizer.param_groups[0])
    named = dict(twin.named_parameters())
    decayed = {n: torch.full_like(p, decay == "all" or is_weight(p)).detach() for n, p in named.items()}
    flat = layout.flatten({n: p.detach() for n, p in named.items()})[None]
    buffers, scalars = [slot.begun(flat) for slot in slots_of(rule, False).values()], dict(rule.scalar_state)
    for t in range(1, 13):
        for name, value in layout.unflatten(flat[0]).items():
            named[name].data = value
        grads = torch.autograd.grad(loss_of(twin), named.values())
        c, scalars = scalars_of_step(rule, hyper, t, scalars)
        kernel = update_kernel(rule, list(c), layout.flatten(decayed), layout, compile_=False)
        row = torch.tensor([list(c.values())], dtype=torch.float64)
        kernel(flat, layout.flatten(dict(zip(named, grads, strict=True)))[None], buffers, row)
        run(model, optimizer, 1)
        same(
            list(model.parameters()), [v.clone() for v in layout.unflatten(flat[0]).values()], check_dtype=True, **CLOSE
        )
    assert rows_reduced(layout, flat.device) is not None


@each
def test_it_lowers_the_loss_where_it_is_evaluated(make):
    model = net()
    before = loss_of(model).item()
    optimizer = make(model.parameters())
    run(model, optimizer, 60)
    optimizer.eval()
    assert loss_of(model).item() < 0.8 * before


@each
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_a_run_that_is_resumed_from_a_file_goes_on_bit_for_bit(make, dtype, mode):
    model = net(dtype)
    optimizer = make(model.parameters(), weight_decay=0.1)
    run(model, optimizer)
    getattr(optimizer, mode)()
    file = io.BytesIO()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, file)
    file.seek(0)
    held, other = torch.load(file, weights_only=True), net(dtype)
    fresh = make(other.parameters(), weight_decay=0.1)
    other.load_state_dict(held["model"]), fresh.load_state_dict(held["optimizer"])
    copied, copy_ = copy.deepcopy((model, optimizer))
    for one in (optimizer, fresh, copy_):
        one.train()
    expected = run(model, optimizer)
    same(run(other, fresh), expected)
    same(run(copied, copy_), expected)


@each
def test_looking_at_what_is_evaluated_changes_nothing_of_the_training(make):
    one, two = net(torch.bfloat16), net(torch.bfloat16)
    a, b = make(one.parameters()), make(two.parameters())
    for _ in range(5):
        run(one, a, 1), run(two, b, 1)
        a.eval(), a.eval()
        if a.form_of(a.param_groups[0]).shown:
            with pytest.raises(RuntimeError, match=r"call .*\.train\(\) before the forward pass"):
                a.step()
        a.train(), a.train()
    same(list(one.parameters()), list(two.parameters()))


@each
def test_a_state_that_is_made_with_no_gradient_and_no_learning_rate_moves_nothing(make):
    """As torch.distributed.checkpoint makes it."""
    model = net()
    optimizer = make(model.parameters(), lr=0.0)
    before = [p.detach().clone() for p in model.parameters()]
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    same([p.detach() for p in model.parameters()], before)
    assert all(optimizer.state[p] for p in model.parameters())


@each
def test_odd_shapes_and_missing_gradients_are_stepped_or_left(make):
    params = [nn.Parameter(torch.ones(shape, dtype=torch.float64)) for shape in ((), (0, 3), (2,), (3,))]
    for p in params[:3]:
        p.grad = torch.full_like(p, 0.5)
    optimizer = make(params, weight_decay=0.1, maximize=True)
    optimizer.step()
    optimizer.step()
    assert params[0].item() > 1 or params[0].item() < 1
    assert params[0].dtype == torch.float64
    same(params[3].detach(), torch.ones(3, dtype=torch.float64))
    assert params[3] not in optimizer.state


@each
def test_maximize_ascends(make):
    one, two = net(), net()
    up, down = make(one.parameters(), maximize=True), make(two.parameters())
    for _ in range(3):
        up.zero_grad(), down.zero_grad()
        (-loss_of(one)).backward(), loss_of(two).backward()
        up.step(), down.step()
    same(list(one.parameters()), list(two.parameters()))


@each
def test_complex_numbers_step_as_pairs(make):
    torch.manual_seed(2)
    z = nn.Parameter(torch.randn(3, 4, dtype=torch.complex128))
    pair = nn.Parameter(torch.view_as_real(z.detach()).clone())
    a, b = make([z], weight_decay=0.1), make([pair], weight_decay=0.1)
    for _ in range(3):
        z.grad = torch.randn(3, 4, dtype=z.dtype)
        pair.grad = torch.view_as_real(z.grad).clone()
        a.step(), b.step()
    same(torch.view_as_real(z.detach()), pair.detach(), **CLOSE)


@each
def test_sparse_gradients_are_refused_in_a_line(make):
    embedding = nn.Embedding(4, 2, sparse=True)
    optimizer = make(embedding.parameters())
    embedding(torch.tensor([1])).sum().backward()
    with pytest.raises(RuntimeError, match="does not support sparse gradients") as raised:
        optimizer.step()
    assert "\n" not in str(raised.value)


@each
def test_every_way_to_step_is_the_same(make):
    """Counted on the device, by two groups, with an average, with a norm."""
    average = {}

    def groups(model):
        return [{"params": model[0].parameters()}, {"params": model[2].parameters()}]

    def averaged(model):
        average["of"] = Average(model, EMA(0.9))
        return make(model.parameters(), weight_decay=0.1, average=average["of"])

    ways = [
        lambda m: make(m.parameters(), weight_decay=0.1),
        lambda m: make(m.parameters(), weight_decay=0.1, capturable=True),
        lambda m: make(groups(m), weight_decay=0.1),
        lambda m: make(m.named_parameters(), weight_decay=0.1, clip_norm=1e6, skip_nonfinite=True),
        averaged,
    ]
    results = []
    for way in ways:
        model = net()
        optimizer = way(model)
        for _ in range(4):
            loss_of(model).backward()
            optimizer.step()
            optimizer.zero_grad()
        results.append([p.detach() for p in model.parameters()])
    for other in results[1:]:
        same(other, results[0], **CLOSE)
    assert average["of"].step == 4


@each
def test_gradients_flow_through_a_step(make):
    """The derivative of parameters after two steps by those before is that of finite differences."""

    def after(start):
        p = start.clone()
        optimizer = make([p], differentiable=True)
        for _ in range(2):
            p.grad = 2 * p.clone().sin() + 0.3  # smooth, and away from 0
            optimizer.step()
        return p

    start = torch.tensor([0.4, 1.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(after, (start,), eps=1e-6, atol=1e-5)


@each
def test_a_scaler_unscales_and_skips(make):
    one, two = net(torch.float32), net(torch.float32)
    optimizer, plain = make(one.parameters()), make(two.parameters())
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for factor in (1.0, float("inf"), 1.0):
        optimizer.zero_grad()
        scaler.scale(loss_of(one) * factor).backward()
        scaler.step(optimizer)
        scaler.update()
    run(two, plain, 2)
    same(list(one.parameters()), list(two.parameters()), rtol=1e-5, atol=1e-6)


@each
def test_the_learning_rate_may_be_a_tensor_and_follows_a_scheduler(make):
    one, two = net(), net()
    lr = make(one.parameters()).param_groups[0]["lr"]
    a, b = make(one.parameters(), lr=torch.tensor(lr, dtype=torch.float64)), make(two.parameters())
    schedulers = [torch.optim.lr_scheduler.StepLR(o, 2, 0.5) for o in (a, b)]
    for _ in range(4):
        run(one, a, 1), run(two, b, 1)
        for scheduler in schedulers:
            scheduler.step()
    same(list(one.parameters()), list(two.parameters()), **CLOSE)
    assert float(a.param_groups[0]["lr"]) == lr / 4


def test_rules_that_kernels_cannot_write_are_told_from_others():
    """Those that sum, and those that call what kernels do not have, are stepped list by list."""
    of_tensors = {name for name, rule in RULES.items() if not isinstance(rule, Partnered)}
    written = {name for name in of_tensors if can_write(RULES[name])}
    assert of_tensors - written == {"lamb", "lars", "prodigy"}
    assert can_write(switched_by_name("momentum+lookahead"))
    assert not any(can_write(rule.matrix) for rule in RULES.values() if isinstance(rule, Partnered))
    assert not can_write(switched_by_name("adamw+cautious"))


def switched_by_name(name):
    rule, *words = name.split("+")
    return switched(RULES[rule], words)


def test_sam_takes_two_gradients_of_the_closure_a_step():
    one, two = net(), net()
    ours = optim.SGD(one.parameters(), lr=0.05, momentum=0.9, weight_decay=0.1, sam_rho=0.1)
    plain = torch.optim.SGD(two.parameters(), lr=0.05, momentum=0.9, weight_decay=0.1)
    calls = []
    for _ in range(4):
        loss = ours.step(lambda: (calls.append(0), gradient(one, ours))[1])
        same(loss, gradient(two, plain), **CLOSE)
        norm = torch.cat([p.grad.flatten() for p in two.parameters()]).norm()
        uphill = [0.1 * p.grad / norm for p in two.parameters()]
        with torch.no_grad():
            for p, e in zip(two.parameters(), uphill, strict=True):
                p += e
        gradient(two, plain)
        with torch.no_grad():
            for p, e in zip(two.parameters(), uphill, strict=True):
                p -= e
        plain.step()
        same(list(one.parameters()), list(two.parameters()), **CLOSE)
    assert len(calls) == 8
    with pytest.raises(RuntimeError, match=r"evaluates 2 gradients a step: give step\(\) a closure"):
        ours.step()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda p: optim.LAMB(p, cautious=True), "cautious does not go around lamb"),
        (lambda p: optim.ScheduleFreeSGD(p, lookahead_steps=5), "lookahead does not go around schedule-free-sgd"),
        (lambda p: optim.Adagrad(p, mars_gamma=0.1), "mars does not go around adagrad, which has no momentum"),
        (lambda p: optim.AdamW(p, mars_gamma=-1.0), "Invalid mars_gamma value: -1.0"),
        (lambda p: optim.AdamW(p, lookahead_steps=2.5), "Invalid lookahead_steps value: 2.5: give a whole number"),
        (lambda p: optim.AdamW(p, lookahead_alpha=0.5), "lookahead_alpha has no effect without lookahead_steps"),
        (lambda p: optim.AdamW(p, sam_rho=0.1, skip_nonfinite=True), "sam_rho does not support skip_nonfinite"),
        (lambda p: optim.AdamW(p, sam_rho=0.1, lookahead_steps=5), "sam does not go around adamw.lookahead"),
        (lambda p: optim.Adan(p, betas=(0.9, 0.99)), "give three numbers"),
        (lambda p: optim.Prodigy(p, d0=-1.0), "Invalid d0 value"),
    ],
)
def test_what_does_not_go_together_is_refused_where_it_is_given(make, words):
    with pytest.raises(ValueError, match=words) as raised:
        make([nn.Parameter(torch.ones(2))])
    assert "\n" not in str(raised.value)


def test_prodigy_estimates_one_distance_for_all_groups_and_types_at_once():
    """Two groups, one of them without decay, and one parameter that joins late."""
    one, two = net(), net()
    whole = optim.Prodigy(one.parameters(), d0=1e-3, weight_decay=0.0)
    parts = optim.Prodigy([{"params": two[0].parameters()}, {"params": two[2].parameters()}], d0=1e-3)
    for _ in range(10):
        run(one, whole, 1), run(two, parts, 1)
    same(list(one.parameters()), list(two.parameters()), **CLOSE)
    assert whole.d == parts.d > 1e-3
    late = nn.Parameter(torch.ones(2, dtype=torch.float64))
    parts.add_param_group({"params": [late]})
    late.grad = torch.full_like(late, 0.5)
    run_before = parts.d
    parts.step()
    assert parts.d >= run_before
