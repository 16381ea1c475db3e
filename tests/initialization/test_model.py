"""``initialize`` on the models that people have: gains, tables, recurrent and attention modules, shared weights."""

import pytest
import torch
from torch import nn

from thalweg.initialization import SCHEMES, gain_of, initialize


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def stack(activation, depth=30, width=256):
    layers = [module for _ in range(depth) for module in (nn.Linear(width, width), activation())]
    return nn.Sequential(*layers, nn.Linear(width, width))


@pytest.mark.parametrize(
    ("activation", "depth"),
    [
        (nn.ReLU, 30),
        (nn.SELU, 30),
        (nn.ELU, 30),
        (nn.Tanh, 30),
        (lambda: nn.LeakyReLU(0.3), 30),
        (nn.GELU, 5),
        (nn.SiLU, 5),  # theirs is a balance that does not hold itself
    ],
)
@pytest.mark.parametrize("scheme", ["he", "orthogonal"])
def test_signals_keep_their_size_over_many_layers(activation, depth, scheme):
    model = stack(activation, depth)
    initialize(model, scheme, seeded(), gain="nonlinearity")
    x = torch.randn(64, 256, generator=seeded(1))
    with torch.no_grad():
        size = model(x).square().mean().item()
    assert 0.2 < size < 5


def test_without_the_gain_they_would_not():
    model = stack(nn.ReLU)
    initialize(model, "he", seeded(), nonlinearity="linear")
    assert model(torch.randn(64, 256, generator=seeded(1))).square().mean().item() < 1e-6


def test_the_table_says_what_was_done():
    model = nn.Sequential(
        nn.Conv2d(4, 8, 3, groups=2), nn.BatchNorm2d(8), nn.LeakyReLU(0.1), nn.Flatten(), nn.Linear(8, 2)
    )
    table = initialize(model, "he", seeded(), gain="nonlinearity")
    conv, head = table["0.weight"], table["4.weight"]
    assert (conv.shape, conv.nonlinearity, conv.fan_in, conv.fan_out) == ("8×2×3×3", "leaky_relu:0.1", 18, 36)
    assert conv.gain == pytest.approx(gain_of("leaky_relu:0.1"))
    assert (head.nonlinearity, head.distribution) == ("linear", "N(0, 0.354²)")
    assert (table["1.weight"].distribution, table["1.bias"].distribution, table["4.bias"].distribution) == (
        "1",
        "0",
        "0",
    )
    assert [row.parameter for row in table] == [name for name, _ in model.named_parameters()]
    assert len(str(table).splitlines()) == 7
    with pytest.raises(KeyError):
        table["5.weight"]


@pytest.mark.parametrize("scheme", [n for n, s in SCHEMES.items() if s and not s.scaled and n != "constant"])
def test_recurrent_modules_gate_by_gate(scheme):
    model = nn.LSTM(50, 40, num_layers=2, bidirectional=True, proj_size=20)
    table = initialize(model, scheme, seeded())
    for name, p in model.named_parameters():
        if name.startswith("weight_hh"):
            for block in p.detach().split(40):
                torch.testing.assert_close(block.T @ block, torch.eye(20), rtol=1e-4, atol=1e-4)
            assert table[name].distribution == "orthogonal, gate by gate"
        if name.startswith("bias_ih"):
            assert p.detach().chunk(4)[1].eq(1).all()
            assert p.detach().sum() == 40
        if name.startswith("bias_hh"):
            assert not p.any()
    assert (table["weight_ih_l0"].fan_in, table["weight_ih_l0"].fan_out) == (50, 40)
    cell = nn.GRUCell(6, 5)
    initialize(cell, scheme, seeded())
    assert cell.bias_ih.detach().chunk(3)[1].eq(1).all()
    plain = nn.RNN(6, 5, bias=False)
    initialize(plain, scheme, seeded())
    torch.testing.assert_close(plain.weight_hh_l0.detach() @ plain.weight_hh_l0.detach().T, torch.eye(5))


def test_attention_draws_queries_keys_and_values_each_by_their_own_fans():
    model = nn.TransformerEncoderLayer(64, 4, 128, batch_first=True)
    table = initialize(model, "glorot-normal", seeded(), batch=torch.randn(2, 3, 64))
    for block in model.self_attn.in_proj_weight.detach().chunk(3):
        assert block.std().item() == pytest.approx((2 / 128) ** 0.5, rel=0.05)
    assert (table["self_attn.in_proj_weight"].fan_in, table["self_attn.in_proj_weight"].fan_out) == (64, 64)
    assert not model.self_attn.in_proj_bias.any()
    assert table["linear1.weight"].nonlinearity == "relu"
    apart = nn.MultiheadAttention(16, 2, kdim=8, vdim=4, add_bias_kv=True)
    initialize(apart, "he", seeded())
    assert apart.k_proj_weight.std() > apart.q_proj_weight.std()


def test_a_shared_weight_is_drawn_once():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding, self.head = nn.Embedding(30, 8), nn.Linear(8, 30)
            self.head.weight = self.embedding.weight

        def forward(self, tokens):
            return self.head(self.embedding(tokens))

    model = Tied()
    table = initialize(model, "he", seeded())
    assert table["embedding.weight"].distribution == "Embedding's own"
    assert model.head.weight.std().item() == pytest.approx(1.0, rel=0.2)
    assert model.head.weight is model.embedding.weight


def test_a_model_made_on_the_meta_device_gets_the_same_weights():
    def net():
        return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2))

    ordinary = net()
    with torch.device("meta"):
        made = net()
    with pytest.raises(ValueError, match=r"0.weight is on the meta device: .*to_empty"):
        initialize(made, "he", seeded())
    made.to_empty(device="cpu")
    initialize(made, "he", seeded(4))
    initialize(ordinary, "he", seeded(4))
    for name, value in ordinary.state_dict().items():
        assert torch.equal(value, made.state_dict()[name]), name


def test_layout_and_type_do_not_change_the_draws():
    def net():
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.ConvTranspose2d(4, 2, 3), nn.ReLU())

    one, two, three = net(), net().to(memory_format=torch.channels_last), net().bfloat16()
    for model in (one, two, three):
        initialize(model, "he", seeded(5))
    for a, b, c in zip(one.parameters(), two.parameters(), three.parameters(), strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a.bfloat16(), c)


def test_what_is_not_found_has_gain_one_and_can_be_told_or_watched():
    class Branching(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            return self.b(torch.relu(self.a(x)) if x.sum() > 0 else self.a(x))

    model = Branching()
    table = initialize(model, generator=seeded())
    assert (table["a.weight"].nonlinearity, table["a.weight"].gain) == ("unknown", 1.0)
    assert initialize(model, "he", seeded(), batch=torch.ones(2, 4))["a.weight"].nonlinearity == "relu"
    given = initialize(model, "he", seeded(), nonlinearity={"a": "gelu"})
    assert (given["a.weight"].nonlinearity, given["b.weight"].nonlinearity) == ("gelu", "unknown")
    assert initialize(model, "he", seeded(), nonlinearity="tanh")["b.weight"].gain == pytest.approx(gain_of("tanh"))


def test_biases_of_rectifiers():
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 1))
    initialize(model, "he", seeded(), rectifier_bias=0.1)
    assert model[0].bias.tolist() == pytest.approx([0.1] * 4)
    assert not model[2].bias.any()


def test_by_default_the_draws_follow_torchs_global_seed():
    def drawn():
        torch.manual_seed(11)
        model = nn.Linear(5, 5)
        initialize(model)
        return model.weight.detach().clone()

    assert torch.equal(drawn(), drawn())


@pytest.mark.parametrize(
    ("model", "options", "match"),
    [
        (lambda: nn.Linear(3, 3), {"scheme": "hee"}, "unknown scheme 'hee': choose among default, uniform-fan-in"),
        (lambda: nn.Linear(3, 3), {"nonlinearity": "reul"}, "unknown nonlinearity 'reul'"),
        (lambda: nn.Linear(3, 3), {"nonlinearity": {"x": "relu"}}, "nonlinearity names 'x'"),
        (lambda: nn.Linear(3, 3), {"batch": torch.ones(2, 5)}, "the batch does not fit the model"),
        (lambda: nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 0)), {}, "layer '1' has a weight of shape"),
    ],
)
@pytest.mark.filterwarnings("ignore:Initializing zero-element")
def test_bad_input_leaves_the_model_as_it_was(model, options, match):
    model = model()
    before = [p.detach().clone() for p in model.parameters()]
    with pytest.raises(ValueError, match=match):
        initialize(model, **{"scheme": "he", "generator": seeded(), **options})
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


class Block(nn.Module):
    def __init__(self, width=8, normalize=False, project=False):
        super().__init__()
        self.a, self.b = nn.Linear(width, width), nn.Linear(width, width)
        self.norm = nn.BatchNorm1d(width) if normalize else nn.Identity()
        self.skip = nn.Linear(width, width) if project else nn.Identity()

    def forward(self, x):
        return self.skip(x) + self.norm(self.b(torch.relu(self.a(x))))


@pytest.mark.parametrize("normalize", [False, True])
def test_residual_blocks_may_start_as_the_identity(normalize):
    model = nn.Sequential(*(Block(normalize=normalize) for _ in range(4)))
    table = initialize(model, "he", seeded(), residual="zero")
    x = torch.randn(16, 8)
    torch.testing.assert_close(model(x), x)
    end = "2.norm.weight" if normalize else "2.b.weight"
    assert table[end].distribution == "0, the end of a residual branch"
    assert model[2].a.weight.any()


def test_or_so_small_that_their_sum_keeps_its_size():
    model = nn.Sequential(*(Block(width=128) for _ in range(64)))
    table = initialize(model, "he", seeded(), residual="depth")
    assert table["0.b.weight"].distribution.endswith("times 1/√64")
    x = torch.randn(64, 128, generator=seeded(1))
    assert 1 < model(x).square().mean().item() < 8
    initialize(model, "he", seeded())
    assert model(x).square().mean().item() > 1e6


def test_ends_of_branches_behind_projections_and_in_transformers():
    from thalweg.initialization.residual import residual_ends

    assert residual_ends(nn.Sequential(Block(project=True), Block(normalize=True))) == ["0.b", "1.norm"]

    class ShortcutFirst(nn.Module):
        def __init__(self):
            super().__init__()
            self.skip, self.a, self.b = (nn.Linear(3, 3) for _ in range(3))

        def forward(self, x):
            return self.skip(x) + self.b(torch.relu(self.a(x)))

    assert residual_ends(ShortcutFirst()) == ["b"]
    encoder = nn.TransformerEncoderLayer(8, 2, 16)
    assert residual_ends(encoder) == ["self_attn.out_proj", "linear2"]
    initialize(encoder, "he", seeded(), residual="zero", nonlinearity="relu")
    assert not encoder.linear2.weight.any()
    with pytest.raises(ValueError, match="no residual branch"):
        initialize(nn.Linear(3, 3), "he", seeded(), residual="zero")
    with pytest.raises(ValueError, match="unknown residual start 'one'"):
        initialize(encoder, "he", seeded(), residual="one")
