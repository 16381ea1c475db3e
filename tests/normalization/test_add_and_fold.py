"""Batch normalization goes into a model behind its layers, and out of it again into their weights."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from tests.normalization.models import MODELS, Branching, case, mlp
from thalweg.initialization import initialize
from thalweg.normalization import (
    BatchNorm,
    add_batch_norm,
    convert_batch_norm,
    estimate_population_statistics,
    fold_batch_norm,
)

INNER = {
    "mlp": {"0": 8, "2": 8},
    "residual": {"stem": 4, "a": 4, "b": 4},
    "volumes": {"0": 6},
    "sequences": {"0": 4, "2": 4},
    "mixer": {"0": 5, "2": 5},
}


def used(name, seed=0):
    """Returns the model with normalization and statistics and affine parameters as after training, and an input."""
    model, x = case(name, seed=seed)
    add_batch_norm(model)
    estimate_population_statistics(model, [x, x + 1])
    for i, p in enumerate(model.parameters()):
        p.data.add_(torch.randn(p.shape, dtype=p.dtype, generator=torch.Generator().manual_seed(i)) / 3)
    return model, x


@pytest.mark.parametrize("name", MODELS)
def test_every_layer_but_the_output_layer_is_normalized_without_its_bias(name):
    model, x = case(name)
    assert add_batch_norm(model) is model
    pairs = {n: m for n, m in model.named_modules() if isinstance(m, nn.Sequential) and hasattr(m, "norm")}
    assert {n: pair.norm.num_features for n, pair in pairs.items()} == INNER[name]
    assert all(pair.layer.bias is None and pair.norm.weight.dtype == torch.float64 for pair in pairs.values())
    seen = {}
    for n, pair in pairs.items():
        pair.register_forward_hook(lambda _, __, out, n=n: seen.update({n: out}))
    model(x)
    for n, pair in pairs.items():
        units = seen[n].movedim(1 - pair.layer.weight.dim(), 0).flatten(1)
        torch.testing.assert_close(units.mean(dim=1), torch.zeros(INNER[name][n], dtype=torch.float64))
        assert (units.var(dim=1, correction=0) - 1).abs().max() < 0.1  # δ shows where the variance is small


def test_the_function_is_that_of_a_bias_and_a_normalization():
    model, x = case("mlp")
    plain = copy.deepcopy(model)
    add_batch_norm(model)
    by_hand = x
    for module in plain:
        by_hand = module(by_hand)
        if isinstance(module, nn.Linear) and module is not plain[-1]:
            by_hand = nn.functional.batch_norm(by_hand, None, None, training=True)
    torch.testing.assert_close(model(x), by_hand)


def test_device_type_mode_and_state():
    model = add_batch_norm(mlp().to(torch.bfloat16).eval(), momentum=0.3, ghost=16)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert not any(m.training for m in model.modules())
    assert (model[0].norm.momentum, model[0].norm.ghost) == (0.3, 16)
    other = add_batch_norm(mlp().to(torch.bfloat16))
    other.load_state_dict(model.state_dict())
    with torch.device("meta"):
        assert add_batch_norm(mlp())[0].norm.weight.is_meta


def test_layers_may_be_chosen_by_name_or_predicate_and_are_not_normalized_twice():
    model = add_batch_norm(mlp(), ["2", "4"])
    assert [isinstance(m, nn.Sequential) for m in model] == [False, False, True, False, True]
    add_batch_norm(model)
    assert [isinstance(m, nn.Sequential) for m in model] == [True, False, True, False, True]
    with pytest.raises(ValueError, match="no layer is left to normalize"):
        add_batch_norm(model)
    model = add_batch_norm(Branching(), lambda name, _: name == "a")
    assert isinstance(model.a, nn.Sequential)
    assert isinstance(model.b, nn.Linear)


def test_a_normalized_model_is_still_read_by_initialize():
    model = add_batch_norm(mlp())
    table = initialize(model, "he", torch.Generator().manual_seed(0))
    assert [row.nonlinearity for row in table if row.nonlinearity] == ["relu", "tanh", "linear"]
    assert model[0].norm.weight.eq(1).all()


def shared():
    layer = nn.Linear(3, 3)
    return nn.Sequential(layer, nn.ReLU(), layer, nn.ReLU(), nn.Linear(3, 1))


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 1)

    def forward(self, x):
        return self.b(torch.relu(self.a(torch.relu(self.a(x)))))


@pytest.mark.parametrize(
    ("build", "layers", "match"),
    [
        (mlp, ["0", "6"], "the model has no dense or convolution layer '6': choose among 0, 2, 4"),
        (mlp, ["0", "1"], "the model has no dense or convolution layer '1'"),
        (mlp, [], "no layer is left to normalize: pass layers="),
        (lambda: nn.Linear(3, 1), None, "no layer is left to normalize"),
        (lambda: nn.Linear(3, 1), [""], "no dense or convolution layer ''"),
        (shared, None, "layer '0' is used twice, and its statistics would mix: omit it"),
        (Twice, None, "layer 'a' is used twice"),
        (Twice, ["b", "a"], "layer 'a' is used twice"),
        (Branching, None, "graph cannot be read .*: pass layers="),
        (lambda: nn.TransformerEncoderLayer(4, 2, 8), ["linear1"], "'linear1' is part of a TransformerEncoderLayer"),
    ],
)
def test_what_cannot_be_normalized_is_refused_and_the_model_stays(build, layers, match):
    model = build()
    before = list(model.state_dict())
    with pytest.raises(ValueError, match=match):
        add_batch_norm(model, layers)
    assert list(model.state_dict()) == before


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("of_torch", [False, True])
def test_folding_changes_nothing_but_rounding_and_undoes_the_adding(name, of_torch):
    model, x = used(name)
    if of_torch:
        for n, m in list(model.named_modules()):
            if isinstance(m, BatchNorm) and name != "mixer":  # torch's has no channels last
                torchs = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}[1 - m.dim]
                other = torchs(m.num_features, dtype=torch.float64)
                other.load_state_dict(m.state_dict())
                model.set_submodule(n, other)
    model.train()
    before = copy.deepcopy(model.state_dict())
    folded = fold_batch_norm(model)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert model.training
    assert not folded.training
    assert folded.state_dict().keys() == case(name)[0].state_dict().keys()
    torch.testing.assert_close(folded(x), model.eval()(x))
    torch.testing.assert_close(fold_batch_norm(model.float())(x.float()), model(x.float()), rtol=1e-4, atol=1e-4)


def test_folding_finds_neighbours_where_the_graph_cannot_be_read():
    model = add_batch_norm(Branching().double(), ["a"])
    x = torch.randn(9, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    estimate_population_statistics(model, [x])
    torch.testing.assert_close(fold_batch_norm(model)(x), model.eval()(x))
    assert isinstance(fold_batch_norm(model).a, nn.Linear)


def test_other_layers_are_left_as_they_are():
    """Normalization before a layer, of an output that goes elsewhere too, by the batch, behind a weight with a norm."""

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.layer, self.norm = nn.BatchNorm1d(3), nn.Linear(3, 3), nn.BatchNorm1d(3)
            self.other, self.alone = nn.Linear(3, 3), nn.BatchNorm1d(3, track_running_stats=False)
            self.bound, self.free = weight_norm(nn.Linear(3, 3)), nn.BatchNorm1d(3)
            self.good, self.last = nn.Linear(3, 4, bias=False), nn.BatchNorm1d(4, affine=False)

        def forward(self, x):
            h = self.layer(self.first(x))
            return self.last(self.good(self.free(self.bound(self.alone(self.other(h + self.norm(h)))))))

    model, x = Model(), torch.randn(9, 3, generator=torch.Generator().manual_seed(0))
    model(x)
    folded = fold_batch_norm(model)
    kinds = [type(m) for m in (folded.first, folded.norm, folded.alone, folded.free, folded.last)]
    assert kinds[:4] == [nn.BatchNorm1d] * 4
    assert isinstance(folded.last, nn.Identity)
    torch.testing.assert_close(folded(x), model.eval()(x), rtol=1e-4, atol=1e-5)


class Named(nn.Module):
    """Layers named as torch.fx names inputs and outputs, and a weight that an embedding shares."""

    def __init__(self):
        super().__init__()
        self.tokens = nn.Embedding(6, 4)
        self.x, self.norm, self.output = nn.Linear(4, 6, bias=False), nn.BatchNorm1d(6), nn.BatchNorm1d(6)
        self.x.weight = self.tokens.weight

    def forward(self, x):
        return self.norm(self.x(self.tokens(x)))


def test_names_and_shared_weights_are_no_hindrance():
    model, x = Named().double(), torch.tensor([0, 1, 2, 3, 5])
    estimate_population_statistics(model, [x])
    folded = fold_batch_norm(model)
    torch.testing.assert_close(folded(x), model.eval()(x))
    assert isinstance(folded.output, nn.BatchNorm1d)
    assert torch.equal(folded.tokens.weight, model.tokens.weight)
    add_batch_norm(model, "x")
    assert isinstance(model.x.norm, BatchNorm)


class Tied(nn.Module):
    """A layer whose weight a function reads, too."""

    def __init__(self):
        super().__init__()
        self.a, self.first, self.b, self.second = nn.Linear(3, 4), BatchNorm(4), nn.Linear(4, 4), BatchNorm(4)

    def forward(self, x):
        h = self.second(self.b(self.first(self.a(x)).relu()))
        return nn.functional.linear(h, self.a.weight.T)


def test_a_layer_whose_weight_is_used_elsewhere_is_left_as_it_is():
    model, x = Tied().double(), torch.randn(9, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    estimate_population_statistics(model, [x])
    folded = fold_batch_norm(model)
    torch.testing.assert_close(folded(x), model.eval()(x))
    assert type(folded.first) is BatchNorm
    assert isinstance(folded.second, nn.Identity)


@pytest.mark.parametrize(
    ("build", "match"),
    [
        (mlp, "nothing can be folded: no batch normalization with running statistics directly follows a layer"),
        (Branching, "nothing can be folded: the model's graph cannot be read .*next to each other in an nn.Sequential"),
        (lambda: nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(3)), "nothing can be folded: no batch normalization"),
    ],
)
def test_what_cannot_be_folded_says_why(build, match):
    with pytest.raises(ValueError, match=match):
        fold_batch_norm(build())


def test_torchs_normalizations_become_thalwegs_with_the_same_parameters():
    norm = nn.BatchNorm2d(4, momentum=None, eps=0.1)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), norm, nn.Sequential(norm), nn.SyncBatchNorm(4).eval())
    before = dict(model.state_dict(keep_vars=True))
    assert convert_batch_norm(model, ghost=None) is model
    after = model.state_dict(keep_vars=True)
    assert before.keys() == after.keys()
    assert all(after[key] is value for key, value in before.items())
    assert isinstance(model[1], BatchNorm)
    assert model[1] is model[2][0]
    assert (model[1].momentum, model[1].eps, model[1].synchronize) == (None, 0.1, False)
    assert (model[3].synchronize, model[3].training) == (True, False)
