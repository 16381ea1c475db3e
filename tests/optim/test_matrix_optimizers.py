"""Optimizers of matrices: as torch's where it has one, and by torch's conventions, with AdamW for what is no matrix."""

import copy
import json
import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from thalweg.averaging import EMA, Average
from thalweg.optim import SOAP, AdamW, Muon, Shampoo

MADE = {
    "Muon": Muon,
    "SOAP": partial(SOAP, precondition_frequency=3),
    "Shampoo": partial(Shampoo, precondition_frequency=3),
}
PUBLISHED = json.loads((Path(__file__).parents[1] / "reference" / "published_matrices.json").read_text())
SHAPES = [(8, 8), (8, 8), (16, 6), (5, 12), (1, 7), (7, 1)]


def parameters(shapes, dtype=torch.float32):
    draws = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(shape, generator=draws, dtype=torch.float64).to(dtype)) for shape in shapes]


def trained(make, shapes, steps=6, dtype=torch.float32):
    params = parameters(shapes, dtype)
    optimizer = make(params)
    targets = [p.detach().flip(0) + 1 for p in params]
    for _ in range(steps):
        for p, target in zip(params, targets, strict=True):
            p.grad = (p.detach() - target) * (1 + 0.3 * torch.sin(3 * p.detach()))
        optimizer.step()
    return params, optimizer


@pytest.mark.parametrize(
    "options",
    [{}, {"adjust_lr_fn": "match_rms_adamw", "nesterov": False}, {"lr": 0.02, "weight_decay": 0.3, "ns_steps": 3}],
    ids=["defaults", "Moonshot's", "three iterations"],
)
def test_muon_is_torchs_over_200_steps(options):
    ours, _ = trained(lambda p: Muon(p, ns_dtype="bfloat16", **options), SHAPES, 200)
    theirs, _ = trained(lambda p: torch.optim.Muon(p, **options), SHAPES, 200)
    for one, two in zip(ours, theirs, strict=True):  # a number that is rounded to bfloat16 may go either way
        torch.testing.assert_close(one, two, rtol=0, atol=0.02)
        assert (one - two).abs().median() < 1e-4


def test_a_state_of_torchs_muon_goes_on_and_the_other_way_about():
    params, theirs = trained(lambda p: torch.optim.Muon(p, lr=0.02), SHAPES)
    copies = [nn.Parameter(p.detach().clone()) for p in params]
    ours = Muon(copies, ns_dtype="bfloat16")
    ours.load_state_dict(copy.deepcopy(theirs.state_dict()))  # as from a file: tensors would be shared
    assert [(group["lr"], group["partner"]) for group in ours.param_groups] == [(0.02, False)]
    for p, q in zip(params, copies, strict=True):
        q.grad = p.grad.clone()
    theirs.step(), ours.step()
    for p, q in zip(params, copies, strict=True):
        torch.testing.assert_close(q, p, rtol=0, atol=1e-6)
    theirs.load_state_dict(ours.state_dict())
    theirs.step()


@pytest.mark.parametrize("name", PUBLISHED)
def test_soap_and_shampoo_are_those_of_their_authors_over_200_steps(name):
    """The table has the weights of other implementations, float32, after these steps of gradients that are drawn."""
    entry = PUBLISHED[name]
    draws = np.random.default_rng(entry["seed"])
    p = nn.Parameter(torch.tensor(draws.standard_normal(entry["shape"]), dtype=torch.float32))
    settings = {k: tuple(v) if isinstance(v, list) else v for k, v in entry["settings"].items()}
    optimizer = (SOAP if name.startswith("SOAP") else Shampoo)([p], **settings)
    found = []
    for t, grad in enumerate(draws.standard_normal((200, *entry["shape"])), start=1):
        p.grad = torch.tensor(grad, dtype=torch.float32)
        optimizer.step()
        if t in (1, 2, 3, 12, 50, 200):
            found.append(p.detach().flatten().tolist())
    np.testing.assert_allclose(found, entry["weights"], rtol=0, atol=5e-5)


@pytest.mark.parametrize("make", MADE.values(), ids=MADE)
def test_what_is_no_matrix_is_stepped_by_adamw(make):
    shapes = [(3, 4), (4,), (), (2, 3, 3)]
    params, optimizer = trained(lambda p: make(p, lr=0.02, adamw_lr=0.01, adamw_weight_decay=0.1), shapes)
    alone, _ = trained(lambda p: AdamW(p, lr=0.01, weight_decay=0.1), shapes)
    assert [torch.equal(one, two) for one, two in zip(params, alone, strict=True)] == [False, True, True, False]
    assert [(g["lr"], g["partner"], len(g["params"])) for g in optimizer.param_groups] == [
        (0.02, False, 2),
        (0.01, True, 2),
    ]


@pytest.mark.parametrize("make", MADE.values(), ids=MADE)
def test_a_group_says_who_steps_it(make):
    matrix, other, vector = parameters([(2, 3), (2, 3), (3,)])
    named = [("matrix", matrix), ("vector", vector)]
    optimizer = make(
        [{"params": named, "weight_decay": 0.0}, {"params": [("other", other)], "partner": True, "lr": 0.5}]
    )
    assert [g["param_names"] for g in optimizer.param_groups] == [["matrix"], ["vector"], ["other"]]
    assert [g["partner"] for g in optimizer.param_groups] == [False, True, True]
    assert [g["weight_decay"] for g in optimizer.param_groups] == [0.0, 0.0, 0.01]
    assert optimizer.param_groups[2]["lr"] == 0.5


@pytest.mark.parametrize("make", MADE.values(), ids=MADE)
@pytest.mark.parametrize(
    ("group", "words"),
    [
        (lambda: {"params": parameters([(3, 2), (4,)]), "partner": False}, r"parameter 1 of .* is float32 \(4,\)"),
        (lambda: {"params": parameters([()]), "partner": False}, r"parameter 0 of a group with partner=False"),
        (lambda: {"params": parameters([(3, 2)]), "partner": "adamw"}, "Invalid partner: 'adamw': give True or False"),
        (lambda: {"params": parameters([(3, 2)]), "adamw_lr": -1.0}, "Invalid adamw_lr value: -1.0"),
        (lambda: {"params": parameters([(3, 2)]), "adamw_betas": (0.9, 1.0)}, "Invalid beta parameter at index 1: 1.0"),
        (lambda: {"params": parameters([(3, 2)]), "adamw_betas": 0.9}, "Invalid adamw_betas: 0.9: give two numbers"),
    ],
)
def test_a_group_that_cannot_be_is_one_line_and_leaves_the_optimizer_as_it_is(make, group, words):
    with pytest.raises(ValueError, match=words) as caught:
        make([group()])
    assert "\n" not in str(caught.value)
    optimizer = make(parameters([(2, 2)]))
    with pytest.raises(ValueError, match=words):
        optimizer.add_param_group(group())
    assert len(optimizer.param_groups) == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"ns_steps": 0}, "Invalid ns_steps: 0: give a whole number of at least 1"),
        ({"ns_coefficients": (1, 2)}, r"Invalid ns_coefficients: \(1, 2\): give three numbers"),
        ({"adjust_lr_fn": "moonshot"}, "Invalid adjust_lr_fn: 'moonshot': choose None, original, match_rms_adamw"),
        ({"ns_dtype": "float16"}, "Invalid ns_dtype: 'float16': choose auto, bfloat16, float32"),
        ({"differentiable": True}, "differentiable=True is not supported by Muon"),
    ],
)
def test_settings_of_muon_that_cannot_be(options, words):
    with pytest.raises(ValueError, match=words):
        Muon(parameters([(2, 2)]), **options)


@pytest.mark.parametrize("make", [SOAP, Shampoo])
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"precondition_frequency": 0}, "Invalid precondition_frequency: 0: give a whole number of at least 1"),
        ({"precondition_frequency": 2.5}, "Invalid precondition_frequency: 2.5"),
        ({"max_precond_dim": 0}, "Invalid max_precond_dim: 0"),
        ({"betas": (1.0, 0.9)}, "Invalid beta parameter at index 0: 1.0"),
        ({"capturable": True}, "capturable=True is not supported by"),
    ],
)
def test_settings_of_a_refresh_that_cannot_be(make, options, words):
    with pytest.raises(ValueError, match=words):
        make(parameters([(2, 2)]), **options)


def test_what_is_grafted_is_named_and_sums_are_of_shampoo_alone():
    with pytest.raises(ValueError, match="Invalid graft: 'adagrad': choose adam, sgd, none"):
        Shampoo(parameters([(2, 2)]), graft="adagrad")
    assert Shampoo(parameters([(2, 2)]), betas=(0.9, 1.0)).param_groups[0]["betas"] == (0.9, 1.0)
    with pytest.raises(ValueError, match="Invalid beta parameter at index 1: 1.0"):
        SOAP(parameters([(2, 2)]), betas=(0.9, 1.0))


@pytest.mark.parametrize("make", MADE.values(), ids=MADE)
def test_a_matrix_that_cannot_be_stepped_is_one_line_and_nothing_changes(make):
    sound, complex_one, sparse, other = parameters([(2, 3), (2, 3), (2, 3), (2, 3)])
    complex_one = nn.Parameter(complex_one.detach().to(torch.complex64))
    for p, grad, words in (
        (complex_one, torch.ones_like(complex_one), "real matrices are stepped that are whole"),
        (sparse, torch.ones(2, 3).to_sparse(), "does not support sparse gradients"),
    ):
        optimizer, before = make([sound, p]), sound.detach().clone()
        sound.grad, p.grad = torch.ones(2, 3), grad
        with pytest.raises(RuntimeError, match=words) as caught:
            optimizer.step()
        assert "\n" not in str(caught.value)
        assert torch.equal(sound, before)
    optimizer, before = make([other]), other.detach().clone()
    other.grad = torch.ones(2, 3)
    optimizer.step()
    for name, value in list(optimizer.state[other].items()):
        if value.dim():
            optimizer.state[other][name] = value.new_zeros(5, 7)
            with pytest.raises(RuntimeError, match=f"its state '{name}' is float32 .5, 7. on cpu; load the state"):
                optimizer.step()
            optimizer.state[other][name] = value
    optimizer.step()


@pytest.mark.parametrize("make", MADE.values(), ids=MADE)
def test_memory_in_any_order_and_convolutions_are_stepped_as_plain_matrices_are(make):
    def stepped(p, grads):
        optimizer = make([p], lr=0.02)
        for grad in grads:
            p.grad = grad.to(memory_format=torch.channels_last) if grad.dim() == 4 and p.is_contiguous() else grad
            optimizer.step()
        return p.detach()

    draws = torch.Generator().manual_seed(1)
    grads = list(torch.randn(4, 6, 3, 2, 2, generator=draws).unbind())
    start = torch.randn(6, 3, 2, 2, generator=draws)
    plain = stepped(nn.Parameter(start.flatten(1).clone()), [g.flatten(1) for g in grads])
    others = [start.clone(), start.clone(memory_format=torch.channels_last)]
    for other in others:
        torch.testing.assert_close(stepped(nn.Parameter(other), grads).flatten(1), plain)
    turned = nn.Parameter(start.flatten(1).T.clone().T)
    torch.testing.assert_close(stepped(turned, [g.flatten(1) for g in grads]), plain)
    doubled = nn.Parameter(start.flatten(1).repeat_interleave(2, 1)[:, ::2])
    torch.testing.assert_close(stepped(doubled, [g.flatten(1) for g in grads]), plain)


@pytest.mark.parametrize("make", MADE.values(), ids=MADE)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_run_that_is_saved_and_loaded_goes_on_bit_for_bit(make, dtype):
    shapes = [(4, 3), (4, 3), (5,), (0, 3), (2, 1, 2, 2)]
    draws = torch.Generator().manual_seed(2)
    grads = [[torch.randn(shape, generator=draws).to(dtype) for shape in shapes] for _ in range(24)]

    def go_on(params, optimizer, part):
        for row in part:
            for p, grad in zip(params, row, strict=True):
                p.grad = grad.clone()
            optimizer.step()

    whole = parameters(shapes, dtype)
    go_on(whole, make(whole, lr=0.02), grads)
    first = parameters(shapes, dtype)
    optimizer = make(first, lr=0.02)
    go_on(first, optimizer, grads[:13])
    held = copy.deepcopy(optimizer.state_dict())
    rest = [nn.Parameter(p.detach().clone()) for p in first]
    again = make(rest, lr=0.5)
    again.load_state_dict(held)
    go_on(rest, again, grads[13:])
    assert all(torch.equal(one, two) for one, two in zip(whole, rest, strict=True))
    assert all(v.dtype == torch.float32 for state in again.state.values() for v in state.values())
    go_on(first, copy.deepcopy(optimizer), [])
    assert all(p.isfinite().all() for p in whole)


@pytest.mark.parametrize("make", MADE.values(), ids=MADE)
def test_the_options_of_all_optimizers_hold_for_matrices(make):
    draws = torch.Generator().manual_seed(3)
    grads = torch.randn(5, 4, 3, generator=draws)

    def run(sign=1.0, scale=1.0, bad=None, **options):
        p = nn.Parameter(torch.ones(4, 3))
        average = Average([p], EMA(0.5)) if options.pop("averages", False) else None
        optimizer = make([p], lr=0.02, average=average, **options)
        for i, grad in enumerate(grads):
            p.grad = sign * scale * grad
            if i == bad:
                p.grad[0, 0] = math.nan
            optimizer.step()
        return p.detach(), optimizer

    plain, _ = run()
    torch.testing.assert_close(run(sign=-1.0, maximize=True)[0], plain)
    unit = [grad / (grad.norm() + 1e-6) for grad in grads]
    clipped, optimizer = run(clip_norm=1.0)
    p = nn.Parameter(torch.ones(4, 3))
    reference = make([p], lr=0.02)
    for grad in unit:
        p.grad = grad
        reference.step()
    torch.testing.assert_close(clipped, p.detach(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(optimizer.gradient_norm, grads[-1].norm())
    kept, optimizer = run(bad=2, skip_nonfinite=True)
    assert optimizer.skipped == 1
    assert kept.isfinite().all()
    averaged, optimizer = run(averages=True)
    torch.testing.assert_close(averaged, plain)
    assert not torch.equal(optimizer.average.mean_of(optimizer.param_groups[0]["params"][0]), plain)


@pytest.mark.parametrize("make", MADE.values(), ids=MADE)
def test_schedulers_change_both_rates_and_a_closure_is_called(make):
    params = parameters([(3, 3), (3,)])
    optimizer = make(params, lr=0.1, adamw_lr=0.01)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)

    def closure():
        optimizer.zero_grad()
        loss = sum(p.square().sum() for p in params)
        loss.backward()
        return loss

    first = optimizer.step(closure)
    schedule.step()
    assert [group["lr"] for group in optimizer.param_groups] == [0.05, 0.005]
    for _ in range(12):
        last = optimizer.step(closure)
    assert last < first
