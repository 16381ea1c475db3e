"""Folding and converting never change what a model computes: what is not known to stay equal is left, and named."""

import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrizations, prune

from thalweg.normalization import BatchNorm, add_batch_norm, convert_batch_norm, fold_batch_norm
from thalweg.normalization.convert import TORCHS


class FusedLinear(nn.Linear):
    def forward(self, x):
        return super().forward(x).relu()


class FusedConv(nn.Conv2d):
    def _conv_forward(self, *args):
        return torch.tanh(super()._conv_forward(*args))


class Standardized(nn.Conv2d):
    """Weight standardization."""

    def forward(self, x):
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return self._conv_forward(x, weight, self.bias)


class Doubling:
    def __call__(self, x):
        return 2 * super().__call__(x)


class Doubled(Doubling, nn.Linear):
    pass


class FusedNorm(nn.BatchNorm2d):
    def forward(self, x):
        return super().forward(x).relu()


class AlwaysTraining(nn.BatchNorm1d):
    def train(self, mode=True):
        return super().train(True)


class Named(nn.Linear):
    """A subclass that computes what its parent does."""

    def __init__(self, *args):
        super().__init__(*args)
        self.label = "mine"

    def extra_repr(self):
        return self.label


def changed(module, **attributes):
    for name, value in attributes.items():
        setattr(module, name, value)
    return module


def hooked(module, hook="register_forward_hook"):
    values = {
        "register_forward_hook": lambda m, args, output: output.relu(),
        "register_forward_pre_hook": lambda m, args: (args[0] + 1,),
        "register_full_backward_hook": lambda m, given, taken: None,
        "register_full_backward_pre_hook": lambda m, taken: None,
    }
    getattr(module, hook)(values[hook])
    return module


def pruned(module):
    return prune.random_unstructured(module, "weight", 0.5)


def frozen(module):
    return module.requires_grad_(False)


def linear(make, norm=lambda: nn.BatchNorm1d(4)):
    return lambda: nn.Sequential(make(), norm(), nn.ReLU(), nn.Linear(4, 4), nn.BatchNorm1d(4))


def conv(make, norm=lambda: nn.BatchNorm2d(4)):
    return lambda: nn.Sequential(make(), norm(), nn.ReLU(), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))


class Calls(nn.Module):
    """A layer and a normalization, called as a function of them says; a second pair that can always be folded."""

    def __init__(self, call):
        super().__init__()
        self.layer, self.norm, self.other = nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 4)
        self.last, self.call = nn.BatchNorm1d(4), call

    def forward(self, x, more=None, early=False):
        return self.last(self.other(self.call(self, x, more, early)))


class Aliased(nn.Module):
    """A pair that the forward reaches by another name than its first."""

    def __init__(self):
        super().__init__()
        self.layer, self.norm = nn.Linear(4, 4), nn.BatchNorm1d(4)
        self.body = nn.Sequential(self.layer, self.norm)

    def forward(self, x):
        return self.body(x).relu()


class Unreadable(nn.Module):
    """A graph that no tracer reads, around a Sequential."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.ReLU())

    def forward(self, x):
        for _ in range(min(len(x), 2)):
            x = self.body(x)
        return x


class UnreadableReading(Unreadable):
    def forward(self, x):
        return super().forward(x) @ self.body[0].weight


class UnreadableRunning(Unreadable):
    def forward(self, x):
        for layer in self.body:
            x = layer(x)
        return x[: len(x)]


class UnreadablePassing(Unreadable):
    def forward(self, x):
        return through(self, x[: len(x)])


class UnreadableList(Unreadable):
    def __init__(self):
        super().__init__()
        self.parts = [self.body[0]]

    def forward(self, x):
        return self.body(self.parts[0](x[: len(x)]))


def through(model, x):
    return model.body[1](model.body[0](x) + 1)


def read(m, x, more, early):
    return functional.linear(m.norm(m.layer(x)).relu(), m.layer.weight)


def tied_read(m, x, more, early):
    return functional.linear(m.norm(m.layer(x)).relu(), m.other.weight)


def tied():
    model = Calls(tied_read)
    model.layer.weight = model.other.weight
    return model


CALLS = {
    "plain": lambda m, x, more, early: m.norm(m.layer(x)),
    "by a keyword": lambda m, x, more, early: m.norm(input=m.layer(input=x)),
    "twice": lambda m, x, more, early: m.norm(m.layer(m.layer(x))),
    "norm twice": lambda m, x, more, early: m.norm(m.norm(m.layer(x))),
    "output elsewhere": lambda m, x, more, early: (h := m.layer(x)) + m.norm(h),
    "weight read": read,
    "bias read": lambda m, x, more, early: m.norm(m.layer(x)) + (0 if m.layer.bias is None else m.layer.bias),
    "statistics read": lambda m, x, more, early: m.norm(m.layer(x)) + m.norm.running_mean,
    "eps read": lambda m, x, more, early: m.norm(m.layer(x)) + m.norm.eps,
    "type asked": lambda m, x, more, early: m.norm(m.layer(x)) * (1 + isinstance(m.norm, nn.BatchNorm1d)),
    "by a value": lambda m, x, more, early: m.norm(m.layer(x)) if x.sum() > 0 else m.layer(x),
    "by another value": lambda m, x, more, early: m.norm(m.layer(x)) if x.sum() > -1e9 else x,
    "by an option": lambda m, x, more, early: (h := m.layer(x), m.norm(h) + (h if more is None else more))[1],
    "by a flag": lambda m, x, more, early: m.layer(x) if early else m.norm(m.layer(x)),
    "norm alone": lambda m, x, more, early: m.norm(x) + 0 * m.layer(x),
    "before": lambda m, x, more, early: m.layer(m.norm(x)),
    "through more": lambda m, x, more, early: m.norm(m.layer(x).clone()),
}
# name: model, input shape, names of the normalizations that are folded (None: nothing can be)
X, IMAGE = (6, 4), (6, 4, 5, 5)
CASES = {
    "linear": (linear(lambda: nn.Linear(4, 4)), X, "1 4"),
    "a subclass that changes nothing": (linear(lambda: Named(4, 4)), X, "1 4"),
    "fused linear": (linear(lambda: FusedLinear(4, 4)), X, "4"),
    "fused convolution": (conv(lambda: FusedConv(4, 4, 3)), IMAGE, "4"),
    "standardized": (conv(lambda: Standardized(4, 4, 3)), IMAGE, "4"),
    "a call of its own": (linear(lambda: Doubled(4, 4)), X, "4"),
    "forward of an instance": (linear(lambda: changed(nn.Linear(4, 4), forward=torch.tanh)), X, "4"),
    "fused normalization": (conv(lambda: nn.Conv2d(4, 4, 3), lambda: FusedNorm(4)), IMAGE, "4"),
    "always in training": (linear(lambda: nn.Linear(4, 4), lambda: AlwaysTraining(4)), X, "4"),
    "old weight norm": (linear(lambda: nn.utils.weight_norm(nn.Linear(4, 4))), X, "4"),
    "old spectral norm": (conv(lambda: nn.utils.spectral_norm(nn.Conv2d(4, 4, 3))), IMAGE, "4"),
    "new weight norm": (linear(lambda: parametrizations.weight_norm(nn.Linear(4, 4))), X, "4"),
    "new spectral norm": (conv(lambda: parametrizations.spectral_norm(nn.Conv2d(4, 4, 3))), IMAGE, "4"),
    "orthogonal": (linear(lambda: parametrizations.orthogonal(nn.Linear(4, 4))), X, "4"),
    "pruned": (linear(lambda: pruned(nn.Linear(4, 4))), X, "4"),
    "pruned for good": (linear(lambda: prune.remove(pruned(nn.Linear(4, 4)), "weight")), X, "1 4"),
    "spectral norm of the norm": (
        linear(lambda: nn.Linear(4, 4), lambda: parametrizations.weight_norm(nn.BatchNorm1d(4))),
        X,
        "4",
    ),
    "frozen": (linear(lambda: frozen(nn.Linear(4, 4))), X, "1 4"),
    "a hook on the layer": (linear(lambda: hooked(nn.Linear(4, 4))), X, "4"),
    "a hook before the layer": (linear(lambda: hooked(nn.Linear(4, 4), "register_forward_pre_hook")), X, "4"),
    "a hook on the norm": (linear(lambda: nn.Linear(4, 4), lambda: hooked(nn.BatchNorm1d(4))), X, "4"),
    "a hook before the norm": (
        linear(lambda: nn.Linear(4, 4), lambda: hooked(nn.BatchNorm1d(4), "register_forward_pre_hook")),
        X,
        "4",
    ),
    "a backward hook": (linear(lambda: hooked(nn.Linear(4, 4), "register_full_backward_hook")), X, "4"),
    "a hook before backward": (
        linear(lambda: nn.Linear(4, 4), lambda: hooked(nn.BatchNorm1d(4), "register_full_backward_pre_hook")),
        X,
        "4",
    ),
    "no affine": (linear(lambda: nn.Linear(4, 4, bias=False), lambda: nn.BatchNorm1d(4, affine=False)), X, "1 4"),
    "no statistics": (linear(lambda: nn.Linear(4, 4), lambda: nn.BatchNorm1d(4, track_running_stats=False)), X, "4"),
    "cumulative": (linear(lambda: nn.Linear(4, 4), lambda: nn.BatchNorm1d(4, momentum=None)), X, "1 4"),
    "synchronized": (linear(lambda: nn.Linear(4, 4), lambda: nn.SyncBatchNorm(4)), X, "1 4"),
    "lazy": (linear(lambda: nn.LazyLinear(4), lambda: nn.LazyBatchNorm1d()), X, "1 4"),
    "over the sequence": (linear(lambda: nn.Linear(4, 4), lambda: BatchNorm(4, dim=-1)), X, "1 4"),
    "over another dimension": (
        lambda: nn.Sequential(nn.Linear(4, 4), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)),
        (6, 4, 4, 4),
        "3",
    ),
    "strided, dilated, grouped, circular": (
        conv(lambda: nn.Conv2d(4, 4, 3, 2, 2, 2, 2, padding_mode="circular")),
        (6, 4, 9, 9),
        "1 4",
    ),
    "transposed": (conv(lambda: nn.ConvTranspose2d(4, 4, 3, 2, 1, 1, 2)), IMAGE, "1 4"),
    "before a padded convolution": (
        lambda: nn.Sequential(nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)),
        IMAGE,
        "2",
    ),
    "aliased": (Aliased, X, "norm"),
    "unreadable": (Unreadable, X, "body.1"),
    "unreadable, weight read": (UnreadableReading, X, None),
    "unreadable, one by one": (UnreadableRunning, X, None),
    "unreadable, passed on": (UnreadablePassing, X, None),
    "unreadable, in a list": (UnreadableList, X, None),
    "tied": (tied, X, None),
    **{
        name: (
            lambda call=call: Calls(call),
            X,
            "norm last" if name in ("plain", "by a keyword", "by another value") else "last",
        )
        for name, call in CALLS.items()
    },
}


def trained(build, shape):
    torch.manual_seed(0)
    model = build()
    model(torch.randn(shape))  # lazy ones are made
    model.double()
    for i in range(3):
        model(torch.randn(shape, dtype=torch.float64) + i)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p) / 4) if p.requires_grad else None
    return model, torch.randn(shape, dtype=torch.float64)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated", "ignore:Lazy modules")
def test_folding_changes_nothing_and_names_what_it_leaves(name):
    build, shape, merged = CASES[name]
    model, x = trained(build, shape)
    norms = {n for n, m in model.named_modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)}
    left = norms - set((merged or "").split())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if left == norms:
            with pytest.raises(ValueError, match="nothing can be folded: ") as refused:
                fold_batch_norm(model)
            assert all(repr(norm) in str(refused.value) for norm in left)
            return
        folded = fold_batch_norm(model)
    warned = " ".join(str(w.message) for w in caught if "are not folded" in str(w.message))
    assert all(repr(norm) in warned for norm in left)
    assert bool(warned) == bool(left)
    assert {n for n in norms if isinstance(folded.get_submodule(n), nn.Identity)} == norms - left
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(1)
        expected = model.eval()(x)
        torch.manual_seed(1)
        for _ in range(2):
            torch.testing.assert_close(folded(x), expected, rtol=1e-9, atol=1e-9)
        for options in ({"more": x}, {"early": True}) if isinstance(model, Calls) else ():
            torch.testing.assert_close(folded(x, **options), model(x, **options), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", [name for name in CASES if name != "type asked"])  # which is another afterwards
@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated", "ignore:Lazy modules")
def test_converting_changes_nothing_and_names_what_it_leaves(name):
    build, shape, _ = CASES[name]
    model, x = trained(build, shape)
    plain, ours = trained(build, shape)[0], model
    norms = {n: m for n, m in model.named_modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)}
    left = {n for n, m in norms.items() if type(m) not in (*TORCHS, BatchNorm)}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        convert_batch_norm(ours)
    warned = " ".join(str(w.message) for w in caught if "are not converted" in str(w.message))
    assert all(repr(norm) in warned for norm in left)
    assert bool(warned) == bool(left)
    for model in (plain.train(), ours.train()):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model(x).sum().backward()
    for (n, p), (_, q) in zip(plain.named_parameters(), ours.named_parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-9, atol=1e-9, msg=n)
    torch.testing.assert_close(ours.eval()(x), plain.eval()(x), rtol=1e-9, atol=1e-9)


def test_hooks_stay_and_can_be_removed():
    norm, seen = nn.BatchNorm1d(3), []
    handles = [
        norm.register_forward_hook(lambda module, args, output: seen.append(type(module))),
        norm.register_forward_pre_hook(lambda module, args: seen.append("before")),
        norm.register_full_backward_hook(lambda module, given, taken: seen.append("backward")),
    ]
    model = convert_batch_norm(nn.Sequential(nn.Linear(2, 3), norm))
    x = torch.randn(4, 2)
    model(x).sum().backward()
    assert seen == ["before", BatchNorm, "backward"]
    for handle in handles:
        handle.remove()
    model(x).sum().backward()
    assert len(seen) == 3


def test_a_normalization_by_itself_is_converted_too():
    norm = nn.BatchNorm1d(3)
    own = convert_batch_norm(norm, ghost=4)
    assert isinstance(own, BatchNorm)
    assert own.weight is norm.weight
    assert own.ghost == 4


def test_a_hook_of_all_modules_keeps_everything_as_it_is():
    model, _ = trained(CASES["linear"][0], X)
    handle = nn.modules.module.register_module_forward_hook(lambda module, args, output: output + 1)
    try:
        with pytest.raises(ValueError, match="a forward hook of all modules"):
            fold_batch_norm(model)
    finally:
        handle.remove()


@pytest.mark.parametrize(
    ("layer", "match"),
    [
        (lambda: FusedLinear(4, 4), "this FusedLinear has a forward of its own"),
        (lambda: hooked(nn.Linear(4, 4)), "it has a forward hook"),
        (lambda: parametrizations.weight_norm(nn.Linear(4, 4), "bias", 0), "its bias is not its own parameter"),
    ],
)
def test_what_is_no_plain_layer_gets_no_normalization_and_is_named(layer, match):
    model = nn.Sequential(layer(), nn.Linear(4, 4), nn.Linear(4, 2))
    with pytest.warns(UserWarning, match=f"some layers are not normalized; '0': {match}"):
        add_batch_norm(model)
    assert [hasattr(m, "norm") for m in model] == [False, True, False]
    with pytest.raises(ValueError, match=f"layer '0' cannot be normalized: {match}"):
        add_batch_norm(model, ["0"])
    with pytest.raises(ValueError, match=f"no layer is left to normalize: pass layers=, .*; '0': {match}"):
        add_batch_norm(nn.Sequential(layer(), nn.Linear(4, 2)))


@pytest.mark.parametrize("read", ["weight", "bias"])
def test_a_layer_that_is_read_elsewhere_gets_no_normalization_and_is_named(read):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.o = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 1)

        def forward(self, x):
            return self.o(self.b(self.a(x).relu()).relu()) + getattr(self.a, read).sum()

    with pytest.warns(UserWarning, match="'a': its weight or bias is read elsewhere"):
        model = add_batch_norm(Tied())
    assert isinstance(model.a, nn.Linear)
    assert isinstance(model.b, nn.Sequential)
    assert model(torch.randn(5, 4)).shape == (5, 1)
    with pytest.raises(ValueError, match="layer 'a' cannot be normalized: its weight or bias is read elsewhere"):
        add_batch_norm(Tied(), "a")


@pytest.mark.parametrize(
    "settings",
    [
        {"eps": -1.0},
        {"eps": float("nan")},
        {"momentum": 2.0},
        {"momentum": float("nan")},
        {"dim": "x"},
        {"num_features": 2.5},
        {"num_features": -1},
    ],
)
def test_a_setting_out_of_its_range_is_refused(settings):
    with pytest.raises(ValueError, match=f"{next(iter(settings))}="):
        BatchNorm(**{"num_features": 4, **settings})


def test_a_dense_layer_over_sequences_is_not_folded_over_the_wrong_dimension():
    """A batch normalization of (N, L, C) has L as its features, here as many as the layer has units."""
    net = nn.Sequential(nn.Linear(8, 3), nn.BatchNorm1d(3), nn.ReLU())
    net(torch.randn(4, 8))
    folded, x = fold_batch_norm(net), torch.randn(5, 8)
    torch.testing.assert_close(torch.jit.script(folded)(x), net.eval()(x))
    with pytest.raises(AssertionError, match=r"folded into a dense layer takes \(N, C\)"):
        folded(torch.randn(2, 3, 8))
