"""Statistics in, statistics out: stacked models, each with its own, are as good as separate ones; compiled, too."""

import pytest
import torch
from torch import nn
from torch.func import grad, grad_and_value, jacrev, stack_module_state, vmap

from thalweg.normalization import BatchNorm, Statistics, batch_norm, stateless_call

K, N = 4, 12


def mlp(norm):
    return nn.Sequential(nn.Linear(3, 5), norm(5), nn.Tanh(), nn.Linear(5, 1))


def images(norm):
    return nn.Sequential(nn.Conv2d(1, 4, 3), norm(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 1))


NORMS = {
    "plain": BatchNorm,
    "cumulative": lambda c: BatchNorm(c, momentum=None),
    "ghost": lambda c: BatchNorm(c, ghost=5),
    "batch alone": lambda c: BatchNorm(c, track_running_stats=False),
}


def made(build, norm, dtype=torch.float64):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return [build(norm).to(dtype) for _ in range(K)]


def batches(build, steps=3, dtype=torch.float64):
    shape = (3,) if build is mlp else (1, 4, 4)
    return torch.randn(steps, K, N, *shape, dtype=dtype, generator=torch.Generator().manual_seed(1))


def loss_of(model, training=True):
    def loss(params, buffers, x):
        y, new = stateless_call(model.train(training), {**params, **buffers}, (x,))
        return y.exp().mean(), new

    return loss


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("build", [mlp, images])
def test_lanes_are_separate_models(build, norm):
    models = made(build, NORMS[norm])
    params, buffers = stack_module_state(models)
    before = {name: value.clone() for name, value in models[0].state_dict().items()}
    stacked = vmap(grad_and_value(loss_of(models[0]), has_aux=True))
    xs = batches(build)
    rows = []
    for x in xs:
        given = {name: value.clone() for name, value in buffers.items()}
        grads, (losses, new) = stacked(params, buffers, x)
        assert all(torch.equal(given[name], value) for name, value in buffers.items())  # nothing in place
        buffers = new
        params = {name: (p - 0.1 * grads[name]).detach() for name, p in params.items()}
        rows.append((grads, losses))
    assert all(torch.equal(before[name], value) for name, value in models[0].state_dict().items())
    evaluated, _ = vmap(loss_of(models[0], training=False))(params, buffers, xs[0])
    for k, model in enumerate(models):
        model.train()
        for x, (grads, losses) in zip(xs, rows, strict=True):
            loss = model(x[k]).exp().mean()
            named = dict(model.named_parameters())
            found = dict(zip(named, torch.autograd.grad(loss, list(named.values())), strict=True))
            torch.testing.assert_close(losses[k], loss.detach())
            for name, value in found.items():
                torch.testing.assert_close(grads[name][k], value)
                named[name].data.sub_(0.1 * value)
        for name, value in model.named_buffers():
            torch.testing.assert_close(buffers[name][k], value)
        torch.testing.assert_close(evaluated[k], model.eval()(xs[0, k]).exp().mean().detach())


def test_torchs_own_module_takes_part():
    models = made(mlp, nn.BatchNorm1d)
    params, buffers = stack_module_state(models)
    x = batches(mlp)[0]
    _, new = vmap(loss_of(models[0]))(params, buffers, x)
    for k, model in enumerate(models):
        model(x[k])
        for name, value in model.named_buffers():
            torch.testing.assert_close(new[name][k], value)


def test_statistics_that_all_lanes_start_from_need_not_be_stacked():
    x, start = batches(mlp)[0], Statistics.fresh(3, torch.float64)
    momenta = torch.linspace(0.1, 0.9, K, dtype=torch.float64)
    y, new = vmap(lambda x, m: batch_norm(x, start, training=True, momentum=m))(x, momenta)
    for k in range(K):
        alone, statistics = batch_norm(x[k], start, training=True, momentum=momenta[k].item())
        torch.testing.assert_close(y[k], alone)
        torch.testing.assert_close(new.mean[k], statistics.mean)
        torch.testing.assert_close(new.var[k], statistics.var)


@pytest.mark.parametrize("ghost", [None, 5])
def test_second_derivatives_in_lanes(ghost):
    def value(γ, x):
        return batch_norm(x, None, γ, training=True, ghost=ghost)[0].exp().mean()

    x, γ = batches(mlp)[0], torch.rand(K, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    hessians = vmap(jacrev(grad(value)))(γ, x)
    for k in range(K):
        torch.testing.assert_close(hessians[k], torch.autograd.functional.hessian(lambda g, k=k: value(g, x[k]), γ[k]))


@pytest.mark.parametrize("norm", NORMS)
def test_compiled_in_one_piece(norm):
    """Without kernels: that the graph has no break is what counts here."""
    model = made(mlp, NORMS[norm], torch.float32)[0]
    other = made(mlp, NORMS[norm], torch.float32)[0]
    whole = torch.compile(model, fullgraph=True, backend="eager")
    for x in batches(mlp, dtype=torch.float32)[:, 0]:
        torch.testing.assert_close(whole(x), other(x))
    for a, b in zip(model.buffers(), other.buffers(), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("norm", ["plain", "ghost"])
def test_lanes_compiled_in_one_piece(norm):
    """With sizes that may change: so torch compiles a second task of the same process."""
    models = made(lambda norm: nn.Sequential(norm(3), nn.Linear(3, 1)), NORMS[norm], torch.float32)
    params, buffers = stack_module_state(models)
    x = batches(mlp, dtype=torch.float32)[0]
    for training in (True, False):
        stacked = vmap(grad_and_value(loss_of(models[0], training), has_aux=True))
        whole = torch.compile(stacked, fullgraph=True, backend="eager", dynamic=True)
        torch.testing.assert_close(whole(params, buffers, x), stacked(params, buffers, x))
