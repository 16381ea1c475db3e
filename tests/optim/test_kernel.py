"""One kernel for all tensors does what the engine over lists does, by every rule: on a GPU, or interpreted."""

import copy
import math
import os

import pytest
import torch
from torch import nn

ON_GPU = torch.cuda.is_available()
if not ON_GPU:
    os.environ["TRITON_INTERPRET"] = "1"  # read when Triton is first imported
pytest.importorskip("triton", reason="needs the package triton, of torch's builds for CUDA")

from thalweg import optim  # noqa: E402
from thalweg.averaging import EMA, Average, Polyak  # noqa: E402
from thalweg.optim.kernel import engine  # noqa: E402
from thalweg.optim.optimizer import RuleOptimizer  # noqa: E402
from thalweg.rules import RULES, switched  # noqa: E402
from thalweg.rules.nadam import NAdamW  # noqa: E402
from thalweg.rules.rmsprop import RMSProp  # noqa: E402

DEVICE = "cuda" if ON_GPU else "cpu"
FORMS = RULES | {
    "nadamw": NAdamW(),
    "rmsprop-centered": RMSProp(momentum=True, centered=True),
    "momentum-lookahead": switched(RULES["momentum"], ["lookahead"]),
    "rmsprop-inside": RMSProp(eps_inside_sqrt=True),
}
SHAPES = [(5, 7), (64,), (70,), (0, 3), ()]
each = pytest.mark.parametrize("rule", FORMS)


class Stepped(RuleOptimizer):
    """An optimizer of any rule, with all options."""

    def __init__(self, params, rule, engine="foreach", **options):
        self.rule = rule
        own = {name: options.pop(name) for name in list(options) if name in rule.defaults}
        super().__init__(params, {**rule.defaults, **own}, engine, options.pop("maximize", False), options)

    def rule_of(self, group):
        return self.rule

    def hyper_of(self, group):
        return {name: group[name] for name in self.rule.defaults}


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(engine, "BLOCK", 64)


@pytest.fixture
def launches(monkeypatch):
    """The names of the kernels that are launched."""
    engine.triton_missing(torch.zeros(1, device=DEVICE).device)
    found, launch = [], engine.launch

    def count(kernel, *rest):
        found.append(kernel.__name__)
        again = launch(kernel, *rest)
        return lambda given: (found.append(kernel.__name__), again(given))

    monkeypatch.setattr(engine, "launch", count)
    return found


def params_of(dtype=torch.float32, misaligned=False):
    torch.manual_seed(0)
    made = [torch.randn(s, dtype=torch.float64).to(DEVICE, dtype) for s in SHAPES]
    if misaligned:
        made = [torch.cat([t.new_zeros(1), t.flatten()])[1:].view(t.shape) for t in made]
    return [nn.Parameter(t) for t in made]


def train(rule, steps=3, dtype=torch.float32, misaligned=False, spoil=(), averaging=None, **options):
    """Returns all numbers after steps with gradients of chance, those of some steps spoilt."""
    params = params_of(dtype, misaligned)
    average = Average(params, averaging) if averaging else None
    optimizer = Stepped(params, FORMS[rule], average=average, **options)
    generator = torch.Generator().manual_seed(1)
    for i in range(steps):
        for p in params:
            grad = torch.randn(p.shape, generator=generator, dtype=torch.float64).to(DEVICE, dtype)
            p.grad = torch.cat([grad.new_zeros(1), grad.flatten()])[1:].view(p.shape) if misaligned else grad
        if i in spoil:
            params[1].grad[3] = spoil[i]
        optimizer.step()
    state = [optimizer.state[p] for p in params]
    return {
        "params": [p.detach() for p in params],
        "state": [{k: v for k, v in one.items() if k != "skipped"} for one in state],
        "skipped": optimizer.skipped,
        "means": list(average.means.values()) if average else None,
        "norm": optimizer.gradient_norm,
    }


def alike(one, two, dtype=torch.float32):
    """Says that they are the same to rounding; in bfloat16 to what the interpreter, which cuts digits off, can do."""
    real = dtype.to_real()
    bound = {torch.float32: 3e-6, torch.float64: 1e-13, torch.float16: 2e-3, torch.bfloat16: 1e-2 if ON_GPU else 5e-2}
    options = {"check_dtype": False, "check_device": False}  # counts are on the device or on the host
    torch.testing.assert_close(one, two, rtol=bound[real], atol=bound[real], **options)


@each
def test_a_step_is_that_over_lists(rule):
    alike(*(train(rule, engine=e) for e in ("triton", "foreach")))


@each
def test_all_at_once_is_what_the_engine_over_lists_does(rule):
    options = {"clip_norm": 3.0, "averaging": EMA(0.7), "weight_decay": 0.1, "decay": "weights", "maximize": True}
    alike(*(train(rule, misaligned=True, engine=e, **options) for e in ("triton", "foreach")))


@pytest.mark.parametrize("rule", ["momentum", "nadam", "amsgrad"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16, torch.complex64])
def test_every_type_is_stepped(rule, dtype):
    options = {"clip_norm": 3.0, "averaging": Polyak(start=2), "weight_decay": 0.1}
    alike(*(train(rule, dtype=dtype, engine=e, **options) for e in ("triton", "foreach")), dtype)


@each
def test_what_is_not_finite_is_skipped(rule):
    if FORMS[rule].scalar_state:
        pytest.skip("carries a scalar on the host")
    options = {"clip_norm": 3.0, "skip_nonfinite": True, "averaging": EMA(0.7), "weight_decay": 0.1}
    tested = train(rule, 5, spoil={0: math.nan, 3: math.inf}, engine="triton", **options)
    clean = train(rule, 5, spoil={0: math.nan, 3: math.inf}, engine="foreach", **options)
    assert tested["skipped"] == clean["skipped"] == 2
    for name in ("params", "norm"):
        torch.testing.assert_close(tested[name], clean[name], rtol=3e-6, atol=3e-6, equal_nan=True)


@each
def test_counts_on_the_device_are_those_on_the_host(rule):
    options = {"weight_decay": 0.1, "clip_norm": 3.0, "averaging": EMA(0.7)}
    tested = train(rule, engine="triton", capturable=True, lr=torch.tensor(0.03, device=DEVICE), **options)
    reference = train(rule, engine="foreach", lr=0.03, **options)
    alike(tested, reference)


@pytest.mark.parametrize("rule", ["momentum", "nadam"])
def test_a_capturable_step_is_skipped_too(rule):
    options = {"skip_nonfinite": True, "capturable": True}
    tested = train(rule, 4, spoil={2: math.nan}, engine="triton", **options)
    reference = train(rule, 4, spoil={2: math.nan}, engine="foreach", **options)
    assert tested["skipped"] == 1
    alike(tested["params"], reference["params"])
    assert [int(s["step"]) for s in tested["state"]] == [3] * len(SHAPES)


def test_a_tensor_of_the_learning_rate_is_read_where_it_lies():
    tested = train("adam", engine="triton", lr=torch.tensor(0.03, device=DEVICE))
    alike(tested, train("adam", engine="foreach", lr=0.03))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ["step"]),
        ({"clip_norm": 1.0, "averaging": EMA(0.9)}, ["norm", "step"]),
        ({"clip_norm": 1.0, "skip_nonfinite": True}, ["norm", "step"]),
        ({"capturable": True, "clip_norm": 1.0}, ["norm", "step"]),
    ],
)
def test_a_step_is_one_launch_and_the_norm_another(launches, options, expected):
    train("adamw", 3, engine="triton", **options)
    assert launches == expected * 3


@pytest.mark.skipif(not ON_GPU, reason="needs a GPU")
@pytest.mark.parametrize("options", [{}, {"fused": True}], ids=["default", "fused"])
def test_a_gpu_is_stepped_by_kernels_unless_others_are_asked_for(launches, options):
    train("adam", 2, engine="auto", **options)
    assert launches == ["step"] * 2
    train("adam", 2, engine="auto", foreach=True)
    assert launches == ["step"] * 2


@pytest.mark.parametrize("fault", ["not installed", "no compiler"])
def test_without_triton_the_step_is_that_over_lists_with_one_warning(monkeypatch, fault):
    engine.triton_missing.cache_clear()
    if fault == "not installed":
        monkeypatch.setattr(engine, "find_spec", lambda _: None)
    else:
        monkeypatch.setattr(engine, "launch", lambda *_: (_ for _ in ()).throw(RuntimeError("no compiler was found")))
    with pytest.warns(RuntimeWarning, match="torch's foreach kernels on .*(is missing|no compiler was found)") as seen:
        mine = train("adam", engine="triton")
    assert len(seen) == 1
    torch.testing.assert_close(mine, train("adam", engine="foreach"), rtol=0, atol=0)
    engine.triton_missing.cache_clear()


def test_the_part_of_a_distributed_tensor_that_is_here_is_stepped(launches):
    from torch import distributed
    from torch.distributed.tensor import Replicate, Shard, distribute_tensor, init_device_mesh

    def made(placed):
        params = [nn.Parameter(placed(p.detach())) for p in params_of()[:3]]
        optimizer = optim.AdamW(params, lr=0.1, clip_norm=1.0, engine="triton")
        for i in range(3):
            for p in params:
                p.grad = placed(torch.full(p.shape, 0.5 + i, device=DEVICE))
            optimizer.step()
        return [getattr(p.detach(), "full_tensor", p.detach)() for p in params]

    distributed.init_process_group("nccl" if ON_GPU else "gloo", store=distributed.HashStore(), rank=0, world_size=1)
    try:
        mesh = init_device_mesh(DEVICE, (1,))
        mine = made(lambda t: distribute_tensor(t, mesh, [Shard(0) if t.dim() > 1 else Replicate()]))
    finally:
        distributed.destroy_process_group()
    assert launches == ["step"] * 3  # the norm is torch's, over all ranks
    alike(mine, made(lambda t: t))


def test_what_is_changed_between_two_steps_holds_at_the_next():
    """A rate, a state, a parameter, a count: whatever is written or replaced by hand."""

    def made(engine):
        params = params_of()
        average = Average(params, EMA(0.9))
        optimizer = optim.Adam(params, lr=0.1, engine=engine, average=average, clip_norm=1.0)

        def step():
            for p in params:
                p.grad = torch.ones_like(p)
            optimizer.step()

        changes = [
            lambda: optimizer.param_groups[0].update(lr=0.01),
            lambda: optimizer.param_groups[0].update(betas=(0.5, 0.9)),
            lambda: optimizer.state[params[0]].update(exp_avg=torch.full_like(params[0], 2.0)),
            lambda: optimizer.state[params[1]]["exp_avg_sq"].fill_(0.5),
            lambda: setattr(params[2], "data", torch.full_like(params[2].data, 3.0)),
            lambda: optimizer.state[params[2]]["step"].fill_(50.0),
            lambda: optimizer.param_groups[0].update(weight_decay=0.1),
            lambda: setattr(params[3], "requires_grad", False),
            lambda: setattr(average, "step", 100),
            lambda: optimizer.param_groups[0].update(clip_norm=None),
            lambda: optimizer.param_groups[0].update(skip_nonfinite=True),
            lambda: optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict())),
        ]
        for change in changes:
            step()
            step()
            change()
        step()
        return [p.detach() for p in params], list(average.means.values()), [optimizer.state[p]["step"] for p in params]

    alike(made("triton"), made("foreach"))


@pytest.mark.parametrize("by", ["hook", "subclass"])
def test_hooks_are_called_once_a_step(by):
    class Own(optim.Adam):
        def step(self, closure=None):
            return super().step(closure)

    params = params_of()
    optimizer = (Own if by == "subclass" else optim.Adam)(params, engine="triton")
    called = []
    optimizer.register_step_pre_hook(lambda *_: called.append("before"))
    optimizer.register_step_post_hook(lambda *_: called.append("after"))
    for p in params:
        p.grad = torch.ones_like(p)
    for _ in range(3):
        optimizer.step()
    assert called == ["before", "after"] * 3


def test_the_table_is_made_anew_only_when_something_lies_elsewhere(monkeypatch):
    made, table = [], engine.Table
    monkeypatch.setattr(engine, "Table", lambda *given: made.append(given) or table(*given))
    params = params_of()
    optimizer = optim.Adam(params, engine="triton")
    for _ in range(3):
        for p in params:
            p.grad = torch.ones_like(p)
        optimizer.step()
    assert len(made) == 1
    params[1].data = params[1].data.clone()
    optimizer.step()
    assert len(made) == 2


def test_a_parameter_without_a_gradient_is_left_alone():
    params = params_of()
    before = [p.detach().clone() for p in params]
    optimizer = optim.Adam(params, engine="triton")
    params[1].grad = torch.ones_like(params[1])
    optimizer.step()
    params[0].grad = torch.ones_like(params[0])
    optimizer.step()
    assert [int(optimizer.state[p]["step"]) for p in params[:2]] == [1, 2]
    assert torch.equal(params[2], before[2])
    torch.testing.assert_close(params[0], before[0] - 1e-3)
    torch.testing.assert_close(params[1], before[1] - 2e-3)


def test_groups_of_other_settings_and_types_are_stepped_each_by_its_own():
    def made(engine):
        params = params_of()[:3] + params_of(torch.float64)[:3] + params_of(torch.bfloat16)[:3]
        groups = [{"params": params[::2], "lr": 0.1}, {"params": params[1::2], "lr": 0.01, "weight_decay": 0.3}]
        optimizer = optim.AdamW(groups, engine=engine, clip_norm=2.0)
        for _ in range(3):
            for p in params:
                p.grad = torch.full_like(p, 0.5)
            optimizer.step()
        return [p.detach().double() for p in params]

    for one, two in zip(made("triton"), made("foreach"), strict=True):
        torch.testing.assert_close(one, two, rtol=3e-2, atol=3e-2)


def test_a_gradient_in_another_order_of_memory_is_stepped_as_well():
    def made(engine):
        params = params_of()
        optimizer = optim.SGD(params, lr=0.1, momentum=0.9, engine=engine)
        for _ in range(2):
            for p in params:
                p.grad = torch.arange(p.numel(), dtype=p.dtype, device=DEVICE).view(p.shape)
            params[0].grad = torch.arange(35.0, device=DEVICE).view(7, 5).T
            optimizer.step()
        return [p.detach() for p in params]

    alike(made("triton"), made("foreach"))


def test_a_run_goes_on_from_its_state_dict():
    params = params_of()
    optimizer = optim.NAdam(params, engine="triton")
    twin = copy.deepcopy(params)
    other = optim.NAdam(twin, engine="foreach")
    for i in range(4):
        if i == 2:
            fresh = optim.NAdam(params, engine="triton")
            fresh.load_state_dict(copy.deepcopy(optimizer.state_dict()))
            optimizer = copy.deepcopy(fresh) if i == 3 else fresh
        for p, q in zip(params, twin, strict=True):
            p.grad = torch.ones_like(p) * (i + 1)
            q.grad = p.grad.clone()
        optimizer.step()
        other.step()
    alike([p.detach() for p in params], [q.detach() for q in twin])


@pytest.mark.parametrize("wrong", ["shape", "memory"])
def test_nothing_changes_where_a_gradient_does_not_fit(wrong):
    params = params_of()
    before = [p.detach().clone() for p in params]
    optimizer = optim.Adam(params, engine="triton")
    for p in params:
        p.grad = torch.ones_like(p)
    if wrong == "memory":
        params[2].grad.untyped_storage().resize_(0)
    else:
        params[2].data = params[2].data[:-1].clone()
        before[2] = before[2][:-1]
    with pytest.raises(RuntimeError, match="cannot step parameter 2"):
        optimizer.step()
    torch.testing.assert_close([p.detach() for p in params], before)


@pytest.mark.skipif(not ON_GPU, reason="needs a GPU")
@pytest.mark.parametrize("rule", ["adam", "nadam", "momentum", "rmsprop"])
def test_a_graph_holds_the_step(rule):
    """A captured step, replayed, is the step: with a learning rate that changes, clip and average."""

    def made(graph):
        params = params_of()
        for p in params:
            p.grad = torch.zeros_like(p)
        lr = torch.tensor(0.1, device=DEVICE)
        optimizer = Stepped(params, FORMS[rule], "triton", capturable=True, lr=lr, clip_norm=2.0)
        held = torch.cuda.CUDAGraph()
        for i in range(6):
            lr.fill_(0.1 / (i + 1))
            if i == 2 and graph:
                with torch.cuda.graph(held):
                    for p in params:
                        p.grad = torch.full_like(p, 1.0) + p.detach()
                    optimizer.step()
            if i >= 2 and graph:
                held.replay()
                continue
            for p in params:
                p.grad = torch.full_like(p, 1.0) + p.detach()
            optimizer.step()
        return [p.detach() for p in params], [optimizer.state[p]["step"] for p in params]

    torch.testing.assert_close(made(True), made(False))


@pytest.mark.skipif(not ON_GPU, reason="needs a GPU")
def test_two_graphs_that_are_captured_one_after_the_other_hold_the_step_each():
    def made(steps, captures):
        params = params_of()[:3]
        for p in params:
            p.grad = torch.ones_like(p)
        optimizer = optim.SGD(params, lr=0.1, capturable=True)
        for _ in range(steps):
            optimizer.step()
        graphs = [torch.cuda.CUDAGraph() for _ in range(captures)]
        for graph in graphs:
            with torch.cuda.graph(graph):
                optimizer.step()
        for graph in graphs:
            graph.replay()
        for _ in range(3 - steps - captures):
            optimizer.step()
        return [p.detach() for p in params]

    expected = [p.detach() - 0.3 for p in params_of()[:3]]
    for steps, captures in ((3, 0), (1, 1), (1, 2), (2, 1)):
        torch.testing.assert_close(made(steps, captures), expected)


@pytest.mark.skipif(not ON_GPU, reason="needs a GPU")
def test_a_graph_of_steps_that_the_host_counts_is_refused():
    params = params_of()[:1]
    params[0].grad = torch.ones_like(params[0])
    optimizer = optim.Adam(params)
    optimizer.step()
    with pytest.raises(RuntimeError, match="capturable=True"), torch.cuda.graph(torch.cuda.CUDAGraph()):
        optimizer.step()
