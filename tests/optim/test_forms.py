"""What a step touches has the parameter's form, or one line says what has not, before anything changes."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tests.optim.test_conventions import OPTIMIZERS, each, loss_of, net
from thalweg import optim
from thalweg.averaging import EMA, Average

ENGINES = ("auto", "foreach", "compiled")


class Plain(torch.Tensor):
    """A subclass with nothing of its own."""


def short(t):
    """The tensor with a storage of half its size."""
    t = t.clone()
    t.untyped_storage().resize_(t.untyped_storage().nbytes() // 2)
    return t


def emptied(t):
    t = t.clone()
    t.untyped_storage().resize_(0)
    return t


@torch.inference_mode()
def inferred(t):
    return t.clone()


# What may stand where a tensor (10, 4) belongs, and a word that the message then has.
WRONG = {
    "another size": (lambda t: t.new_zeros(3, 4), "(3, 4)"),
    "a larger one": (lambda t: t.new_zeros(1000, 40), "(1000, 40)"),
    "transposed": (lambda t: t.T.clone(), "(4, 10)"),
    "flattened": (lambda t: t.reshape(-1).clone(), "(40,)"),
    "one row, which broadcasts": (lambda t: t[:1].clone(), "(1, 4)"),
    "a scalar, which broadcasts": (lambda t: t.new_zeros(()), "()"),
    "empty": (lambda t: t.new_zeros(0), "(0,)"),
    "one more dimension": (lambda t: t[None].clone(), "(1, 10, 4)"),
    "on another device": (lambda t: t.to("meta"), "on meta"),
    "integers": (lambda t: t.long(), "int64"),
    "bool": (lambda t: t.bool(), "bool"),
    "another real type": (lambda t: t.double(), "float64"),
    "half precision": (lambda t: t.bfloat16(), "bfloat16"),
    "complex": (lambda t: t.to(torch.complex64), "complex64"),
    "sparse": (lambda t: t.to_sparse(), "sparse_coo"),
    "expanded": (lambda t: t[:1].clone().expand(10, 4), "overlapping"),
    "memory given back": (emptied, "0 bytes of memory where it needs 160"),
    "half of its memory": (short, "80 bytes of memory where it needs 160"),
    "made in inference mode": (inferred, "inference mode"),
    "a number": (lambda t: 3.0, "3.0, not a tensor"),
    "a list": (lambda t: t.tolist(), "not a tensor"),
}
FINE = {
    "its own": lambda t: t,
    "another order of memory": lambda t: t.T.clone().T,
    "a part of a larger one": lambda t: torch.zeros(10, 8)[:, ::2].copy_(t),
    "a view of a shared storage": lambda t: torch.zeros(400)[7:47].view(10, 4).copy_(t),
    "one that requires a gradient": lambda t: t.clone().requires_grad_(),
    "a subclass": lambda t: t.clone().as_subclass(Plain),
    "none": lambda t: None,
}


def stepped(make, steps=2, **options):
    """An optimizer of two named parameters after some steps, with gradients for the next."""
    torch.manual_seed(0)
    params = {"first": nn.Parameter(torch.randn(3)), "weight": nn.Parameter(torch.randn(10, 4))}
    optimizer = make(params.items(), **options)
    for _ in range(steps):
        for p in params.values():
            p.grad = torch.randn(p.shape)
        optimizer.step()
    return params, optimizer


def contents(optimizer):
    """All that a step may change, deep: numbers where memory is there, else the object itself."""
    tensors = [p for g in optimizer.param_groups for p in g["params"]]
    named = {(id(p), k): v for p, own in optimizer.state.items() for k, v in own.items()}
    groups = [{k: v for k, v in g.items() if k != "params"} for g in optimizer.param_groups]
    return copy.deepcopy([[values(t) for t in tensors], {k: values(v) for k, v in named.items()}, groups])


def values(t):
    if not isinstance(t, torch.Tensor) or t.is_meta:
        return repr(t)
    if t.layout == torch.strided and t.untyped_storage().nbytes() < t.numel() * t.itemsize and 0 not in t.stride():
        return repr(t.untyped_storage().nbytes())
    return t.detach().clone().to_dense().flatten().tolist()


def slots(optimizer, p):
    return [k for k in optimizer.state[p] if k not in ("step", "mu_product")]


def refused(optimizer, *words):
    before = contents(optimizer)
    with pytest.raises(RuntimeError) as raised:
        optimizer.step()
    message = str(raised.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message
    assert contents(optimizer) == before


@each
@pytest.mark.parametrize("engine", ENGINES)
def test_a_state_of_another_model_is_refused(make, engine):
    old, new = nn.Linear(64, 10), nn.Linear(64, 100)
    optimizer, other = make(old.parameters(), engine=engine), make(new.named_parameters(), engine=engine)
    old(torch.ones(8, 64)).square().mean().backward()
    optimizer.step()
    other.load_state_dict(optimizer.state_dict())
    new(torch.ones(8, 64)).square().mean().backward()
    if not slots(other, new.weight):
        return other.step()  # a plain SGD has nothing but its count
    return refused(other, "parameter 0 'weight', which is float32 (100, 64) on cpu", "float32 (10, 64) on cpu")


@settings(deadline=None, max_examples=150, derandomize=True)
@given(
    name=st.sampled_from(sorted(set(OPTIMIZERS) - {"SGD"})),
    engine=st.sampled_from(ENGINES),
    wrong=st.sampled_from(sorted(WRONG)),
    place=st.integers(0, 5),
    by=st.sampled_from(["hand", "group"]),
    clip=st.sampled_from([None, 1.0]),
)
def test_a_wrong_state_is_one_line_and_changes_nothing(name, engine, wrong, place, by, clip):
    params, optimizer = stepped(OPTIMIZERS[name], engine=engine, clip_norm=clip)
    optimizer.step()
    if by == "group":  # the wrong one is stepped last
        p = nn.Parameter(torch.randn(10, 4))
        optimizer.add_param_group({"params": [("late", p)]})
        optimizer.state[p] = copy.deepcopy(optimizer.state[params["weight"]])
        p.grad, label = torch.ones(10, 4), "2 'late'"
    else:
        p, label = params["weight"], "1 'weight'"
    slot = slots(optimizer, p)[place % len(slots(optimizer, p))]
    bad, word = WRONG[wrong]
    optimizer.state[p][slot] = bad(optimizer.state[p][slot])
    refused(optimizer, f"parameter {label}, which is float32 (10, 4) on cpu", repr(slot), word)


@settings(deadline=None, max_examples=60, derandomize=True)
@given(
    name=st.sampled_from(sorted(set(OPTIMIZERS) - {"SGD"})),
    engine=st.sampled_from(ENGINES),
    fine=st.sampled_from(sorted(FINE)),
    place=st.integers(0, 5),
)
def test_a_state_of_its_form_is_stepped_wherever_it_lies(name, engine, fine, place):
    ends = []
    for way in ("its own", fine):
        params, optimizer = stepped(OPTIMIZERS[name], engine=engine)
        p = params["weight"]
        slot = slots(optimizer, p)[place % len(slots(optimizer, p))]
        given_ = FINE[way](optimizer.state[p][slot])
        if fine == "none":
            given_ = (
                None
                if way == "none"
                else torch.full_like(p, optimizer.rule_of(optimizer.param_groups[0]).buffers[slot])
            )
        optimizer.state[p][slot] = given_
        for _ in range(3):
            optimizer.step()
        ends.append([p.detach().clone() for p in params.values()])
    torch.testing.assert_close(*ends, rtol=1e-5, atol=1e-6)


@each
@pytest.mark.parametrize("count", [torch.ones(2), torch.zeros(0), "two", torch.ones(1, dtype=torch.complex64)])
def test_a_wrong_count_is_refused(make, count):
    params, optimizer = stepped(make)
    optimizer.state[params["weight"]]["step"] = count
    refused(optimizer, "parameter 1 'weight'", "its state 'step' is")


@each
@pytest.mark.parametrize("engine", ENGINES)
def test_a_model_resized_in_place_is_refused_until_its_gradients_and_state_are_its_own(make, engine):
    params, optimizer = stepped(make, engine=engine)
    p = params["weight"]
    p.data = torch.randn(7, 4)
    refused(optimizer, "parameter 1 'weight', which is float32 (7, 4)", "its gradient is float32 (10, 4)")
    p.grad = torch.ones(7, 4)
    if slots(optimizer, p):
        refused(optimizer, "its state", "float32 (10, 4)")
    optimizer.state.pop(p)
    optimizer.step()
    assert p.isfinite().all()


@each
def test_a_model_of_another_type_goes_on_with_its_state_converted(make):
    params, optimizer = stepped(make)
    for p in params.values():
        p.data, p.grad = p.data.double(), None
        p.grad = torch.ones_like(p)
    if slots(optimizer, params["weight"]):
        refused(optimizer, "float64 (3,)", "float32 (3,)", "load_state_dict(optimizer.state_dict()) converts it")
    optimizer.load_state_dict(optimizer.state_dict())
    optimizer.step()
    assert all(v.dtype == torch.float64 for k, v in optimizer.state[p].items() if k not in ("step", "mu_product"))


@each
@pytest.mark.parametrize("what", ["memory", "half", "expanded", "gradient's memory", "gradient's shape"])
def test_memory_that_is_not_there_is_not_read(make, what):
    params, optimizer = stepped(make)
    p = params["weight"]
    if what == "memory":
        p.untyped_storage().resize_(0)
    elif what == "half":
        p.untyped_storage().resize_(80)
    elif what == "expanded":
        p.data = torch.zeros(1).expand(10, 4)
    elif what == "gradient's memory":
        p.grad.untyped_storage().resize_(16)
    else:
        p.grad.resize_(4, 10)
    refused(
        optimizer,
        "parameter 1 'weight'",
        "(4, 10)" if "shape" in what else "overl" if "exp" in what else "bytes of memory",
    )


@each
def test_memory_that_moves_between_steps_is_followed(make):
    """As FSDP gives it back and takes it anew."""
    ends = []
    for moves in (False, True):
        params, optimizer = stepped(make)
        for _ in range(3):
            for p in params.values() if moves else ():
                kept, size = p.detach().clone(), p.untyped_storage().nbytes()
                p.untyped_storage().resize_(0)
                _ = torch.full((10, 4), 7.0)  # takes its place
                p.untyped_storage().resize_(size)
                p.data.copy_(kept)
                p.data = torch.cat([torch.zeros(5), p.detach().flatten()])[5:].view(p.shape)
            optimizer.step()
        ends.append([p.detach().clone() for p in params.values()])
    torch.testing.assert_close(*ends, rtol=0, atol=0)


GRADIENTS = {
    "expanded": lambda g: g[:1].expand(10, 4),
    "transposed memory": lambda g: g.T.contiguous().T,
    "every other column": lambda g: g.repeat_interleave(2, 1)[:, ::2],
    "lazily negative": lambda g: torch.complex(g, -g).conj().imag,
    "float64": lambda g: g.double(),
    "bfloat16": lambda g: g.bfloat16(),
    "float16": lambda g: g.half(),
    "int64": lambda g: g.long(),
    "bool": lambda g: g.bool(),
    "with a graph": lambda g: g.clone().requires_grad_() * 1,
    "a subclass": lambda g: g.as_subclass(Plain),
}


@each
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_gradients_of_any_type_and_layout_are_their_numbers(make, engine, dtype):
    for way in GRADIENTS.values():
        ends = []
        for plain in (True, False):
            p = nn.Parameter(torch.linspace(-1, 1, 40).view(10, 4).to(dtype))
            optimizer = make([p], engine=engine, clip_norm=None if dtype == torch.float32 else 1.0)
            p.grad_dtype = None
            for i in range(3):
                grad = way(torch.arange(40.0).view(10, 4).sub(20).mul(i + 1))
                p.grad = grad.detach().resolve_neg().to(torch.float32).clone().to(dtype) if plain else grad
                optimizer.step()
            ends.append(p.detach())
        torch.testing.assert_close(
            *ends, **({"rtol": 3e-2, "atol": 1e-3} if dtype == torch.bfloat16 else {"rtol": 1e-5, "atol": 1e-6})
        )


@pytest.mark.parametrize(
    ("make", "engine", "size"),
    [(make, engine, 5) for make in OPTIMIZERS.values() for engine in ENGINES] + [(optim.Adam, "compiled", 20_000)],
)
def test_lazy_conjugates_and_negatives_are_stepped_as_their_numbers(make, engine, size):
    torch.manual_seed(0)
    start, grads = torch.randn(size, dtype=torch.complex64), torch.randn(3, size, dtype=torch.complex64)
    ends = []
    for lazy_param, lazy_grad, negative in [(0, 0, 0), (1, 0, 0), (0, 1, 0), (1, 1, 0), (0, 1, 1)]:
        z, seen = start.clone(), grads.clone()
        p = nn.Parameter(z.conj() if lazy_param else z.conj_physical())
        optimizer = make([p], engine=engine, weight_decay=0.1)
        for g in seen:
            given_ = g.conj() if lazy_grad else g.conj_physical()
            p.grad = torch._neg_view(-given_) if negative else given_
            optimizer.step()
        ends.append(p.detach().resolve_conj())
        assert p.is_conj() == bool(lazy_param)
    for end in ends[1:]:
        torch.testing.assert_close(end, ends[0], rtol=1e-6, atol=1e-6)
    q = nn.Parameter(start.clone().conj().imag)
    plain = nn.Parameter(q.detach().clone().resolve_neg())
    both = make([q], engine=engine), make([plain], engine=engine)
    for g in grads:
        q.grad, plain.grad = g.conj().imag, -g.imag
        for optimizer in both:
            optimizer.step()
    torch.testing.assert_close(q.detach().resolve_neg(), plain.detach())


@each
def test_a_complex_gradient_of_a_real_parameter_is_refused_and_a_real_one_of_a_complex_taken(make):
    params, optimizer = stepped(make)
    p = params["weight"]
    p.grad_dtype = None
    p.grad = torch.ones(10, 4, dtype=torch.complex64)
    refused(optimizer, "parameter 1 'weight', which is float32", "its gradient is complex64 (10, 4)")
    ends = []
    for kind in (torch.float32, torch.complex64):
        z = nn.Parameter(torch.ones(4, dtype=torch.complex64))
        z.grad_dtype, optimizer = None, make([z])
        z.grad = torch.arange(4).to(kind)
        optimizer.step()
        ends.append(z.detach())
    torch.testing.assert_close(*ends)


WRITES = {
    "data": lambda p: p.grad.data.mul_(3.0),
    "detached": lambda p: p.grad.detach().mul_(3.0),
    "numpy": lambda p: p.grad.numpy().__imul__(3.0),
    "storage": lambda p: p.grad.untyped_storage().copy_((p.grad * 3).untyped_storage()),
    "another": lambda p: setattr(p, "grad", p.grad * 3),
    "set": lambda p: p.grad.set_(p.grad * 3),
    "one number": lambda p: p.grad.numpy().__setitem__((0, 0), 1e3),
    "foreach": lambda p: torch._foreach_mul_([p.grad.data], 3.0),
    "unscaling": lambda p: torch._amp_foreach_non_finite_check_and_unscale_(
        [p.grad], torch.zeros(1), torch.tensor(3.0)
    ),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
@pytest.mark.parametrize("accumulates", [False, True])
def test_the_norm_that_clips_is_that_of_the_gradient_at_the_step(write, accumulates):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(300, 300, bias=False), nn.Linear(300, 1, bias=False))
    with pytest.warns(DeprecationWarning, match="norm_in_backward"):
        optimizer = optim.SGD(model.parameters(), lr=1.0, clip_norm=0.3, norm_in_backward=True)
    for _ in range(2):
        if not accumulates:
            optimizer.zero_grad()
        model(torch.ones(4, 300)).square().mean().backward()
        write(model[0].weight)
        norm = torch.cat([p.grad.flatten() for p in model.parameters()]).double().norm().item()
        before = [p.detach().clone() for p in model.parameters()]
        optimizer.step()
        assert optimizer.gradient_norm.item() == pytest.approx(norm, rel=1e-4)
        moved = torch.cat([(p - q).detach().flatten() for p, q in zip(model.parameters(), before, strict=True)])
        assert moved.norm().item() == pytest.approx(min(0.3, norm), rel=1e-2)


@pytest.mark.parametrize("unscales_first", [False, True])
def test_a_gradient_scaler_clips_by_the_unscaled_norm(unscales_first):
    ends = []
    for scale in (1.0, 2.0**16):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(300, 300), nn.Linear(300, 1))
        scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        optimizer = optim.SGD(model.parameters(), lr=1.0, clip_norm=0.3, skip_nonfinite=True)
        for _ in range(3):
            optimizer.zero_grad()
            scaler.scale(model(torch.ones(4, 300)).square().mean()).backward()
            if unscales_first:
                scaler.unscale_(optimizer)
            scaler.step(optimizer)
            scaler.update()
        ends.append([p.detach() for p in model.parameters()])
    torch.testing.assert_close(*ends, rtol=1e-4, atol=1e-5)


def test_a_mean_of_another_form_is_refused():
    model = net()
    average = Average(model, EMA(0.9))
    optimizer = optim.Adam(model.named_parameters(), average=average)
    loss_of(model).backward()
    optimizer.step()
    average.means["0.weight"] = torch.zeros(3, 3)
    refused(optimizer, "0.weight", "(8, 4)", "(3, 3)")


CLOSURES = {
    "L-BFGS": lambda p, **o: optim.LBFGS(p, max_iter=3, **o),
    "BFGS": lambda p, **o: optim.BFGS(p, max_iter=3, **o),
    "conjugate gradients": lambda p, **o: optim.ConjugateGradient(p, max_iter=3, **o),
    "Newton": optim.Newton,
    "truncated Newton": optim.TruncatedNewton,
}
each_closure = pytest.mark.parametrize("make", CLOSURES.values(), ids=CLOSURES)
by_gradient = pytest.mark.parametrize("make", list(CLOSURES.values())[:3], ids=list(CLOSURES)[:3])


@each_closure
@pytest.mark.parametrize("lazy", ["parameter", "loss"])
def test_closure_optimizers_step_complex_parameters_that_are_lazy_conjugates(make, lazy):
    torch.manual_seed(0)
    start, goal = torch.randn(2, 5, dtype=torch.complex128)
    ends = []
    for is_lazy in (False, True):
        z = start.clone()
        p = nn.Parameter(z.conj() if is_lazy and lazy == "parameter" else z.conj_physical())
        optimizer = make([p])
        for _ in range(2):
            optimizer.step(
                lambda p=p, conj=is_lazy: ((p.conj() if conj else p.conj_physical()) - goal).abs().pow(4).sum()
            )
        ends.append(p.detach().resolve_conj())
    torch.testing.assert_close(*ends)
    assert not torch.allclose(ends[0], start.conj())


@by_gradient
def test_closure_optimizers_take_lazy_gradients_and_those_of_other_types(make):
    ends = []
    for way in (
        lambda g: g,
        lambda g: torch.complex(g, -g).conj().imag,
        lambda g: g.double(),
        lambda g: g[:, None][:, 0],
    ):
        p = nn.Parameter(torch.linspace(-1, 1, 6))
        p.grad_dtype = None

        def closure(p=p, way=way):
            p.grad = way(4 * p.detach() ** 3)
            return (p.detach() ** 4).sum()

        make([p]).step(closure)
        ends.append(p.detach())
    for end in ends[1:]:
        torch.testing.assert_close(end, ends[0])


@by_gradient
@pytest.mark.parametrize("wrong", [lambda p: p.grad.resize_(3, 2), lambda p: p.grad.untyped_storage().resize_(0)])
def test_closure_optimizers_refuse_gradients_of_another_form(make, wrong):
    p, q = nn.Parameter(torch.ones(2, 3)), nn.Parameter(torch.ones(4))

    def closure():
        p.grad, q.grad = torch.ones(2, 3), torch.ones(4)
        wrong(p)
        return torch.tensor(1.0)

    with pytest.raises(ValueError, match=r"the gradient of a parameter float32 \(2, 3\) on cpu is float32"):
        make([p, q]).step(closure)
    assert p.eq(1).all()
    assert q.eq(1).all()


@pytest.mark.parametrize("make", [CLOSURES["L-BFGS"], CLOSURES["conjugate gradients"]])
@pytest.mark.parametrize("shape", [(3, 4), (3, 2, 2), (12,), (2, 4)])
def test_closure_optimizers_refuse_a_state_of_another_model_whole(make, shape):
    p, q = nn.Parameter(torch.ones(4, 3)), nn.Parameter(torch.ones(shape))
    one, other = make([p]), make([q])
    for optimizer, t in ((one, p), (other, q)):
        optimizer.step(lambda t=t: (t - torch.arange(t.numel()).view(t.shape)).pow(4).sum())
    before = copy.deepcopy(other.state_dict())
    with pytest.raises(ValueError, match="parameter 0's share") as raised:
        other.load_state_dict(one.state_dict())
    assert "4, 3) on cpu" in str(raised.value)
    assert f"the parameter float32 {shape}" in str(raised.value)
    assert str(other.state_dict()) == str(before)
    other.step(lambda: (q - 1).pow(4).sum())
