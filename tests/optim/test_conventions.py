"""What a torch optimizer must honour, for every optimizer here."""

import copy
import io
import pickle
import warnings
from functools import partial

import pytest
import torch
from torch import nn

from thalweg import optim

OPTIMIZERS = {
    "SGD": lambda p, **o: optim.SGD(p, **{"lr": 0.05, **o}),
    "momentum": lambda p, **o: optim.SGD(p, **{"lr": 0.05, "momentum": 0.9, **o}),
    "Nesterov": lambda p, **o: optim.SGD(p, **{"lr": 0.05, "momentum": 0.9, "nesterov": True, **o}),
    "AdaGrad": optim.AdaGrad,
    "Adadelta": optim.Adadelta,
    "RMSProp": optim.RMSProp,
    "RMSProp Nesterov": lambda p, **o: optim.RMSProp(p, **{"momentum": 0.9, "nesterov": True, "centered": True, **o}),
    "Adam": optim.Adam,
    "Adam uncorrected": lambda p, **o: optim.Adam(p, **{"bias_correction": False, **o}),
    "AMSGrad": lambda p, **o: optim.Adam(p, **{"amsgrad": True, **o}),
    "AdamW": optim.AdamW,
    "NAdam": optim.NAdam,
}
each = pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
# A rule takes seconds to compile: of those whose text is a part of another's, that other one stands for both.
COMPILED = ("SGD", "Nesterov", "AdaGrad", "Adadelta", "RMSProp Nesterov", "AMSGrad", "AdamW", "NAdam")
each_compiled = pytest.mark.parametrize("make", [OPTIMIZERS[name] for name in COMPILED], ids=COMPILED)


def net(dtype=torch.float32):
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1)).to(dtype)


def loss_of(model):
    x = torch.linspace(-1, 1, 24).view(6, 4).to(next(model.parameters()).dtype)
    return (model(x) - x.sum(dim=1, keepdim=True)).square().mean()


def run(model, optimizer, steps=5):
    for _ in range(steps):
        optimizer.zero_grad()
        loss_of(model).backward()
        optimizer.step()
    return [p.detach().clone() for p in model.parameters()]


def same(a, b, **tolerance):
    torch.testing.assert_close(a, b, **tolerance or {"rtol": 0, "atol": 0})


@each
def test_it_lowers_the_loss(make):
    model = net()
    before = loss_of(model).item()
    run(model, make(model.parameters()), 50)
    assert loss_of(model).item() < before


@each
def test_hyperparameters_are_read_from_the_group_at_each_step(make):
    model = net()
    optimizer = make(model.parameters())
    run(model, optimizer)
    before = [p.detach().clone() for p in model.parameters()]
    optimizer.param_groups[0]["lr"] = 0.0
    same(run(model, optimizer), before)


@each
def test_schedulers_work(make):
    model = net()
    optimizer = make(model.parameters())
    first = optimizer.param_groups[0]["lr"]
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    run(model, optimizer, 1)
    scheduler.step()
    assert optimizer.param_groups[0]["lr"] == first / 2
    one_cycle = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0)
    one_cycle.step(1.0)
    one_cycle.step(2.0)
    assert optimizer.param_groups[0]["lr"] < first / 2


@each
@pytest.mark.parametrize("shape", [(), (1,)])
def test_lr_may_be_a_tensor(make, shape):
    one, two = net(torch.float64), net(torch.float64)
    a = run(one, make(one.parameters(), lr=torch.full(shape, 0.01, dtype=torch.float64)))
    same(a, run(two, make(two.parameters(), lr=0.01)), rtol=1e-9, atol=1e-12)


@each
def test_named_parameters_and_groups_are_accepted(make):
    one, two = net(), net()
    a = run(one, make(one.named_parameters()))
    optimizer = make([{"params": two[0].parameters()}, {"params": list(two[2].parameters())}])
    same(a, run(two, optimizer))


@each
def test_groups_have_their_own_settings(make):
    model = net()
    optimizer = make([{"params": model[0].parameters(), "lr": 0.0}, {"params": model[2].parameters()}])
    before = [p.detach().clone() for p in model[0].parameters()]
    run(model, optimizer)
    same([p.detach() for p in model[0].parameters()], before)


@each
def test_a_group_can_be_added_and_a_bad_one_is_refused_whole(make):
    model = net()
    optimizer = make(model[0].parameters())
    run(model, optimizer, 2)
    optimizer.add_param_group({"params": model[2].parameters()})
    run(model, optimizer, 2)
    with pytest.raises(ValueError, match="Invalid learning rate: -1"):
        optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(1))], "lr": -1})
    assert len(optimizer.param_groups) == 2


@each
def test_a_closure_is_evaluated_with_gradients_and_its_loss_returned(make):
    model = net()
    optimizer = make(model.parameters())

    def closure():
        assert torch.is_grad_enabled()
        optimizer.zero_grad()
        loss = loss_of(model)
        loss.backward()
        return loss

    expected = loss_of(model)
    same(optimizer.step(closure).detach(), expected.detach())
    assert optimizer.step() is None
    assert not loss_of(model).isnan()


@each
def test_parameters_without_gradient_are_left_alone_weight_decay_included(make):
    idle, busy = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
    optimizer = make([idle, busy], weight_decay=0.1)
    busy.square().sum().backward()
    optimizer.step()
    same(idle.detach(), torch.ones(3))
    assert idle not in optimizer.state
    assert not torch.equal(busy.detach(), torch.ones(3))


@each
def test_state_is_lazy_shaped_like_its_parameter_and_keeps_the_memory_format(make):
    p = nn.Parameter(torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last))
    optimizer = make([p])
    assert not optimizer.state
    p.grad = torch.randn_like(p)
    optimizer.step()
    for name, value in optimizer.state[p].items():
        if name not in ("step", "mu_product"):
            assert value.shape == p.shape
            assert value.is_contiguous(memory_format=torch.channels_last)


@each
def test_a_step_with_zero_gradient_and_zero_lr_creates_all_state_and_changes_nothing(make):
    """How torch.distributed.checkpoint brings state into being before it loads."""
    model = net()
    before = [p.detach().clone() for p in model.parameters()]
    optimizer = make(model.parameters())
    lrs = [group["lr"] for group in optimizer.param_groups]
    for group in optimizer.param_groups:
        group["lr"] = torch.tensor(0.0) if isinstance(group["lr"], torch.Tensor) else 0.0
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    same([p.detach() for p in model.parameters()], before)
    names = {frozenset(optimizer.state[p]) for p in model.parameters()}
    for group, lr in zip(optimizer.param_groups, lrs, strict=True):
        group["lr"] = lr
    run(model, optimizer)
    assert {frozenset(optimizer.state[p]) for p in model.parameters()} == names


@each
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_resuming_is_bit_for_bit_through_a_weights_only_file(make, dtype):
    model = net(dtype)
    optimizer = make(model.parameters(), weight_decay=0.01)
    run(model, optimizer)
    file = io.BytesIO()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, file)
    expected = run(model, optimizer)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    again = net(dtype)
    again.load_state_dict(saved["model"])
    resumed = make(again.parameters())
    resumed.load_state_dict(saved["optimizer"])
    same(run(again, resumed), expected)


@each
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_state_of_half_precision_parameters_is_float32(make, dtype):
    model = net(dtype)
    optimizer = make(model.parameters())
    run(model, optimizer)
    for state in optimizer.state.values():
        for name, value in state.items():
            if name not in ("step", "mu_product"):
                assert value.dtype == torch.float32
    assert all(p.dtype == dtype and p.isfinite().all() for p in model.parameters())


def test_float32_state_matters_in_bfloat16():
    """In bfloat16, 0.999·r + 0.001·g² does not move: the second moment would never grow past its first steps."""
    p = nn.Parameter(torch.zeros(1, dtype=torch.bfloat16))
    optimizer = optim.Adam([p])
    for _ in range(2000):
        p.grad = torch.ones_like(p)
        optimizer.step()
    assert optimizer.state[p]["exp_avg_sq"].item() == pytest.approx(1 - 0.999**2000, rel=1e-3)
    reference = torch.optim.Adam([q := nn.Parameter(torch.zeros(1, dtype=torch.bfloat16))])
    for _ in range(2000):
        q.grad = torch.ones_like(q)
        reference.step()
    assert reference.state[q]["exp_avg_sq"].item() <= 0.5  # of 0.86


@each
def test_old_states_that_lack_keys_are_filled(make):
    model = net()
    optimizer = make(model.parameters())
    run(model, optimizer)
    state = optimizer.state_dict()
    for group in state["param_groups"]:
        del group["engine"], group["maximize"]
    fresh = make(model.parameters())
    fresh.load_state_dict(state)
    run(model, fresh)
    assert fresh.param_groups[0]["engine"] == "auto"


@each
def test_deepcopy_and_pickle_go_on_alike(make):
    model = net()
    optimizer = make(model.parameters())
    run(model, optimizer)
    copied, (pickled_model, pickled) = copy.deepcopy((model, optimizer)), pickle.loads(pickle.dumps((model, optimizer)))
    expected = run(model, optimizer)
    same(run(*copied), expected)
    same(run(pickled_model, pickled), expected)


@each
def test_step_hooks_run(make):
    model, seen = net(), []
    optimizer = make(model.parameters())
    optimizer.register_step_pre_hook(lambda *_: seen.append("before"))
    optimizer.register_step_post_hook(lambda *_: seen.append("after"))
    run(model, optimizer, 1)
    assert seen == ["before", "after"]


@each
def test_it_can_step_from_a_post_accumulate_gradient_hook(make):
    one, two = net(), net()
    singles = {p: make([p]) for p in one.parameters()}

    def step(p):
        singles[p].step()
        singles[p].zero_grad()

    for p in one.parameters():
        p.register_post_accumulate_grad_hook(step)
    loss_of(one).backward()
    same([p.detach() for p in one.parameters()], run(two, make(two.parameters()), 1))


@each
def test_maximize_ascends_as_if_the_gradient_were_turned(make):
    one, two = net(), net()
    up = make(one.parameters(), maximize=True)
    down = make(two.parameters())
    for _ in range(3):
        up.zero_grad(), down.zero_grad()
        (-loss_of(one)).backward()
        loss_of(two).backward()
        up.step(), down.step()
    same([p.detach() for p in one.parameters()], [p.detach() for p in two.parameters()])


@each_compiled
def test_compiled_steps_of_complex_parameters_are_those_of_pairs_of_real_ones(make):
    torch.manual_seed(2)
    z = nn.Parameter(torch.randn(150, 120, dtype=torch.complex64))
    pair = nn.Parameter(torch.view_as_real(z.detach()).clone())
    a, b = (make([p], engine="compiled", weight_decay=0.1) for p in (z, pair))
    for i in range(3):
        z.grad = torch.randn(z.shape, dtype=z.dtype, generator=torch.Generator().manual_seed(i))
        pair.grad = torch.view_as_real(z.grad).clone()
        a.step(), b.step()
    same(torch.view_as_real(z.detach()), pair.detach(), rtol=1e-6, atol=1e-7)


@each
def test_grad_scaler_unscales_and_skips_steps_that_overflow(make):
    one, two = net(), net()
    optimizer, plain = make(one.parameters()), make(two.parameters())
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    scaler.scale(loss_of(one)).backward()
    scaler.step(optimizer)
    scaler.update()
    same([p.detach() for p in one.parameters()], run(two, plain, 1), rtol=1e-5, atol=1e-6)
    before = [p.detach().clone() for p in one.parameters()]
    optimizer.zero_grad()
    scaler.scale(loss_of(one) * float("inf")).backward()
    scaler.step(optimizer)
    scaler.update()
    same([p.detach() for p in one.parameters()], before)


@each_compiled
def test_engines_agree(make):
    torch.manual_seed(3)
    start = torch.randn(200, 150)
    results = []
    for engine in ("foreach", "compiled", "auto"):
        big, small = nn.Parameter(start.clone()), nn.Parameter(torch.ones(3))
        optimizer = make([big, small], engine=engine, weight_decay=0.01)
        for i in range(10):
            big.grad = torch.randn(big.shape, generator=torch.Generator().manual_seed(i))
            small.grad = torch.full((3,), 0.5)
            optimizer.step()
        results.append([big.detach(), small.detach()])
    for other in results[1:]:
        same(results[0], other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "make",
    [
        partial(optim.SGD, lr=0.1, weight_decay=0.1),
        partial(optim.SGD, lr=0.1, momentum=0.9, dampening=0.3, weight_decay=0.1, maximize=True),
        partial(optim.SGD, lr=0.1, momentum=0.9, nesterov=True),
        partial(optim.AdaGrad, lr=0.1, lr_decay=0.1, weight_decay=0.1, initial_accumulator_value=0.2),
        partial(optim.Adam, lr=0.1, weight_decay=0.1, amsgrad=True),
        partial(optim.AdamW, lr=0.1, weight_decay=0.1),
    ],
)
def test_torchs_fused_kernels_take_the_rules_steps(make, dtype, fused_steps):
    draws, results = torch.Generator().manual_seed(0), []
    starts = [torch.randn(shape, generator=draws, dtype=dtype) for shape in ((7, 5), (4,), (2, 3, 4, 5))]
    starts[2] = starts[2].to(memory_format=torch.channels_last)
    grads = [[torch.randn(p.shape, generator=draws, dtype=dtype) for p in starts] for _ in range(20)]
    for engine in ("foreach", "auto"):
        params = [nn.Parameter(start.clone()) for start in starts]
        optimizer = make(params, engine=engine)
        for i, some in enumerate(grads):
            for p, grad in zip(params, some, strict=True):
                p.grad = torch.empty_like(p).copy_(grad)
            optimizer.step()
            if i == 10:
                state = copy.deepcopy(optimizer.state_dict())
                optimizer = make(params, engine=engine)
                optimizer.load_state_dict(state)
        results.append([p.detach() for p in params])
    assert fused_steps == [True] * len(fused_steps)
    assert len(fused_steps) >= 20
    same(*results, **({"rtol": 1e-5, "atol": 1e-6} if dtype == torch.float32 else {"rtol": 1e-13, "atol": 1e-14}))


@pytest.mark.parametrize(
    ("make", "dtype"),
    [
        (partial(optim.Adam, clip_norm=1.0), torch.float32),
        (partial(optim.Adam, engine="foreach"), torch.float32),
        (partial(optim.Adam, bias_correction=False), torch.float32),
        (partial(optim.Adam, lr=torch.tensor(0.1)), torch.float32),
        (partial(optim.Adam, lr=0.1), torch.bfloat16),
        (optim.RMSProp, torch.float32),
        (optim.Adadelta, torch.float32),
        (optim.NAdam, torch.float32),
    ],
)
def test_other_steps_are_left_to_the_rule(make, dtype, fused_steps):
    p = nn.Parameter(torch.ones(5, dtype=dtype))
    p.grad = torch.ones_like(p)
    make([p]).step()
    assert not any(fused_steps)
    assert p.lt(1).all()


@pytest.fixture
def fused_steps(monkeypatch):
    """What asking for torch's fused kernels came to, each time."""
    from thalweg.optim import group as module

    found, inner = [], module.step_fused
    monkeypatch.setattr(module, "step_fused", lambda *given: found.append(inner(*given)) or found[-1])
    return found


def test_compiled_steps_equal_foreach_for_many_tensors_of_equal_and_other_sizes():
    draws = torch.Generator().manual_seed(0)
    shapes = [(150, 120)] * 10 + [(3, 5)] + [(20_000,)] * 2 + [(120, 150)] * 7
    a, b = ([nn.Parameter(torch.ones(shape)) for shape in shapes] for _ in range(2))
    one, two = (optim.AdamW(params, engine=engine) for params, engine in ((a, "compiled"), (b, "foreach")))
    for _ in range(3):
        for p, q in zip(a, b, strict=True):
            p.grad = torch.randn(p.shape, generator=draws)
            q.grad = p.grad.clone()
        one.step(), two.step()
    same([p.detach() for p in a], [q.detach() for q in b], rtol=1e-5, atol=1e-6)


@each
def test_steps_in_portions_are_the_same_bit_for_bit(make, monkeypatch):
    from thalweg.averaging import EMA, Average
    from thalweg.optim import implementations as module

    draws = torch.Generator().manual_seed(0)
    starts = [
        torch.randn(11, 13, generator=draws),
        torch.randn(3, generator=draws),
        torch.randn(30, generator=draws).bfloat16(),
        torch.randn(8, 5, generator=draws, dtype=torch.complex64),
        torch.randn(60, generator=draws)[::2],
        torch.randn(2, 3, 4, 5, generator=draws).to(memory_format=torch.channels_last),
    ]
    grads = [[torch.randn(p.shape, dtype=p.dtype, generator=draws) for p in starts] for _ in range(4)]
    results, portions, inner = [], [0, 0], module._update_foreach
    for which, block in enumerate(((10**9, 10**9), (7, 40))):

        def counted(*arguments, which=which):
            portions[which] += 1
            inner(*arguments)

        monkeypatch.setattr(module, "_update_foreach", counted)
        monkeypatch.setattr(module, "BLOCK", block)
        model = nn.ParameterList([nn.Parameter(start.clone()) for start in starts])
        params, average = list(model), Average(model, EMA(0.7))
        optimizer = make(params, engine="foreach", weight_decay=0.01, clip_norm=1.0, average=average)
        for some in grads:
            for p, grad in zip(params, some, strict=True):
                p.grad = torch.empty_like(p).copy_(grad)
            optimizer.step()
        results.append([*(p.detach() for p in params), *average.means.values()])
    same(*results, rtol=0, atol=0)
    assert portions[1] > 2 * portions[0]


def test_compiled_steps_of_other_types_and_sizes_follow_each_other():
    for dtype, size in (
        (torch.float32, 20_000),
        (torch.bfloat16, 30_000),
        (torch.float64, 17_000),
        (torch.float32, 40_000),
    ):
        results = []
        for engine in ("foreach", "compiled"):
            p = nn.Parameter(torch.linspace(-1, 1, size).to(dtype))
            optimizer = optim.AdamW([p], lr=0.1, engine=engine)
            for _ in range(3):
                p.grad = torch.linspace(1, 2, size).to(dtype)
                optimizer.step()
            results.append(p.detach())
        same(*results, rtol=1e-2 if dtype == torch.bfloat16 else 1e-5, atol=1e-6)


@each_compiled
def test_parameters_that_are_no_dense_block_still_step_right_when_compiled(make):
    """A transposed gradient, a parameter that is a slice: the flat kernel must not be fooled by their strides."""
    torch.manual_seed(4)
    base = torch.randn(300, 200)
    ours, plain = nn.Parameter(base[:, ::2].clone().T), nn.Parameter(base[:, ::2].clone().T.contiguous())
    # With decay the kernel is that of the tests above, which is not compiled anew.
    a, b = (make([p], engine=e, weight_decay=0.1) for p, e in ((ours, "compiled"), (plain, "foreach")))
    for i in range(3):
        grad = torch.randn(100, 300, generator=torch.Generator().manual_seed(i))
        ours.grad, plain.grad = grad.clone(), grad.clone()
        a.step(), b.step()
    same(ours.detach(), plain.detach(), rtol=1e-5, atol=1e-6)


@pytest.fixture(scope="module")
def mesh(tmp_path_factory):
    from torch.distributed.device_mesh import init_device_mesh

    store = tmp_path_factory.mktemp("group") / "store"
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    torch.distributed.destroy_process_group()


@each_compiled
def test_distributed_tensors_step_and_keep_distributed_state(make, mesh):
    from torch.distributed.tensor import DTensor, Shard, distribute_tensor

    start = torch.linspace(-1, 1, 20000).view(200, 100)
    spread = nn.Parameter(distribute_tensor(start.clone(), mesh, [Shard(0)]))
    plain = nn.Parameter(start.clone())
    a, b = (make([p], engine=e, weight_decay=0.1) for p, e in ((spread, "compiled"), (plain, "foreach")))
    for _ in range(3):
        spread.grad = distribute_tensor(start.cos(), mesh, [Shard(0)])
        plain.grad = start.cos()
        a.step(), b.step()
    same(spread.full_tensor().detach(), plain.detach(), rtol=1e-5, atol=1e-6)
    shaped = [v for name, v in a.state[spread].items() if name not in ("step", "mu_product")]
    assert all(isinstance(v, DTensor) for v in shaped)


@each_compiled
def test_the_whole_step_can_be_captured_by_torch_compile(make):
    torch._dynamo.reset()
    torch.manual_seed(1)
    one = nn.Linear(4, 1, bias=make is optim.AdamW)  # a second parameter is traced as the first is
    two = copy.deepcopy(one)
    optimizer, eager = make(one.parameters()), make(two.parameters())
    captured = torch.compile(optimizer.step, backend="aot_eager")
    loss_of(one).backward(), loss_of(two).backward()
    optimizer.step(), eager.step()  # the first step makes the state
    counters = torch._dynamo.utils.counters
    counters.clear()
    for _ in range(4):
        loss_of(one).backward(), loss_of(two).backward()
        captured(), eager.step()
    assert not counters["graph_break"]
    assert counters["stats"]["unique_graphs"] <= 2
    same([p.detach() for p in one.parameters()], [p.detach() for p in two.parameters()], rtol=1e-5, atol=1e-6)


def test_without_a_compiler_it_falls_back_and_says_so_once(monkeypatch):
    from thalweg.optim import implementations as module
    from thalweg.tensors import compiling

    monkeypatch.setattr(compiling.shutil, "which", lambda name: None)
    compiling.compiler_missing.cache_clear()
    try:
        p = nn.Parameter(torch.ones(200, 200))
        p.grad = torch.ones_like(p)
        with pytest.warns(RuntimeWarning, match="no C\\+\\+ compiler"):
            optim.Adam([p], engine="compiled").step()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            optim.Adam([p], engine="compiled").step()
        assert p.lt(1).all()
    finally:
        compiling.compiler_missing.cache_clear()
    assert module.compiler_missing is compiling.compiler_missing


def test_unknown_engine_is_refused():
    with pytest.raises(ValueError, match="choose auto, foreach, compiled or triton"):
        optim.Adam([nn.Parameter(torch.zeros(1))], engine="fused")


@each
def test_torchs_switches_are_wishes_for_an_engine(make):
    def engine(**options):
        return make([nn.Parameter(torch.zeros(2))], **options).param_groups[0]["engine"]

    assert engine(fused=True) == "compiled"
    assert engine(foreach=True) == "foreach"
    assert engine(fused=False, foreach=None, capturable=False, differentiable=False) == "auto"
    assert engine(engine="foreach", fused=True) == "foreach"
    with pytest.raises(TypeError, match="unexpected keyword argument 'foreech'"):
        engine(foreech=True)


@pytest.mark.parametrize("name", ["SGD", "Adagrad", "Adadelta", "RMSprop", "Adam", "AdamW", "NAdam"])
def test_changing_the_import_is_enough(name):
    results = []
    for library in (torch.optim, optim):
        model = net(torch.float64)
        results.append(run(model, getattr(library, name)(model.parameters(), lr=0.01, foreach=True)))
    same(*results, rtol=1e-7, atol=1e-9)
