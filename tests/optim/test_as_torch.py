"""What torch's own tests of its optimizers check, beyond tables: states, hooks, sparse and complex, nothing to step."""

import copy
import gc
import inspect
import io
import pickle
import warnings
import weakref

import pytest
import torch
from torch import nn
from torch.autograd import gradcheck
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_optimizer_state_dict, set_optimizer_state_dict
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from tests.optim.pairs import PAIRS, each, loss_of, net, same, train
from thalweg import optim
from thalweg.averaging import Average, Polyak
from thalweg.optim.of_rule import OfRule
from thalweg.rules import RULES

FLATTENED = StateDictOptions(flatten_optimizer_state_dict=True)


def settings(optimizer):
    return [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]


# States


@each
def test_loading_adds_no_key_that_saving_would_not_have(ours, torchs, options):
    model = net()
    optimizer = ours(model.parameters(), **options)
    made = [set(group) for group in optimizer.param_groups]
    train(model, optimizer, 2)
    optimizer.load_state_dict(optimizer.state_dict())
    assert [set(group) for group in optimizer.param_groups] == made
    assert set(torchs(model.parameters(), **options).param_groups[0]) <= made[0]
    optimizer.load_state_dict(torchs(model.parameters(), **options).state_dict())
    assert [set(group) for group in optimizer.param_groups] == made


@each
def test_a_flattened_state_loads_again_and_again_and_into_torchs(ours, torchs, options):
    """A distributed checkpoint's form: each setting under its parameter's name."""
    model = net()
    optimizer = ours(model.parameters(), **options, weight_decay=0.1)
    train(model, optimizer, 3)
    start = copy.deepcopy(model.state_dict())
    flat = copy.deepcopy(get_optimizer_state_dict(model, optimizer, options=FLATTENED))
    expected = train(model, optimizer, 3)
    for make in (ours, ours, torchs):
        again = net()
        again.load_state_dict(start)
        other = make(again.parameters(), **options)
        for _ in range(2):
            set_optimizer_state_dict(again, other, copy.deepcopy(flat), options=FLATTENED)
        assert settings(other)[0]["weight_decay"] == 0.1
        if make is ours:
            assert get_optimizer_state_dict(again, other, options=FLATTENED).keys() == flat.keys()
        same(train(again, other, 3), expected)


@each
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_load_hooks_reorder_drop_and_rename(ours, torchs, options, dtype):
    """What counts is what the hooks made of the state, not what was given."""
    model = net(dtype)
    extra = nn.Parameter(torch.ones(4, dtype=dtype))
    optimizer = ours([*model.parameters(), extra], **options)
    extra.grad = torch.ones_like(extra)
    train(model, optimizer, 3)
    saved = copy.deepcopy(optimizer.state_dict())
    saved["param_groups"][0]["params"] = [f"p{i}" for i in saved["param_groups"][0]["params"]]  # other names
    saved["state"] = {f"p{i}": state for i, state in saved["state"].items()}

    def chosen(_, given):
        given = {**given, "param_groups": [dict(group) for group in given["param_groups"]]}
        order = list(reversed(given["param_groups"][0]["params"]))[1:]  # the extra one dropped, the rest turned about
        given["param_groups"][0]["params"] = order
        given["state"] = {name: given["state"][name] for name in order if name in given["state"]}
        return given

    seen = []
    goes_on = copy.deepcopy(model)
    other = ours(list(reversed(list(goes_on.parameters()))), **options)
    other.register_load_state_dict_pre_hook(chosen)
    other.register_load_state_dict_post_hook(lambda o: seen.append({p: dict(o.state[p]) for p in o.state}))
    before = copy.deepcopy(saved)
    other.load_state_dict(saved)
    torch.testing.assert_close(saved["state"], before["state"], rtol=0, atol=0)
    assert saved["param_groups"] == before["param_groups"]
    for p, q in zip(model.parameters(), goes_on.parameters(), strict=True):
        for name, value in optimizer.state[p].items():
            torch.testing.assert_close(other.state[q][name], value, rtol=0, atol=0)
            assert seen[0][q][name] is other.state[q][name]  # a hook after loading sees the state as it stays
    same(train(goes_on, other, 3), train(model, optimizer, 3), rtol=0, atol=0)


@each
def test_hooks_on_states_run_as_torchs(ours, torchs, options):
    def story(make):
        calls, model = [], net()
        optimizer = make(model.parameters(), **options)
        optimizer.register_state_dict_pre_hook(lambda o: calls.append("saving"))
        optimizer.register_state_dict_post_hook(lambda o, s: calls.append("saved") or {**s, "more": 1})
        optimizer.register_state_dict_post_hook(lambda o, s: calls.append("saved first"), prepend=True)
        optimizer.register_load_state_dict_pre_hook(lambda o, s: calls.append(("loading", "more" in s)))
        optimizer.register_load_state_dict_post_hook(lambda o: calls.append("loaded"))
        optimizer.register_step_pre_hook(lambda o, args, kwargs: calls.append(("before", len(args), kwargs)))
        optimizer.register_step_post_hook(lambda o, args, kwargs: calls.append("after"))
        train(model, optimizer, 1)
        optimizer.load_state_dict(optimizer.state_dict())
        return calls

    assert story(ours) == story(torchs)


@each
def test_older_states_go_on(ours, torchs, options):
    """Steps that are plain numbers, settings that were not there yet, of ours and of torch's."""
    for first in (ours, torchs):
        model = net()
        optimizer = first(model.parameters(), **options)
        train(model, optimizer, 3)
        state = copy.deepcopy(optimizer.state_dict())
        goes_on = copy.deepcopy(model)
        expected = train(model, optimizer, 3)
        for group in state["param_groups"]:
            for name in ("maximize", "foreach", "fused", "capturable", "differentiable", "engine", "decay", "skipped"):
                group.pop(name, None)
        for own in state["state"].values():
            for name in ("step", "mu_product"):
                if name in own:
                    own[name] = own[name].item()
        other = ours(goes_on.parameters(), **options)
        other.load_state_dict(state)
        same(train(goes_on, other, 3), expected)
        pickled = pickle.loads(pickle.dumps(ours(net().parameters(), **options)))
        pickled.__setstate__({"state": {}, "param_groups": [{"params": [], "lr": 0.1}], "defaults": {"lr": 0.1}})
        assert pickled.param_groups[0]["differentiable"] is False


@each
def test_names_of_parameters_travel(ours, torchs, options):
    named, plain = net(), net()
    one, two = ours(named.named_parameters(), **options), ours(plain.parameters(), **options)
    names = [name for name, _ in named.named_parameters()]
    train(named, one, 2)
    train(plain, two, 2)
    assert one.state_dict()["param_groups"][0]["param_names"] == names
    file = io.BytesIO()
    torch.save(one.state_dict(), file)
    file.seek(0)
    two.load_state_dict(torch.load(file, weights_only=True))
    assert two.param_groups[0]["param_names"] == names
    without = ours(plain.parameters(), **options).state_dict()
    one.load_state_dict(without)
    assert one.param_groups[0]["param_names"] == names  # those that it has, where the state has none
    reference = torchs(named.named_parameters(), **options)
    reference.load_state_dict(copy.deepcopy(two.state_dict()))
    one.load_state_dict(copy.deepcopy(reference.state_dict()))
    same(train(named, one, 2), train(plain, two, 2))


@each
def test_a_state_of_another_number_of_groups_or_parameters_is_refused(ours, torchs, options):
    state = ours(net().parameters(), **options).state_dict()
    few, parts = ours([nn.Parameter(torch.ones(1))], **options), [{"params": [p]} for p in net().parameters()]
    with pytest.raises(ValueError, match="doesn't match the size of optimizer's group"):
        few.load_state_dict(state)
    with pytest.raises(ValueError, match="different number of parameter groups"):
        ours(parts, **options).load_state_dict(state)
    state["param_groups"][0]["lr"] = 7.0
    assert few.param_groups[0]["lr"] != 7.0
    assert not few._optimizer_load_state_dict_pre_hooks  # those that loading needs are gone whatever comes of it
    assert not few._optimizer_load_state_dict_post_hooks


# Gradients


@pytest.mark.parametrize("complex_", [False, True])
@each
def test_gradients_flow_through_differentiable_steps(ours, torchs, options, complex_):
    """Through two steps to the parameter, both gradients and hyperparameters; values are torch's."""
    generator = torch.Generator().manual_seed(0)
    dtype = torch.complex128 if complex_ else torch.float64
    p, one, two = (torch.randn(3, generator=generator, dtype=dtype).requires_grad_() for _ in range(3))
    lr = torch.tensor(0.1, dtype=torch.float64, requires_grad=True)
    weight_decay = torch.tensor(0.2, dtype=torch.float64, requires_grad=True)

    def steps(make, p, one, two, lr, weight_decay):
        p = p.clone()
        given = {**options, "lr": lr, "weight_decay": weight_decay, "eps": 1e-3}
        given = given if make not in (optim.SGD, torch.optim.SGD) else {k: v for k, v in given.items() if k != "eps"}
        optimizer = make([p], **given, differentiable=True)
        for grad in (one, two):
            p.grad = grad
            optimizer.step()
        carried = [v for name, v in optimizer.state[p].items() if name != "step" and v.requires_grad]
        assert float(optimizer.state[p].get("step", 2)) == 2
        return p, *carried

    inputs = (p, one, two, lr, weight_decay)
    assert gradcheck(lambda *given: steps(ours, *given), inputs)
    plain = (p, one, two, 0.1, 0.2)
    # torch counts in float32 here
    same(steps(ours, *plain)[0].detach(), steps(torchs, *plain)[0].detach(), rtol=1e-5, atol=1e-6)


def test_a_learning_rate_is_learned_through_an_unrolled_run():
    """The derivative of the loss after five steps by the learning rate, against a difference quotient."""

    def after(lr):
        w = torch.tensor([1.0, -2.0], dtype=torch.float64, requires_grad=True) * 1.0
        optimizer = optim.Adam([w], lr=lr, differentiable=True)
        for _ in range(5):
            here = w.clone()  # the step writes into w itself
            (w.grad,) = torch.autograd.grad((here**4).sum() + here.prod(), here, create_graph=True)
            optimizer.step()
        return (w**4).sum()

    lr = torch.tensor(0.1, dtype=torch.float64, requires_grad=True)
    (found,) = torch.autograd.grad(after(lr), lr)
    quotient = (after(0.1 + 1e-6) - after(0.1 - 1e-6)) / 2e-6
    assert found.item() == pytest.approx(quotient.item(), rel=1e-4)


def test_differentiable_steps_say_what_they_do_not_go_with():
    p = torch.ones(2, requires_grad=True)
    for option in ({"clip_norm": 1.0}, {"skip_nonfinite": True}):
        with pytest.raises(ValueError, match="differentiable=True does not support"):
            optim.Adam([p.clone()], differentiable=True, **option)
    optimizer = optim.Adam([p], differentiable=True)
    p.grad = torch.ones(2)
    with pytest.raises(RuntimeError, match="a leaf Variable that requires grad is being used in an in-place operation"):
        optimizer.step()  # as torch's


SPARSE = [
    (optim.SGD, torch.optim.SGD, {"lr": 0.1}),
    (optim.SGD, torch.optim.SGD, {"lr": 0.1, "maximize": True}),
    (optim.SGD, torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "dampening": 0.2}),
    (optim.SGD, torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    (optim.AdaGrad, torch.optim.Adagrad, {"lr": 0.1}),
    (optim.AdaGrad, torch.optim.Adagrad, {"lr": 0.1, "lr_decay": 0.1, "initial_accumulator_value": 0.1}),
]


def embed(optimizer, embedding, steps=6):
    for i in range(steps):
        optimizer.zero_grad()
        embedding(torch.tensor([1, 2, 2, (3 * i) % 10])).square().sum().backward()
        optimizer.step()
    return embedding.weight.detach().clone()


@pytest.mark.parametrize(("ours", "torchs", "options"), SPARSE)
@pytest.mark.parametrize("engine", ["auto", "foreach"])
def test_sparse_gradients_are_stepped_as_torchs(ours, torchs, options, engine):
    def embedding(sparse=True):
        torch.manual_seed(0)
        return nn.Embedding(10, 3, sparse=sparse).double()

    one, two, three = embedding(), embedding(), embedding(sparse=False)
    tested, reference = ours(one.parameters(), engine=engine, **options), torchs(two.parameters(), **options)
    expected = embed(reference, two)
    same(embed(tested, one), expected)
    same(embed(ours(three.parameters(), **options), three), expected)
    goes_on = ours(two.parameters(), **options)  # from a state of torch's, whose momentum is sparse
    goes_on.load_state_dict(reference.state_dict())
    same(embed(goes_on, two, 3), embed(tested, one, 3))
    clipped, by_hand = embedding(), embedding(sparse=False)
    embed(ours(clipped.parameters(), clip_norm=0.5, **options), clipped)
    embed(ours(by_hand.parameters(), clip_norm=0.5, **options), by_hand)
    same(clipped.weight.detach(), by_hand.weight.detach())


def test_of_a_sparse_gradient_only_the_rows_are_read():
    p = nn.Parameter(torch.zeros(1_000_000, 1))
    for make in (optim.SGD, optim.AdaGrad):
        optimizer = make([p], lr=1.0)
        p.grad = torch.sparse_coo_tensor([[3, 7]], torch.ones(2, 1), p.shape)
        optimizer.step()
        with torch.autograd.profiler.profile(profile_memory=True) as seen:
            optimizer.step()
        assert max(event.cpu_memory_usage for event in seen.function_events) < 100_000


def test_a_sparse_gradient_of_vectors_of_several_dimensions_and_its_average():
    p, q = (nn.Parameter(torch.ones(4, 3, 2, dtype=torch.complex64)) for _ in range(2))
    values = torch.arange(4).to(torch.complex64).view(2, 2) * (1 + 1j)
    p.grad = torch.sparse_coo_tensor([[0, 2], [1, 1]], values, (4, 3, 2))
    q.grad = p.grad.to_dense()
    averages = [Average([t], Polyak()) for t in (p, q)]
    for t, average in zip((p, q), averages, strict=True):
        optimizer = optim.AdaGrad([t], lr=0.1, average=average)
        optimizer.step()
        optimizer.step()
    same(p.detach(), q.detach(), rtol=1e-6, atol=1e-7)
    same(*(next(iter(average.means.values())) for average in averages), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("make", [optim.Adadelta, optim.RMSProp, optim.Adam, optim.AdamW, optim.NAdam])
def test_where_sparse_gradients_gain_nothing_the_line_says_what_to_do(make):
    embedding = nn.Embedding(5, 2, sparse=True)
    before = embedding.weight.detach().clone()
    optimizer = make(embedding.parameters())
    with pytest.raises(RuntimeError, match=f"{make.__name__} does not support sparse gradients.*sparse=False"):
        embed(optimizer, embedding, 1)
    with pytest.raises(RuntimeError, match="weight_decay option is not compatible with sparse gradients"):
        embed(optim.AdaGrad(embedding.parameters(), weight_decay=0.1), embedding, 1)
    assert torch.equal(embedding.weight, before)
    assert not optimizer.state


@each
def test_complex_parameters_are_pairs_of_real_ones(ours, torchs, options):
    generator = torch.Generator().manual_seed(1)
    z = nn.Parameter(torch.randn(2, 2, generator=generator, dtype=torch.complex128))
    w, re, im = (nn.Parameter(t.detach().clone()) for t in (z, z.real, z.imag))
    options = {**options, "weight_decay": 0.1}
    optimizers = [ours([z], **options), torchs([w], **options), ours([re, im], **options)]
    for _ in range(5):
        z.grad = torch.randn(2, 2, generator=generator, dtype=torch.complex128)
        w.grad, re.grad, im.grad = z.grad, z.grad.real, z.grad.imag
        for optimizer in optimizers:
            optimizer.step()
    same(z.detach(), w.detach())
    same(z.detach(), torch.complex(re.detach(), im.detach()))


@each
def test_nothing_moves_without_a_gradient_or_by_a_zero_one(ours, torchs, options):
    frozen = torch.ones(2, 3)
    assert ours([frozen], **options).step(lambda: torch.tensor([1])) == 1
    assert torch.equal(frozen, torch.ones(2, 3))
    p, nothing = nn.Parameter(torch.ones(5)), nn.Parameter(torch.empty(0, 3))
    optimizer = ours([{"params": [p, nothing]}, {"params": []}], **{**options, "weight_decay": 0.0})
    for _ in range(2):
        p.grad, nothing.grad = torch.zeros(5), torch.empty(0, 3)
        optimizer.step()
    assert torch.equal(p.detach(), torch.ones(5))


def test_a_step_of_lbfgs_without_any_gradient_is_none():
    for given in (torch.ones(3), torch.ones(3, requires_grad=True)):
        optimizer = optim.LBFGS([given], tolerance_grad=-torch.inf, tolerance_change=-1)
        before = given.detach().clone()
        for closure in (lambda: torch.tensor([1.0]), lambda: (torch.ones(2, requires_grad=True) ** 2).sum() / 2):
            with pytest.warns(RuntimeWarning, match="the step changes nothing"):
                assert optimizer.step(closure) == 1
            assert torch.equal(given, before)
            assert optimizer.report.iterations == 0
    optimizer = optim.LBFGS([given], tolerance_grad=-torch.inf, max_iter=50)
    assert optimizer.step(lambda: (given - 2).square().sum()) < 1e-9
    with pytest.raises(ValueError, match="Invalid tolerance_grad: nan"):
        optim.LBFGS([given], tolerance_grad=torch.nan)


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("engine", ["auto", "foreach"])
def test_the_first_momentum_gradient_enters_whole_whenever_it_comes(nesterov, engine):
    def ends(make, **options):
        model = net()
        optimizer = make(model.parameters(), lr=0.05, dampening=0.5, **options)
        train(model, optimizer, 3)
        optimizer.param_groups[0].update(momentum=0.9, nesterov=nesterov, dampening=0.0 if nesterov else 0.5)
        train(model, optimizer, 3)
        optimizer.param_groups[0].update(momentum=0.0, nesterov=False)
        train(model, optimizer, 1)
        optimizer.param_groups[0].update(momentum=0.9)  # goes on from the velocity that there was
        return train(model, optimizer, 2)

    same(ends(optim.SGD, engine=engine), ends(torch.optim.SGD))


def test_a_velocity_that_was_saved_as_none_is_none():
    """As older states of torch's have it."""

    def goes_on(make):
        model = net()
        optimizer = make(model.parameters(), lr=0.05, momentum=0.9, dampening=0.5)
        state = optimizer.state_dict()
        state["state"] = {i: {"momentum_buffer": None} for i in state["param_groups"][0]["params"]}
        optimizer.load_state_dict(state)
        return train(model, optimizer, 3)

    same(goes_on(optim.SGD), goes_on(torch.optim.SGD))


# The object


@each
def test_it_prints_copies_and_is_collected_as_torchs(ours, torchs, options):
    model = net()
    optimizer = ours(model.parameters(), **options)
    train(model, optimizer, 1)
    printed = repr(optimizer)
    assert printed.startswith(ours.__name__)
    assert "Parameter Group 0" in printed
    assert "lr: " in printed

    def public(one):
        return {name for name in vars(one) if not name.startswith("_")}

    assert public(optimizer) == public(copy.deepcopy(optimizer)) == public(pickle.loads(pickle.dumps(optimizer)))
    scheduled = copy.deepcopy(optimizer)
    torch.optim.lr_scheduler.LambdaLR(scheduled, lambda t: 0.9**t)  # which puts a step of its own in its place
    pickle.loads(pickle.dumps(scheduled)).step()
    gc.collect()
    gc.disable()
    try:
        gone = []
        weakref.finalize(optimizer, gone.append, True)
        del optimizer
        assert gone  # by its last name, without a search for cycles
    finally:
        gc.enable()


@each
def test_a_step_is_profiled_and_hooked_for_all_optimizers(ours, torchs, options):
    calls, model = [], net()
    optimizer = ours(model.parameters(), **options)
    hooks = [
        register_optimizer_step_pre_hook(lambda o, a, k: calls.append("before")),
        register_optimizer_step_post_hook(lambda o, a, k: calls.append("after")),
    ]
    try:
        with torch.autograd.profiler.profile() as seen:
            train(model, optimizer, 1)
    finally:
        for hook in hooks:
            hook.remove()
    assert calls == ["before", "after"]
    assert {f"Optimizer.step#{ours.__name__}.step", f"Optimizer.zero_grad#{ours.__name__}.zero_grad"} <= {
        event.name for event in seen.function_events
    }


@each
def test_float64_by_default_counts_steps_in_float64(ours, torchs, options):
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        models = net(), net()
        makes = [make(model.parameters(), **options) for make, model in zip((ours, torchs), models, strict=True)]
        same(*(train(model, optimizer, 3) for model, optimizer in zip(models, makes, strict=True)), rtol=1e-12, atol=0)
        assert makes[0].state[models[0][0].weight]["step"].dtype == torch.float64
    finally:
        torch.set_default_dtype(before)


@each
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_capturable_step_is_the_step(ours, torchs, options, dtype):
    """Whose counts are tensors beside the parameters; torch's own needs an accelerator for it."""
    one, two = net(dtype), net(dtype)
    optimizer = ours(one.parameters(), **options, weight_decay=0.1, capturable=True)
    rate = torch.tensor(float(optimizer.param_groups[0]["lr"]))
    optimizer.param_groups[0]["lr"] = rate
    expected = train(two, torchs(two.parameters(), **options, weight_decay=0.1))
    same(train(one, optimizer), expected, rtol=2e-4, atol=1e-5)
    again = ours(one.parameters(), **options)
    again.load_state_dict(optimizer.state_dict())
    assert again.param_groups[0]["capturable"]


def test_lbfgs_has_the_arguments_of_torchs():
    reference = list(inspect.signature(torch.optim.LBFGS).parameters)
    assert list(inspect.signature(optim.LBFGS).parameters)[: len(reference)] == reference
    for ours, torchs, _ in PAIRS.values():
        own = inspect.signature(ours)
        first = [n for n, p in inspect.signature(torchs).parameters.items() if p.kind == p.POSITIONAL_OR_KEYWORD]
        model = net()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for name in first[1:]:
                default = inspect.signature(torchs).parameters[name].default
                ours(model.parameters(), **{name: default})  # each by its name
                if name in own.parameters:
                    assert own.parameters[name].default == default, name
    assert loss_of(net()).isfinite()


def test_the_optimizer_of_a_rule_is_copied_with_its_rule():
    p = nn.Parameter(torch.ones(2))
    optimizer = OfRule([p], RULES["nesterov"], {"lr": 0.1})
    for other in (copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))):
        (q,) = other.param_groups[0]["params"]
        q.grad = torch.ones(2)
        other.step()
        assert q[0] < 1
