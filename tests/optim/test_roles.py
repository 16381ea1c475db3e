"""Roles of parameters, as a run of the model shows them, as its modules do, and as they are given."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from thalweg.optim import Muon, matrix_groups, parameter_roles


class Language(nn.Module):
    """Embeddings, positions, attention, and a head that is tied, by a module or by a function."""

    def __init__(self, tied):
        super().__init__()
        self.words, self.places = nn.Embedding(11, 8), nn.Parameter(torch.zeros(5, 8))
        self.block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.norm, self.tied = nn.LayerNorm(8), tied
        if tied != "by a function":
            self.head = nn.Linear(8, 11, bias=False)
        if tied == "by a module":
            self.head.weight = self.words.weight

    def forward(self, x):
        hidden = self.norm(self.block(self.words(x) + self.places))
        return F.linear(hidden, self.words.weight) if self.tied == "by a function" else self.head(hidden)


class Hidden(nn.Module):
    """A recurrent network, a product with a parameter of its own, and two heads."""

    def __init__(self):
        super().__init__()
        self.lstm, self.mix = nn.LSTM(3, 4, batch_first=True), nn.Parameter(torch.eye(4))
        self.policy, self.value = nn.Linear(4, 2), nn.Linear(4, 1)

    def forward(self, x):
        hidden = self.lstm(x)[0] @ self.mix.T
        return {"policy": self.policy(hidden), "value": self.value(hidden).tanh()}


def of(model, *inputs, **named):
    return parameter_roles(model, lambda model: model(*inputs), named)


@pytest.mark.parametrize("tied", ["by a module", "by a function", "not"])
def test_a_transformer(tied):
    roles = of(Language(tied), torch.zeros(2, 5, dtype=torch.long))
    hidden = {"block.self_attn.in_proj_weight", "block.self_attn.out_proj.weight"}
    hidden |= {"block.linear1.weight", "block.linear2.weight"}
    assert {name for name, role in roles.items() if role == "hidden"} == hidden
    assert (roles["words.weight"], roles["places"], roles["norm.weight"]) == ("embedding", "embedding", "vector")
    assert roles.get("head.weight", "head") == "head"


def test_what_gives_an_output_is_a_head_and_the_last_product_too():
    roles = of(Hidden(), torch.ones(2, 3, 3))
    assert (roles["policy.weight"], roles["value.weight"]) == ("head", "head")
    assert (roles["mix"], roles["lstm.weight_hh_l0"], roles["lstm.bias_hh_l0"]) == ("hidden", "hidden", "vector")


def test_convolutions():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ConvTranspose2d(4, 4, 3), nn.Conv2d(4, 2, 1))
    for roles in (of(model, torch.ones(2, 1, 5, 5)), parameter_roles(model)):
        assert [roles[f"{i}.weight"] for i in (0, 1, 2, 3)] == ["convolution", "vector", "convolution", "head"]


def test_the_last_module_is_guessed_to_be_the_head():
    roles = parameter_roles(Hidden())
    assert (roles["policy.weight"], roles["value.weight"], roles["mix"]) == ("hidden", "head", "hidden")


def test_roles_that_are_given_stay():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    roles = parameter_roles(model, None, {"*.weight": "hidden", "0.weight": "embedding"})
    assert (roles["0.weight"], roles["1.weight"], roles["1.bias"]) == ("embedding", "hidden", "vector")


@pytest.mark.parametrize(
    ("named", "words"),
    [
        (
            {"0.weight": "matrix"},
            "the role of '0.weight' is 'matrix': use hidden, embedding, head, convolution, vector",
        ),
        ({"layers.*": "hidden"}, "no parameter is called 'layers.*', which roles names: there are 0.weight, 0.bias"),
        ({"*": "hidden"}, r"roles name 0.bias as hidden, and it is a vector of shape \(2,\)"),
        (["0.weight"], "give a mapping"),
    ],
)
def test_roles_that_cannot_be_are_one_line(named, words):
    with pytest.raises(ValueError, match=words) as caught:
        parameter_roles(nn.Sequential(nn.Linear(2, 2)), None, named)
    assert "\n" not in str(caught.value)


def test_a_lazy_module_is_to_be_run_first():
    with pytest.raises(ValueError, match=r"0\.weight has no shape yet: run a batch through the lazy module first"):
        matrix_groups(nn.Sequential(nn.LazyLinear(2)))


def test_a_run_for_the_roles_leaves_the_model_and_the_draws_as_they_are():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2)).train()
    model[2].eval()
    before, draws = {name: value.clone() for name, value in model.state_dict().items()}, torch.get_rng_state()
    groups = matrix_groups(model, torch.ones(5, 3))
    assert next(group["param_names"] for group in groups) == ["0.weight"]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), draws)
    assert [module.training for module in model] == [True, True, False, True]
    assert not model[0]._forward_hooks


def test_groups_divide_a_model_and_take_arguments_by_position_and_by_name():
    model = Language("not")
    x = torch.zeros(1, 5, dtype=torch.long)
    one, two = matrix_groups(model, (x,)), matrix_groups(model, {"x": x}, convolutions=False)
    assert [g["param_names"] for g in one] == [g["param_names"] for g in two]
    named = dict(model.named_parameters())
    assert sorted(n for g in one for n in g["param_names"]) == sorted(named)
    assert all(named[n] is p for g in one for n, p in zip(g["param_names"], g["params"], strict=True))
    optimizer = Muon(one, lr=0.02, adamw_lr=1e-3, adamw_betas=(0.8, 0.9))
    assert [(g["lr"], g["partner"]) for g in optimizer.param_groups] == [(0.02, False), (1e-3, True)]
    assert optimizer.param_groups[1]["betas"] == (0.8, 0.9)
