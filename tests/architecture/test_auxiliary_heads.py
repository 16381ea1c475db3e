"""Heads add their losses and leave the model's output alone; what is stripped is the model as it was."""

import copy
import io
import pickle

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from thalweg import diagnose
from thalweg.architecture import AuxiliaryHeads


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


X, Y = normal(6, 4), torch.tensor([0, 1, 2, 0, 1, 2])


def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3))


def own_heads():
    torch.manual_seed(1)
    return {"1": nn.Linear(8, 3), "3": nn.Sequential(nn.Tanh(), nn.Linear(8, 3))}


def hooks(module):
    return sum(len(m._forward_hooks) for m in module.modules())


def reference(bare, heads, weights, factor=1.0):
    """The loss and its gradients by the formula, without hooks."""
    loss, h = torch.zeros(()), X
    for i, layer in enumerate(bare):
        h = layer(h)
        if str(i) in heads:
            loss = loss + factor * weights[str(i)] * cross_entropy(heads[str(i)](h), Y)
    loss = loss + cross_entropy(h, Y)
    params = [*bare.parameters(), *(p for head in heads.values() for p in head.parameters())]
    return loss, torch.autograd.grad(loss, params, allow_unused=True)


@pytest.mark.parametrize("weight", [0.3, {"1": 0.5, "3": 0.1}])
@pytest.mark.parametrize(("decay", "factor"), [(None, 1.0), (8, 0.75), (lambda t: 0.5**t, 0.25), (2, 0.0)])
def test_loss_and_gradients_are_the_formula_s(weight, decay, factor):
    bare, given = model(), own_heads()
    heads = AuxiliaryHeads(model(), own_heads(), weight, decay)
    heads.advance(2)
    loss = heads.loss(heads(X), Y, cross_entropy)
    loss.backward()
    expected, grads = reference(
        bare, given, weight if isinstance(weight, dict) else dict.fromkeys(given, weight), factor
    )
    torch.testing.assert_close(loss, expected)
    for p, g in zip(heads.parameters(), grads, strict=True):
        torch.testing.assert_close(torch.zeros_like(p) if p.grad is None else p.grad, g)


def test_output_is_the_model_s_and_heads_rest_in_eval_mode():
    heads = AuxiliaryHeads(model(), own_heads())
    ran = []
    heads.heads[0].register_forward_hook(lambda *_: ran.append(1))
    assert torch.equal(heads(X), model()(X))
    assert ran == [1]
    heads.eval()
    output = heads(X)
    assert ran == [1]
    assert torch.equal(heads.loss(output, Y, cross_entropy), cross_entropy(output, Y))


def test_strip_gives_the_model_without_hooks():
    bare = model()
    heads = AuxiliaryHeads(bare, own_heads())
    output, count = heads(X), hooks(bare)
    assert (count, heads.strip() is bare, hooks(bare)) == (2, True, 0)
    assert torch.equal(bare(X), output)
    assert list(bare.state_dict()) == list(model().state_dict())
    with pytest.raises(RuntimeError, match=r"already stripped: keep the model that the first strip\(\) returned"):
        heads.strip()
    with pytest.raises(RuntimeError, match=r"were stripped: use the model that strip\(\) returned"):
        heads(X)


def test_strip_leaves_other_hooks_and_other_heads():
    bare = model()
    bare[1].register_forward_hook(lambda *_: None)
    first = AuxiliaryHeads(bare, ["1"], outputs=3)
    second = AuxiliaryHeads(bare, own_heads())
    first.strip()
    assert hooks(bare) == 3
    second.loss(second(X), Y, cross_entropy)


def test_layers_that_change_their_input_in_place_do_not_change_what_heads_see():
    bare = nn.Sequential(nn.Linear(4, 8), nn.ReLU(inplace=True), nn.Linear(8, 3))
    heads = AuxiliaryHeads(bare, {"0": nn.ReLU6()}, weight=1.0)
    expected = bare[0](X).clamp(0, 6).sum()
    total = heads.loss(heads(X), Y, lambda output, _: output.sum())
    torch.testing.assert_close(total - heads.model(X).sum(), expected)


def pyramid():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.5), nn.Linear(144, 3)
    )


def test_heads_made_here_average_over_positions():
    images = normal(6, 1, 6, 6)
    heads = AuxiliaryHeads(pyramid(), ["2", "3"], weight=1.0, outputs=3, probe=images[:2])
    assert [head[1].in_features for head in heads.heads] == [4, 144]
    assert int(heads.model[1].num_batches_tracked) == 0
    seen = heads.model[2](heads.model[1](heads.model[0](images)))
    linear = heads.heads[0][1]
    torch.testing.assert_close(heads.heads[0](seen), seen.mean(dim=(2, 3)) @ linear.weight.T + linear.bias)


def test_heads_made_here_are_of_the_model_s_precision():
    heads = AuxiliaryHeads(model().double(), ["1"], outputs=3)
    assert heads.loss(heads(X.double()), Y, cross_entropy).dtype == torch.float64


def test_first_batch_makes_what_a_probe_does_and_draws_nothing_else():
    def made(**options):
        return AuxiliaryHeads(model(), ["1", "3"], outputs=3, generator=torch.Generator().manual_seed(4), **options)

    probed, lazy = made(probe=X), made()
    optimizer = torch.optim.SGD(lazy.parameters(), lr=0.1)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    loss = lazy.loss(lazy(X), Y, cross_entropy)
    assert torch.equal(torch.get_rng_state(), before)
    state = {k: v.clone() for k, v in lazy.state_dict().items() if isinstance(v, torch.Tensor)}
    assert all(torch.equal(v, probed.state_dict()[k]) for k, v in state.items())
    assert not torch.equal(state["heads.0.1.weight"], state["heads.1.1.weight"])
    loss.backward()
    optimizer.step()
    assert not torch.equal(lazy.heads[0][1].weight, probed.heads[0][1].weight)


def test_state_and_step_come_back():
    heads = AuxiliaryHeads(model(), ["1"], outputs=3, decay=10, probe=X)
    heads.advance(4)
    file = io.BytesIO()
    torch.save(heads.state_dict(), file)
    file.seek(0)
    other = AuxiliaryHeads(model(), ["1"], outputs=3, decay=10)  # heads not yet made
    other.load_state_dict(torch.load(file, weights_only=True))
    assert (other.step, other.factor) == (4, 0.6)
    assert torch.equal(other.loss(other(X), Y, cross_entropy), heads.loss(heads(X), Y, cross_entropy))


@pytest.mark.parametrize("twin", [copy.deepcopy, lambda heads: pickle.loads(pickle.dumps(heads))])
def test_copies_stand_alone(twin):
    heads = AuxiliaryHeads(model(), own_heads())
    output = heads(X)  # its graph is not copied
    other = twin(heads)
    with torch.no_grad():
        for p in other.parameters():
            p.zero_()
    assert other.loss(other(X), Y, cross_entropy).item() == pytest.approx(1.6 * torch.tensor(3.0).log().item())
    bare = other.strip()
    assert (hooks(bare), hooks(heads.model)) == (0, 2)
    torch.testing.assert_close(
        heads.loss(output, Y, cross_entropy), reference(model(), own_heads(), {"1": 0.3, "3": 0.3})[0]
    )


@pytest.mark.parametrize("how", ["functional", "stacked", "compiled", "compiled stacked"])
def test_transforms_equal_the_plain_loss(how):
    heads = AuxiliaryHeads(model(), own_heads())
    named = {name: p.detach().clone() for name, p in heads.named_parameters()}
    doubled = {name: 2 * p for name, p in named.items()}

    def loss(named):
        return heads.loss(torch.func.functional_call(heads, named, (X,)), Y, cross_entropy)

    def by_hand(named):
        twin = copy.deepcopy(heads)
        twin.load_state_dict({**twin.state_dict(), **named})
        total = twin.loss(twin(X), Y, cross_entropy)
        total.backward()
        return {n: p.grad for n, p in twin.named_parameters()}, total.detach()

    gradient = torch.func.grad_and_value(loss)
    if how == "functional":
        results = [gradient(named), gradient(doubled)]
    elif how == "compiled":
        kernel = torch.compile(lambda x, y: heads.loss(heads(x), y, cross_entropy), backend="eager", fullgraph=True)
        torch.testing.assert_close(kernel(X, Y), by_hand(named)[1])
        return
    else:
        stacked = {name: torch.stack([named[name], doubled[name]]) for name in named}
        lanes = torch.func.vmap(gradient)
        if how == "compiled stacked":
            lanes = torch.compile(lanes, backend="aot_eager", fullgraph=True)
        grads, losses = lanes(stacked)
        results = [({n: g[i] for n, g in grads.items()}, losses[i]) for i in range(2)]
    for got, expected in zip(results, map(by_hand, (named, doubled)), strict=True):
        torch.testing.assert_close(got, expected)


@pytest.mark.parametrize(
    ("at", "options", "message"),
    [
        ({"5": nn.Identity()}, {}, r"no layer '5': choose among 0, 1, 2, 3, 4"),
        ([""], {"outputs": 3}, "no layer ''"),
        ([], {"outputs": 3}, "name at least one layer, and each only once"),
        (["1", "1"], {"outputs": 3}, "each only once"),
        (["1"], {}, "outputs is None: give the number"),
        ({"1": nn.Linear(8, 3)}, {"outputs": 3}, "omit it"),
        ({"1": nn.Linear(8, 3)}, {"weight": {"2": 0.3}}, r"weights are for \['2'\] and heads at \['1'\]"),
        (["1"], {"outputs": 3, "decay": 0}, "decay is 0: pass the number of steps"),
        (["1"], {"outputs": 3, "probe": normal(2, 5)}, "shapes cannot be multiplied"),
    ],
)
def test_what_cannot_be_put_on_says_why_and_leaves_the_model_alone(at, options, message):
    bare = model()
    with pytest.raises((ValueError, RuntimeError), match=message):
        AuxiliaryHeads(bare, at, **options)
    assert hooks(bare) == 0


class Odd(nn.Module):
    """Runs one layer twice and one never."""

    def __init__(self):
        super().__init__()
        self.often, self.never, self.gru = nn.Linear(4, 4), nn.Linear(4, 4), nn.GRU(4, 4)

    def forward(self, x):
        return self.gru(self.often(self.often(x)))[0][:, :3]


def test_layers_that_run_twice_or_never_are_named():
    with pytest.raises(ValueError, match="layer 'often' ran twice in one forward"):
        AuxiliaryHeads(Odd(), ["often"], outputs=3)(X)
    heads = AuxiliaryHeads(Odd(), ["never"], outputs=3)
    output = heads(X)
    with pytest.raises(ValueError, match="layer 'never' did not run in the last forward"):
        heads.loss(output, Y, cross_entropy)
    with pytest.raises(TypeError, match="the layer returns a tuple, not a tensor: pass your own head"):
        AuxiliaryHeads(Odd(), ["gru"], outputs=3)(X)
    own = AuxiliaryHeads(Odd(), {"gru": Last()})
    own.loss(own(X), Y, cross_entropy).backward()


class Last(nn.Module):
    def forward(self, states):
        return states[1][-1:].expand(6, -1)


def test_a_loss_belongs_to_one_forward():
    heads = AuxiliaryHeads(model(), own_heads())
    refused = pytest.raises(ValueError, match="run the forward once for each loss, and pass on what it gave")
    with refused:
        heads.loss(heads.model(X), Y, cross_entropy)  # the bare model's
    first = heads(X)
    second = heads(X)
    with refused:
        heads.loss(first, Y, cross_entropy)
    second = heads(X)
    heads.loss(second, Y, cross_entropy)
    with refused:
        heads.loss(second, Y, cross_entropy)


def test_a_forward_that_fails_leaves_no_head_running():
    heads = AuxiliaryHeads(model(), own_heads())
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        heads(normal(2, 5))
    assert torch.equal(heads.model(X), model()(X))
    heads.loss(heads(X), Y, cross_entropy)


def test_diagnosis_is_of_the_model_without_its_heads():
    heads, batch = AuxiliaryHeads(model(), own_heads()), (X, Y)
    found = [str(finding) for finding in diagnose(heads, batch, cross_entropy, range_steps=0)]
    assert found == [str(finding) for finding in diagnose(model(), batch, cross_entropy, range_steps=0)]
