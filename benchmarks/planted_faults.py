"""Faults planted in otherwise sound models, with the finding and the place that a diagnosis has to name.

A kind has one or more specimens in models of different families. All of them were in view while the checks were
written: what is found of them is no estimate of what is found of others.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.sound_models import (
    CLASSES,
    SOUND,
    Case,
    Of,
    images,
    mlp,
    recurrent,
    series,
    tokens,
    vectors,
)
from thalweg.initialization import initialize

cross_entropy, mse = functional.cross_entropy, functional.mse_loss


class Fault(NamedTuple):
    """One specimen: what is to be found, at which of these places, and the model that has it."""

    findings: tuple[str, ...]
    layers: tuple[str, ...]
    build: Callable[[], Case]


def _in(name: str, plant: Callable[[Any], Any]) -> Callable[[], Case]:
    """Returns a builder of a sound model with a fault planted in the module."""

    def build() -> Case:
        case = SOUND[name]()
        with torch.no_grad():
            plant(case.model)
        return case

    return build


def _times(factor: float, *names: str) -> Callable[[Any], None]:
    def plant(model: nn.Module) -> None:
        for name in names:
            model.get_parameter(name).mul_(factor)

    return plant


def _filled(value: float, *names: str) -> Callable[[Any], None]:
    def plant(model: nn.Module) -> None:
        for name in names:
            model.get_parameter(name).fill_(value)

    return plant


def _with(name: str, **parts: Any) -> Callable[[], Case]:
    """Returns a builder of a sound model whose inputs, target or loss are functions of the sound ones."""

    def build() -> Case:
        case = SOUND[name]()
        return case._replace(**{key: function(getattr(case, key)) for key, function in parts.items()})

    return build


def _after(name: str, *parts: Callable[[], nn.Module], loss: Any = None) -> Callable[[], Case]:
    """Returns a builder of a sound model with modules after it."""

    def build() -> Case:
        case = SOUND[name]()
        if isinstance(case.model, nn.Sequential):
            model: nn.Module = nn.Sequential(*case.model, *(part() for part in parts))
        else:
            model = nn.Sequential(case.model, *(part() for part in parts))
        return case._replace(model=model, loss=loss or case.loss)

    return build


def _functional(name: str, function: Callable[[Tensor], Tensor], loss: Any = None) -> Callable[[], Case]:
    """Returns a builder of a sound model with a function of its output."""

    def build() -> Case:
        case = SOUND[name]()
        model = Of(lambda m, *x: function(m.body(*x)), body=case.model)
        return case._replace(model=model, loss=loss or case.loss)

    return build


def _equal_rows(*names: str) -> Callable[[Any], None]:
    def plant(model: nn.Module) -> None:
        for name in names:
            layer = model.get_submodule(name)
            layer.weight.copy_(layer.weight[:1].expand_as(layer.weight))  # type: ignore[operator, index, arg-type]
            if layer.bias is not None:
                layer.bias.zero_()  # type: ignore[operator]

    return plant


class Listed(nn.Module):
    """Layers in a plain list."""

    def __init__(self, conv: bool = False) -> None:
        super().__init__()
        self.inner = nn.Conv2d(3, 16, 3, padding=1) if conv else nn.Linear(20, 16)
        self.blocks = [nn.Conv2d(16, 16, 3, padding=1) if conv else nn.Linear(16, 16) for _ in range(3)]
        self.out = nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Returns scores."""
        h = self.inner(x).relu()
        for block in self.blocks:
            h = block(h).relu()
        return self.out(h.flatten(2).mean(2) if h.dim() == 4 else h)  # type: ignore[no-any-return]


class Heads(nn.Module):
    """Layers in a plain dictionary within a part of the model."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(20, 16)
        self.part = nn.Module()
        self.part.heads = {"a": nn.Linear(16, 16), "b": nn.Linear(16, 16)}  # type: ignore[assignment]
        self.out = nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Returns scores."""
        h = self.body(x).relu()
        heads: Any = self.part.heads
        return self.out((heads["a"](h) + heads["b"](h)).relu())  # type: ignore[no-any-return]


class Bare(nn.Module):
    """A weight that is a tensor and no parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = (torch.randn(32, 20) * 0.2).requires_grad_()
        self.out = nn.Linear(32, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Returns scores."""
        return self.out((x @ self.weight.T).relu())  # type: ignore[no-any-return]


def _mixing_view() -> Case:
    def run(m: Any, x: Tensor) -> Tensor:
        h = m.conv(x).relu()  # (N, 8, 16, 16)
        return m.out(h.permute(1, 0, 2, 3).reshape(len(x), -1))  # type: ignore[no-any-return]

    x, y = images()
    return Case(Of(run, conv=nn.Conv2d(3, 8, 3, padding=1), out=nn.Linear(2048, CLASSES)), x, y, cross_entropy)


def _mixing_sequence() -> Case:
    def run(m: Any, x: Tensor) -> Tensor:
        h = m.rnn(x.transpose(0, 1))[0]  # (T, N, H)
        return m.out(h.reshape(len(x), -1))  # type: ignore[no-any-return]

    x, y = series()
    return Case(Of(run, rnn=nn.GRU(6, 24), out=nn.Linear(288, CLASSES)), x, y, cross_entropy)


def _mixing_vectors() -> Case:
    def run(m: Any, x: Tensor) -> Tensor:
        h = m.inner(x).relu()
        return m.out(h.T.reshape(len(x), -1))  # type: ignore[no-any-return]

    x, y = vectors()
    return Case(Of(run, inner=nn.Linear(20, 48), out=nn.Linear(48, CLASSES)), x, y, cross_entropy)


def _batch_second(kind: type[nn.RNNBase]) -> Callable[[], Case]:
    def build() -> Case:
        model = Of(lambda m, x: m.out(m.rnn(x)[0][:, -1]), rnn=kind(6, 24), out=nn.Linear(24, CLASSES))  # type: ignore[arg-type]
        x, y = series()
        return Case(model, x, y, cross_entropy)

    return build


def _encoder_second() -> Case:
    layer = nn.TransformerEncoderLayer(32, 4, 64)
    model = Of(
        lambda m, x: m.out(m.encoder(m.embed(x)).mean(1)),
        embed=nn.Embedding(50, 32),
        encoder=nn.TransformerEncoder(layer, 2, enable_nested_tensor=False),
        out=nn.Linear(32, CLASSES),
    )
    x, y = tokens()
    return Case(model, x, y, cross_entropy)


def _attention_second() -> Case:
    def run(m: Any, x: Tensor) -> Tensor:
        h = m.inner(x)
        return m.out((h + m.attend(h, h, h)[0]).mean(1))  # type: ignore[no-any-return]

    model = Of(run, inner=nn.Linear(6, 32), attend=nn.MultiheadAttention(32, 4), out=nn.Linear(32, CLASSES))
    x, y = series()
    return Case(model, x, y, cross_entropy)


def _long(kind: type[nn.RNNBase] = nn.LSTM, length: int = 200, bias: float = 0.0) -> Callable[[], Case]:
    def build() -> Case:
        model = recurrent(kind)
        x, y = series(16, length)
        initialize(model, "he")
        if kind is nn.LSTM:
            model.rnn.bias_ih_l0.data[24:48] = bias  # type: ignore[union-attr, index]
        return Case(model, x, y, cross_entropy)

    return build


def _cells() -> Case:
    def run(m: Any, x: Tensor) -> Tensor:
        h = c = x.new_zeros(len(x), 24)
        for t in range(x.shape[1]):
            h, c = m.cell(x[:, t], (h, c))
        return m.out(h)  # type: ignore[no-any-return]

    x, y = series(16, 150)
    model = Of(run, cell=nn.LSTMCell(6, 24), out=nn.Linear(24, CLASSES))
    model.cell.bias_ih.data.zero_(), model.cell.bias_hh.data.zero_()  # type: ignore[operator, union-attr]
    return Case(model, x, y, cross_entropy)


def _scores_times(factor: float) -> Callable[[], Case]:
    def run(m: Any, x: Tensor) -> Tensor:
        h = m.embed(x) + m.place(torch.arange(x.shape[1]))
        scores = factor * m.query(h) @ m.key(h).transpose(1, 2)
        return m.out((h + scores.softmax(-1) @ m.value(h)).mean(1))  # type: ignore[no-any-return]

    def build() -> Case:
        parts = {name: nn.Linear(32, 32) for name in ("query", "key", "value")}
        x, y = tokens()
        model = Of(run, embed=nn.Embedding(50, 32), place=nn.Embedding(64, 32), **parts, out=nn.Linear(32, CLASSES))
        return Case(model, x, y, cross_entropy)

    return build


def _queries(factor: float) -> Callable[[Any], None]:
    def plant(model: Any) -> None:
        for layer in model.encoder.layers:
            layer.self_attn.in_proj_weight[:64].mul_(factor**0.5)

    return plant


def _bert_queries(model: Any) -> None:
    for layer in model.bert.encoder.layer:
        layer.attention.self.query.weight.mul_(40)
        layer.attention.self.key.weight.mul_(40)


def _repeated(conv: bool = False) -> Callable[[], Case]:
    def build() -> Case:
        if conv:
            layer = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.ReLU())
            net = nn.Sequential(
                nn.Conv2d(3, 16, 3, padding=1),
                nn.ReLU(),
                *[layer] * 4,
                nn.AdaptiveAvgPool2d(1),
                nn.Flatten(),
                nn.Linear(16, CLASSES),
            )
            x, y = images()
        else:
            layer = nn.Sequential(nn.Linear(64, 64), nn.ReLU())
            net = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), *[layer] * 4, nn.Linear(64, CLASSES))
            x, y = vectors()
        return Case(net, x, y, cross_entropy)

    return build


def _repeated_list() -> Case:
    def run(m: Any, x: Tensor) -> Tensor:
        h = m.inner(x).relu()
        for layer in m.layers:
            h = layer(h).relu()
        return m.out(h)  # type: ignore[no-any-return]

    layers = nn.ModuleList([nn.Linear(64, 64)] * 4)
    x, y = vectors()
    return Case(Of(run, inner=nn.Linear(20, 64), layers=layers, out=nn.Linear(64, CLASSES)), x, y, cross_entropy)


def _linear_images() -> Case:
    net = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.AvgPool2d(2),
        nn.Conv2d(16, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(256, CLASSES),
    )
    x, y = images()
    return Case(net, x, y, cross_entropy)


def _linear_tokens() -> Case:
    model = Of(
        lambda m, x: m.out(m.inner(m.embed(x).mean(1))),
        embed=nn.Embedding(50, 16),
        inner=nn.Linear(16, 32),
        out=nn.Linear(32, CLASSES),
    )
    x, y = tokens()
    return Case(model, x, y, cross_entropy)


def _bytes(x: Tensor) -> Tensor:
    return ((x - x.amin()) / (x.amax() - x.amin()) * 255).round()


def _one_feature(scale: float, at: int = 7) -> Callable[[Tensor], Tensor]:
    def change(x: Tensor) -> Tensor:
        x = x.clone()
        x[..., at] *= scale
        return x

    return change


def _constant(value: float, *at: int, dim: int = -1) -> Callable[[Tensor], Tensor]:
    def change(x: Tensor) -> Tensor:
        x = x.clone()
        x.movedim(dim, -1)[..., list(at)] = value
        return x

    return change


def _detached() -> Case:
    model = Of(
        lambda m, x: m.out(m.middle(m.inner(x).relu()).relu().detach()),
        inner=nn.Linear(20, 32),
        middle=nn.Linear(32, 32),
        out=nn.Linear(32, CLASSES),
    )
    x, y = vectors()
    return Case(model, x, y, cross_entropy)


def _soft_inner() -> Case:
    net = nn.Sequential(nn.Linear(20, 256), nn.Softmax(1), nn.Linear(256, 256), nn.Softmax(1), nn.Linear(256, CLASSES))
    x, y = vectors()
    return Case(net, x, y, cross_entropy)


def _ones(model: Any) -> None:
    """Draws all weights from U(0, 1)."""
    for p in model.parameters():
        if p.dim() > 1:
            nn.init.uniform_(p)


def _normal(std: float) -> Callable[[Any], None]:
    def plant(model: Any) -> None:
        for p in model.parameters():
            nn.init.normal_(p, 0.0, std) if p.dim() > 1 else nn.init.zeros_(p)

    return plant


def _shut(gate: int) -> Callable[[Any], None]:
    def plant(model: Any) -> None:
        model.rnn.bias_ih_l0[gate * 24 : (gate + 1) * 24] = -100

    return plant


def _chaotic(model: Any) -> None:
    model.rnn.weight_hh_l0.mul_(12)


def _peeking() -> Case:
    case = SOUND["causal transformer"]()
    inner: Any = case.model

    def run(m: Any, x: Tensor) -> Tensor:
        h = m.body.embed(x) + m.body.place(torch.arange(x.shape[1]))
        return m.body.out(m.body.encoder(h)).transpose(1, 2)  # type: ignore[no-any-return]

    return case._replace(model=Of(run, body=inner))


def _tanh_deep() -> Case:
    net = mlp(20, activation=nn.Tanh)
    initialize(net, "he")
    with torch.no_grad():
        for layer in net[::2]:
            layer.weight.mul_(6)  # type: ignore[operator, union-attr]
    return Case(net, *vectors(), cross_entropy)


def _sigmoid_deep() -> Case:
    return Case(mlp(8, activation=nn.Sigmoid), *vectors(), cross_entropy)


def _default_deep(width: int = 64) -> Callable[[], Case]:
    return lambda: Case(mlp(14, width), *vectors(), cross_entropy)


def _residual_less() -> Case:
    convs: list[nn.Module] = []
    for i in range(16):
        convs += [nn.Conv2d(3 if i == 0 else 16, 16, 3, padding=1), nn.ReLU()]
    net = nn.Sequential(*convs, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, CLASSES))
    return Case(net, *images(), cross_entropy)


def _spare(model: Any) -> None:
    model[2].spare = nn.Linear(2, 2)


def _unused_branch() -> Case:
    model = Of(
        lambda m, x: m.out(m.inner(x).relu()),
        inner=nn.Linear(20, 32),
        aside=nn.Linear(20, 32),
        out=nn.Linear(32, CLASSES),
    )
    return Case(model, *vectors(), cross_entropy)


def _summed(loss: Any) -> Any:
    name = getattr(loss, "__name__", "")
    return lambda y, t: getattr(functional, name)(y, t, reduction="sum")


def _flat_target(name: str = "regression", loss: Any = mse) -> Callable[[], Case]:
    return _with(name, target=lambda t: t[:, 0], loss=lambda _: loss)


def _tail_target() -> Case:
    case = SOUND["regression"]()
    model = nn.Sequential(*case.model, nn.Flatten(0))  # type: ignore[misc]
    return case._replace(model=model)


def _noisy_mean(y: Tensor, t: Tensor) -> Tensor:
    return (y - t).abs().mean()


def _freeze(*names: str) -> Callable[[Any], None]:
    def plant(model: nn.Module) -> None:
        for name in names:
            model.get_submodule(name).requires_grad_(False)

    return plant


def _zero_norms(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.zeros_(module.weight)


def _all_zero(model: nn.Module) -> None:
    for p in model.parameters():
        p.zero_()


def _raw(name: str) -> Callable[[], Case]:
    return _with(name, loss=lambda _: functional.nll_loss)


def _dropped(p: float) -> Callable[[], Case]:
    def build() -> Case:
        net = nn.Sequential(
            nn.Linear(20, 64), nn.ReLU(), nn.Dropout(p), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, CLASSES)
        )
        return Case(net, *vectors(), cross_entropy)

    return build


def _dropped_by_function() -> Case:
    model = Of(
        lambda m, x: m.out(functional.dropout(m.inner(x).relu(), 1.0, m.training)),
        inner=nn.Linear(20, 64),
        out=nn.Linear(64, CLASSES),
    )
    return Case(model, *vectors(), cross_entropy)


def _between(*parts: nn.Module) -> Case:
    return Case(nn.Sequential(nn.Linear(20, 64), *parts, nn.ReLU(), nn.Linear(64, CLASSES)), *vectors(), cross_entropy)


def _stepwise(function: Callable[[Tensor], Tensor]) -> Callable[[], Case]:
    def build() -> Case:
        model = Of(lambda m, x: m.out(function(m.inner(x))), inner=nn.Linear(20, 64), out=nn.Linear(64, CLASSES))
        return Case(model, *vectors(), cross_entropy)

    return build


@torch.no_grad()
def _constant_graph(h: Tensor) -> Tensor:
    return h.relu()


def _repeated_examples() -> Case:
    case = SOUND["mlp"]()
    rows = torch.arange(64) % 16
    return case._replace(inputs=case.inputs[rows], target=case.target[rows])


def _strided() -> Case:
    net = nn.Sequential(nn.Conv2d(3, 16, 1, 4), nn.ReLU(), nn.Flatten(), nn.Linear(256, CLASSES))
    return Case(net, *images(), cross_entropy)


def _cropped() -> Case:
    net = Of(lambda m, x: m.body(x[:, :, :8, :8].flatten(1)), body=mlp(2, ins=192))
    return Case(net, *images(), cross_entropy)


def _sliced() -> Case:
    return Case(Of(lambda m, x: m.body(x[:, 1:]), body=mlp(2, ins=19)), *vectors(), cross_entropy)


def _argument() -> Case:
    x, y = vectors()
    return Case(Of(lambda m, x, more: m.body(x), body=mlp(2)), (x, torch.randn(64, 3)), y, cross_entropy)


class Columns(nn.Module):
    """Softmax over the examples within an attention over features."""

    def __init__(self) -> None:
        super().__init__()
        self.score, self.value, self.out = nn.Linear(20, 1), nn.Linear(20, 32), nn.Linear(32, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Returns scores."""
        return self.out((self.score(x).softmax(0) * len(x) * self.value(x)).relu())  # type: ignore[no-any-return]


def _over_batch() -> Case:
    return Case(Columns(), *vectors(), cross_entropy)


def _batch_mean() -> Case:
    model = Of(
        lambda m, x: m.out((m.inner(x) - m.inner(x).mean(0)).relu()),
        inner=nn.Linear(20, 32),
        out=nn.Linear(32, CLASSES),
    )
    return Case(model, *vectors(), cross_entropy)


def _nan(name: str) -> Callable[[Any], None]:
    return _filled(float("nan"), name)


SCALE = ("exploding signal", "large weights", "exploding gradient")
LOGITS = ("probabilities as logits",)
MIXED = ("mixed examples",)
_bce = functional.binary_cross_entropy_with_logits

FIRST: dict[str, dict[str, Fault]] = {
    "two inner layers scaled": {
        "mlp": Fault(SCALE, ("2", "4"), _in("mlp by He", _times(12, "2.weight", "4.weight"))),
        "cnn": Fault(
            SCALE, ("5", "0"), _in("cnn", lambda m: (initialize(m, "he"), _times(12, "0.weight", "5.weight")(m)))
        ),
    },
    "one inner layer exploding": {"deep": Fault(SCALE, ("8",), _in("deep mlp by He", _times(1e4, "8.weight")))},
    "one inner layer vanishing": {
        "deep": Fault(
            ("vanishing signal", "vanishing gradient"), ("8", "6"), _in("deep mlp by He", _times(1e-4, "8.weight"))
        )
    },
    "equal units in the first layer": {
        "constant": Fault(("symmetric units",), ("0",), _in("mlp", _filled(0.1, "0.weight", "0.bias"))),
        "rows": Fault(("symmetric units",), ("0",), _in("cnn", _equal_rows("0"))),
    },
    "equal units in an inner layer": {
        "mlp": Fault(("symmetric units",), ("2",), _in("mlp", _equal_rows("2"))),
        "attention": Fault(
            ("symmetric units",),
            ("encoder.layers.0.self_attn",),
            _in("transformer", _filled(0.05, "encoder.layers.0.self_attn.in_proj_weight")),
        ),
    },
    "softmax before cross-entropy": {
        "mlp": Fault(LOGITS, ("7", "6"), _after("mlp", lambda: nn.Softmax(1))),
        "function": Fault(LOGITS, ("body.out", ""), _functional("transformer", lambda y: y.softmax(1))),
    },
    "softmax before nll_loss": {
        "mlp": Fault(LOGITS, ("7", "6"), _after("mlp", lambda: nn.Softmax(1), loss=functional.nll_loss)),
    },
    "scores before nll_loss": {"mlp": Fault(("scores as log-probabilities",), ("6", ""), _raw("mlp"))},
    "sigmoid before cross-entropy": {"mlp": Fault(LOGITS, ("7", "6"), _after("mlp", nn.Sigmoid))},
    "sigmoid before BCE with logits": {
        "mlp": Fault(LOGITS, ("5", "4"), _after("rare positives", nn.Sigmoid)),
        "discriminator": Fault(LOGITS, ("7", "6"), _after("discriminator", nn.Sigmoid)),
    },
    "softmax over the batch": {
        "output": Fault(MIXED, ("7", "6"), _after("mlp", lambda: nn.Softmax(0))),
        "inner": Fault(MIXED, ("score", "", "out"), _over_batch),
    },
    "a view that mixes examples": {
        "images": Fault(MIXED, ("conv", "", "out"), _mixing_view),
        "vectors": Fault(MIXED, ("inner", "", "out"), _mixing_vectors),
    },
    "batch_first forgotten": {
        "lstm": Fault(MIXED, ("rnn",), _batch_second(nn.LSTM)),
        "encoder": Fault(MIXED, ("encoder", "encoder.layers.0", "encoder.layers.0.self_attn"), _encoder_second),
    },
    "layers in a plain list": {
        "mlp": Fault(
            ("unregistered parameters",), ("blocks.0", "blocks"), lambda: Case(Listed(), *vectors(), cross_entropy)
        ),
    },
    "no memory over 200 steps": {"lstm": Fault(("vanishing gradient through time",), ("rnn",), _long())},
    "attention scores scaled": {
        "encoder": Fault(
            ("saturated attention",),
            ("encoder.layers.0.self_attn", "encoder.layers.1.self_attn"),
            _in("transformer", _queries(30.0)),
        ),
        "by hand": Fault(("saturated attention",), ("query", "key"), _scores_times(30.0)),
    },
    "rectifier on the outputs": {
        "mlp": Fault(("bounded outputs",), ("7", "6"), _after("mlp", nn.ReLU)),
        "regression": Fault(("bounded outputs",), ("7", "6"), _after("regression", nn.ReLU)),
    },
    "one layer repeated": {
        "mlp": Fault(("shared layer",), ("2",), _repeated()),
        "list": Fault(("shared layer",), ("layers.0",), _repeated_list),
    },
    "no nonlinearity": {
        "mlp": Fault(
            ("no nonlinearity",), ("", "0"), lambda: Case(mlp(activation=nn.Identity), *vectors(), cross_entropy)
        ),
    },
    "a summed loss": {
        "mlp": Fault(("summed loss",), ("",), _with("mlp", loss=_summed)),
        "regression": Fault(("summed loss",), ("",), _with("regression", loss=_summed)),
    },
    "inputs 0 to 255": {
        "cnn": Fault(("input scale",), ("inputs",), _with("cnn", inputs=_bytes)),
        "mlp": Fault(("input scale",), ("inputs",), _with("digits", inputs=lambda x: (x * 255).round())),
    },
    "one feature of scale 1e6": {"mlp": Fault(("input scale",), ("inputs",), _with("mlp", inputs=_one_feature(1e6)))},
    "constant features": {
        "mlp": Fault(("constant features",), ("inputs",), _with("mlp", inputs=_constant(5.0, 2, 3, 11)))
    },
    "target (N,) against output (N, 1)": {"mlp": Fault(("broadcast target",), ("",), _flat_target())},
    "a frozen layer": {
        "mlp": Fault(("frozen parameters",), ("2",), _in("mlp", _freeze("2"))),
        "first": Fault(("frozen parameters",), ("0",), _in("mlp", _freeze("0"))),
    },
    "a dead layer": {"mlp": Fault(("dead units",), ("2",), _in("mlp", _filled(-100.0, "2.bias")))},
    "saturated tanh": {"mlp": Fault(("saturated units",), ("4",), _in("tanh", _filled(100.0, "4.bias")))},
    "sigmoids over depth": {
        "mlp": Fault(
            ("vanishing gradient", "vanishing signal"), ("0", "2", "4", "6", "8", "10", "12", "14", "16"), _sigmoid_deep
        )
    },
    "too small by default over depth": {
        "mlp": Fault(
            ("vanishing gradient", "vanishing signal"), tuple(str(i) for i in range(0, 30, 2)), _default_deep()
        )
    },
    "a wrong output bias": {
        "regression": Fault(("high start loss",), ("6",), _with("regression", target=lambda t: t + 50))
    },
    "outputs too large": {"mlp": Fault(("high start loss",), ("6",), _in("mlp by He", _times(100, "6.weight")))},
    "targets of a large scale": {
        "regression": Fault(("high start loss",), ("6",), _with("regression", target=lambda t: 1e4 * t + 1e5))
    },
    "NaN in a parameter": {"mlp": Fault(("not finite",), ("4.bias",), _in("mlp", _nan("4.bias")))},
    "NaN in the inputs": {
        "mlp": Fault(
            ("not finite",),
            ("", "inputs"),
            _with("mlp", inputs=lambda x: x.index_fill(0, torch.tensor(3), float("nan"))),
        )
    },
    "detached": {"mlp": Fault(("cut gradient",), ("middle",), _detached)},
    "a part that is not used": {"mlp": Fault(("unused parameters",), ("2.spare",), _in("mlp", _spare))},
    "all parameters zero": {"mlp": Fault(("symmetric units", "vanishing signal"), ("0",), _in("mlp", _all_zero))},
    "weights from U(0, 1)": {"mlp": Fault((*SCALE, "high start loss"), ("0", "2", "4", "6"), _in("mlp", _ones))},
    "weights from N(0, 1)": {
        "tanh": Fault(("saturated units", "chaos", *SCALE), ("0", "2", "4", "6"), _in("tanh", _normal(1.0)))
    },
    "weights from N(0, 1e-3²)": {
        "mlp": Fault(("vanishing signal", "vanishing gradient"), ("0", "2", "4"), _in("mlp", _normal(1e-3)))
    },
    "a gate that is shut": {"lstm": Fault(("saturated gates",), ("rnn",), _in("lstm", _shut(0)))},
    "recurrent weights too large": {
        "lstm": Fault(("saturated gates", "large weights", "chaos"), ("rnn",), _in("lstm", _chaotic))
    },
    "softmax between layers": {"mlp": Fault(("vanishing signal", "vanishing gradient"), ("0", "2", "4"), _soft_inner)},
    "it sees its target": {"transformer": Fault(("sees its target",), ("", "body.encoder"), _peeking)},
    "almost all dropped": {"mlp": Fault(("heavy dropout",), ("2",), _dropped(0.95))},
}
FURTHER: dict[str, dict[str, Fault]] = {
    "two inner layers scaled": {
        "autoencoder": Fault(
            SCALE,
            ("2", "4"),
            _in("small autoencoder", lambda m: (initialize(m, "he"), _times(12, "2.weight", "4.weight")(m))),
        ),
        "unet": Fault(
            SCALE, ("down2.0", "down2.2"), _in("U-Net, denoising", _times(12, "down2.0.weight", "down2.2.weight"))
        ),
        "tanh": Fault(
            (*SCALE, "saturated units"),
            ("2", "4"),
            _in("tanh", lambda m: (initialize(m, "he"), _times(12, "2.weight", "4.weight")(m))),
        ),
    },
    "one inner layer exploding": {
        "unet": Fault(SCALE, ("middle.0",), _in("U-Net, denoising", _times(1e3, "middle.0.weight")))
    },
    "equal units in the first layer": {
        "siamese": Fault(("symmetric units",), ("encode.0",), _in("siamese", _equal_rows("encode.0"))),
        "lstm": Fault(
            ("symmetric units",),
            ("rnn",),
            _in("lstm", _filled(0.1, "rnn.weight_ih_l0", "rnn.weight_hh_l0", "rnn.bias_ih_l0", "rnn.bias_hh_l0")),
        ),
        "GPT-2": Fault(
            ("symmetric units",),
            ("gpt.transformer.h.0.mlp.c_fc",),
            _in("GPT-2", _filled(0.02, "gpt.transformer.h.0.mlp.c_fc.weight")),
        ),
        "mixer": Fault(("symmetric units",), ("cut",), _in("mixer", _equal_rows("cut"))),
    },
    "softmax before cross-entropy": {
        "segmentation": Fault(LOGITS, ("body.out", ""), _functional("U-Net, segmentation", lambda y: y.softmax(1))),
        "BERT": Fault(LOGITS, ("body.classifier", ""), lambda: _soft_bert()),
    },
    "softmax before nll_loss": {
        "lstm": Fault(LOGITS, ("body.out", ""), _functional("lstm", lambda y: y.softmax(1), functional.nll_loss))
    },
    "scores before nll_loss": {"cnn": Fault(("scores as log-probabilities",), ("10", ""), _raw("cnn"))},
    "sigmoid before cross-entropy": {"cnn": Fault(LOGITS, ("11", "10"), _after("cnn", nn.Sigmoid))},
    "sigmoid before BCE with logits": {"labels": Fault(LOGITS, ("5", "4"), _after("labels", nn.Sigmoid))},
    "softmax over the batch": {
        "function": Fault(MIXED, ("body.out", ""), _functional("lstm", lambda y: y.softmax(0))),
        "centred": Fault(MIXED, ("inner", "", "out"), _batch_mean),
    },
    "a view that mixes examples": {"sequence": Fault(MIXED, ("rnn", "", "out"), _mixing_sequence)},
    "batch_first forgotten": {
        "gru": Fault(MIXED, ("rnn",), _batch_second(nn.GRU)),
        "attention": Fault(MIXED, ("attend",), _attention_second),
    },
    "layers in a plain list": {
        "cnn": Fault(
            ("unregistered parameters",), ("blocks.0", "blocks"), lambda: Case(Listed(True), *images(), cross_entropy)
        ),
        "dictionary": Fault(
            ("unregistered parameters",),
            ("part.heads.a", "part.heads"),
            lambda: Case(Heads(), *vectors(), cross_entropy),
        ),
        "a bare tensor": Fault(
            ("unregistered parameters",), ("weight", ""), lambda: Case(Bare(), *vectors(), cross_entropy)
        ),
    },
    "no memory over 200 steps": {
        "cells": Fault(("vanishing gradient through time",), ("cell",), _cells),
        "rnn": Fault(
            ("vanishing gradient through time",),
            ("rnn",),
            lambda: Case(recurrent(nn.RNN), *series(16, 150), cross_entropy),
        ),
    },
    "attention scores scaled": {
        "BERT": Fault(
            ("saturated attention",),
            tuple(f"bert.encoder.layer.{i}.attention.self.{n}" for i in range(3) for n in ("query", "key")),
            _in("BERT", _bert_queries),
        ),
    },
    "rectifier on the outputs": {
        "lstm": Fault(("bounded outputs",), ("body.out", ""), _functional("lstm", functional.relu))
    },
    "one layer repeated": {"cnn": Fault(("shared layer",), ("2",), _repeated(True))},
    "no nonlinearity": {
        "cnn": Fault(("no nonlinearity",), ("", "0"), _linear_images),
        "tokens": Fault(("no nonlinearity",), ("", "inner"), _linear_tokens),
    },
    "a summed loss": {"lstm": Fault(("summed loss",), ("",), _with("lstm", loss=_summed))},
    "inputs 0 to 255": {
        "vision transformer": Fault(("input scale",), ("inputs",), _with("vision transformer", inputs=_bytes))
    },
    "one feature of scale 1e6": {
        "lstm": Fault(("input scale",), ("inputs",), _with("lstm", inputs=_one_feature(1e6, 2))),
        "small": Fault(("input scale",), ("inputs",), _with("regression", inputs=_one_feature(1e-6, 4))),
    },
    "constant features": {
        "zeros": Fault(("constant features",), ("inputs",), _with("regression", inputs=_constant(0.0, 4))),
        "channel": Fault(("constant features",), ("inputs",), _with("cnn", inputs=_constant(0.0, 1, dim=1))),
    },
    "target (N,) against output (N, 1)": {
        "absolute": Fault(("broadcast target",), ("",), _flat_target(loss=_noisy_mean)),
        "flat output": Fault(("broadcast target",), ("",), _tail_target),
    },
    "a frozen layer": {"cnn": Fault(("frozen parameters",), ("5",), _in("cnn", _freeze("5")))},
    "a dead layer": {
        "cnn": Fault(("dead units",), ("5",), _in("cnn with batch norm", _filled(-100.0, "6.bias"))),
        "discriminator": Fault(
            ("dead units",), ("down1.0",), _in("U-Net, segmentation", _filled(-100.0, "down1.0.bias"))
        ),
    },
    "saturated tanh": {"rnn": Fault(("saturated units",), ("rnn",), _in("rnn", _filled(100.0, "rnn.bias_ih_l0")))},
    "chaos": {
        "tanh": Fault(("chaos", "saturated units", "large weights"), tuple(str(i) for i in range(0, 42, 2)), _tanh_deep)
    },
    "too small by default over depth": {
        "cnn": Fault(("vanishing gradient", "vanishing signal"), tuple(str(i) for i in range(0, 34, 2)), _residual_less)
    },
    "a wrong output bias": {
        "autoencoder": Fault(("high start loss",), ("6",), _in("small autoencoder", _filled(20.0, "6.bias")))
    },
    "outputs too large": {
        "transformer": Fault(("high start loss",), ("out",), _in("transformer", _times(60, "out.weight")))
    },
    "a part that is not used": {"branch": Fault(("unused parameters",), ("aside",), _unused_branch)},
    "norms at zero": {
        "resnet": Fault(
            ("vanishing signal", "symmetric units", "constant output"), ("0", "3.one", ""), _in("resnet", _zero_norms)
        )
    },
    "normalized alone": {
        "output": Fault(("normalized alone",), ("7",), _after("regression", lambda: nn.LayerNorm(1))),
        "groups": Fault(("normalized alone",), ("1",), lambda: _between(nn.GroupNorm(64, 64))),
        "function": Fault(
            ("same output",), ("body.6",), _functional("regression", lambda y: functional.layer_norm(y, (1,)))
        ),
    },
    "all dropped": {
        "mlp": Fault(("heavy dropout",), ("2",), _dropped(1.0)),
        "lstm": Fault(("heavy dropout",), ("rnn",), _in("lstm, both ways", lambda m: setattr(m.rnn, "dropout", 1.0))),
        "function": Fault(("heavy dropout",), ("inner",), _dropped_by_function),
    },
    "a cut gradient": {
        "no_grad": Fault(("cut gradient",), ("inner",), _stepwise(_constant_graph)),
        "round": Fault(("cut gradient",), ("inner",), _stepwise(torch.round)),
        "comparison": Fault(("cut gradient",), ("inner",), _stepwise(lambda h: (h > 0).float())),
    },
    "copied examples": {"mlp": Fault(("copied examples",), ("inputs",), _repeated_examples)},
    "inputs that are not read": {
        "stride": Fault(("unread inputs",), ("inputs",), _strided),
        "crop": Fault(("unread inputs",), ("inputs",), _cropped),
        "feature": Fault(("unread inputs",), ("inputs",), _sliced),
        "argument": Fault(("unread inputs",), ("inputs[1]",), _argument),
    },
    "everything frozen": {"mlp": Fault(("frozen parameters",), ("",), _in("mlp", lambda m: m.requires_grad_(False)))},
    "a gate that is shut": {"gru": Fault(("saturated gates",), ("rnn",), _in("gru", _shut(1)))},
}


def _soft_bert() -> Case:
    case = SOUND["BERT"]()
    return case._replace(
        model=Of(lambda m, x: m.body(x).logits.softmax(1), body=case.model), loss=functional.cross_entropy
    )


FAULTS = {kind: FIRST.get(kind, {}) | FURTHER.get(kind, {}) for kind in dict.fromkeys([*FIRST, *FURTHER])}
