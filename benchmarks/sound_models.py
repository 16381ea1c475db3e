"""Sound models of many kinds with a batch and a loss each, as people have them: what a diagnosis must not warn of.

Every builder draws from torch's global generator; seed it before. All of them were in view while the thresholds of the
diagnosis were set, those of ``FIRST`` first and those of ``FURTHER`` for a check, after which thresholds moved too.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from thalweg.initialization import initialize

CLASSES = 10


class Case(NamedTuple):
    """A model with what :func:`thalweg.diagnose` takes beside it."""

    model: nn.Module
    inputs: Any
    target: Any
    loss: Callable[[Any, Any], Tensor]


class Of(nn.Module):
    """A module out of parts and a function of them and the inputs."""

    def __init__(self, function: Callable[..., Any], **parts: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, *inputs: Any) -> Any:
        """Returns the function's value."""
        return self.function(self, *inputs)


def vectors(examples: int = 64, ins: int = 20, classes: int = CLASSES) -> tuple[Tensor, Tensor]:
    """Returns standard-normal inputs and balanced classes."""
    return torch.randn(examples, ins), torch.arange(examples) % classes


def images(examples: int = 32, size: int = 16, channels: int = 3) -> tuple[Tensor, Tensor]:
    """Returns standardized smooth images and balanced classes."""
    rough = torch.randn(examples, channels, size // 4, size // 4)
    smooth = functional.interpolate(rough, scale_factor=4.0, mode="bilinear") + 0.1 * torch.randn(
        examples, channels, size, size
    )
    return (smooth - smooth.mean()) / smooth.std(), torch.arange(examples) % CLASSES


def tokens(examples: int = 32, length: int = 12, vocabulary: int = 50) -> tuple[Tensor, Tensor]:
    """Returns random tokens and balanced classes."""
    return torch.randint(vocabulary, (examples, length)), torch.arange(examples) % CLASSES


def series(examples: int = 32, length: int = 12, features: int = 6) -> tuple[Tensor, Tensor]:
    """Returns random walks of unit scale and balanced classes."""
    walks = torch.randn(examples, length, features).cumsum(1)
    return walks / walks.std(), torch.arange(examples) % CLASSES


def mlp(
    depth: int = 3, width: int = 64, activation: Callable[[], nn.Module] = nn.ReLU, ins: int = 20, outs: int = CLASSES
) -> nn.Sequential:
    """Returns a perceptron with so many inner layers."""
    inner: list[nn.Module] = []
    for i in range(depth):
        inner += [nn.Linear(ins if i == 0 else width, width), activation()]
    return nn.Sequential(*inner, nn.Linear(width, outs))


def drawn(model: nn.Module, scheme: str = "he") -> nn.Module:
    """Returns the model with its parameters drawn by a scheme."""
    initialize(model, scheme)
    return model


def cnn(norm: bool = True) -> nn.Sequential:
    """Returns two convolutions with pooling and a dense layer."""
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1, bias=not norm),
        nn.BatchNorm2d(16) if norm else nn.Identity(),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Dropout2d(0.2),
        nn.Conv2d(16, 32, 3, padding=1, bias=not norm),
        nn.BatchNorm2d(32) if norm else nn.Identity(),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(512, CLASSES),
    )


def residual_block(channels: int, zero: bool = False) -> nn.Module:
    """Returns a block of two convolutions with batch normalization and a shortcut."""
    block = Of(
        lambda m, x: functional.relu(x + m.norm2(m.two(functional.relu(m.norm1(m.one(x)))))),
        one=nn.Conv2d(channels, channels, 3, padding=1, bias=False),
        norm1=nn.BatchNorm2d(channels),
        two=nn.Conv2d(channels, channels, 3, padding=1, bias=False),
        norm2=nn.BatchNorm2d(channels),
    )
    if zero:
        nn.init.zeros_(block.norm2.weight)  # type: ignore[arg-type, union-attr]
    return block


def resnet(zero: bool = False, blocks: int = 3) -> nn.Sequential:
    """Returns a small residual network."""
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        *(residual_block(16, zero) for _ in range(blocks)),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, CLASSES),
    )


def unet(outs: int = 3) -> nn.Module:
    """Returns a U-Net of two levels without normalization."""

    def twice(ins: int, outs: int) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(ins, outs, 3, padding=1), nn.ReLU(), nn.Conv2d(outs, outs, 3, padding=1), nn.ReLU()
        )

    def run(m: Any, x: Tensor) -> Tensor:
        a = m.down1(x)
        b = m.down2(functional.max_pool2d(a, 2))
        c = m.middle(functional.max_pool2d(b, 2))
        b = m.up2(torch.cat([m.rise2(c), b], 1))
        a = m.up1(torch.cat([m.rise1(b), a], 1))
        return m.out(a)  # type: ignore[no-any-return]

    return Of(
        run,
        down1=twice(3, 8),
        down2=twice(8, 16),
        middle=twice(16, 32),
        rise2=nn.ConvTranspose2d(32, 16, 2, stride=2),
        up2=twice(32, 16),
        rise1=nn.ConvTranspose2d(16, 8, 2, stride=2),
        up1=twice(16, 8),
        out=nn.Conv2d(8, outs, 1),
    )


def recurrent(kind: type[nn.RNNBase] = nn.LSTM, ins: int = 6, units: int = 24, **options: Any) -> nn.Module:
    """Returns a recurrent classifier by its last state."""
    width = units * (2 if options.get("bidirectional") else 1)
    return Of(
        lambda m, x: m.out(m.rnn(x)[0][:, -1]),
        rnn=kind(ins, units, batch_first=True, **options),  # type: ignore[arg-type]
        out=nn.Linear(width, CLASSES),
    )


def transformer(
    layers: int = 2, first: bool = True, norm_first: bool = False, width: int = 32, causal: bool = False
) -> nn.Module:
    """Returns an encoder of tokens with learned positions; classes of the mean, or with a mask the next token."""

    def run(m: Any, x: Tensor) -> Tensor:
        h = m.embed(x) + m.place(torch.arange(x.shape[1]))
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1]) if causal else None
        h = m.encoder(h if first else h.transpose(0, 1), mask=mask)
        h = h if first else h.transpose(0, 1)
        return m.out(h).transpose(1, 2) if causal else m.out(h.mean(1))  # type: ignore[no-any-return]

    layer = nn.TransformerEncoderLayer(width, 4, 2 * width, 0.1, batch_first=first, norm_first=norm_first)
    return Of(
        run,
        embed=nn.Embedding(50, width),
        place=nn.Embedding(64, width),
        encoder=nn.TransformerEncoder(layer, layers, enable_nested_tensor=False),
        out=nn.Linear(width, 50 if causal else CLASSES),
    )


class Sine(nn.Module):
    """A layer of a SIREN."""

    def __init__(self, ins: int, outs: int, first: bool = False) -> None:
        super().__init__()
        self.linear = nn.Linear(ins, outs)
        bound = 1 / ins if first else math.sqrt(6 / ins) / 30
        nn.init.uniform_(self.linear.weight, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        """Returns sin(30 (Wx + b))."""
        return torch.sin(30 * self.linear(x))


def siren() -> nn.Module:
    """Returns a SIREN from the plane to a number."""
    out = nn.Linear(32, 1)
    nn.init.uniform_(out.weight, -math.sqrt(6 / 32) / 30, math.sqrt(6 / 32) / 30)
    return nn.Sequential(Sine(2, 32, True), Sine(32, 32), Sine(32, 32), out)


def _classified(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Case:
    return Case(model, batch[0], batch[1], functional.cross_entropy)


def _regressed(model: nn.Module, examples: int = 64, outs: int = 1, shift: float = 0.0) -> Case:
    x = torch.randn(examples, 20)
    y = x[:, :outs] * 0.8 + 0.6 * torch.randn(examples, outs) + shift
    return Case(model, x, y, functional.mse_loss)


def _auto(model: nn.Module, x: Tensor, loss: Any = functional.mse_loss) -> Case:
    return Case(model, x, x.flatten(1), loss)


def _digits(examples: int = 64) -> tuple[Tensor, Tensor]:
    from sklearn.datasets import load_digits

    data = load_digits()
    rows = torch.randperm(len(data.data))[:examples]
    return torch.tensor(data.data[rows] / 16, dtype=torch.float32), torch.tensor(data.target[rows])


def _small_autoencoder() -> Case:
    x = _digits()[0]
    model = nn.Sequential(
        nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 6), nn.ReLU(), nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 64)
    )
    return _auto(model, x)


def _tight_autoencoder() -> Case:
    x = _digits()[0]
    model = nn.Sequential(
        nn.Linear(64, 16),
        nn.ReLU(),
        nn.Linear(16, 3),
        nn.ReLU(),
        nn.Linear(3, 16),
        nn.ReLU(),
        nn.Linear(16, 64),
        nn.Sigmoid(),
    )
    return _auto(model, x, functional.binary_cross_entropy)


def _conv_autoencoder() -> Case:
    x = images()[0].sigmoid()
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, 2, 1),
        nn.ReLU(),
        nn.Conv2d(16, 8, 3, 2, 1),
        nn.ReLU(),
        nn.ConvTranspose2d(8, 16, 4, 2, 1),
        nn.ReLU(),
        nn.ConvTranspose2d(16, 3, 4, 2, 1),
        nn.Sigmoid(),
    )
    return Case(model, x, x, functional.mse_loss)


def _vae() -> Case:
    def run(m: Any, x: Tensor) -> Any:
        mean, log_variance = m.encode(x).chunk(2, 1)
        z = mean + (log_variance / 2).exp() * torch.randn_like(mean)
        return m.decode(z), mean, log_variance

    def loss(output: Any, x: Tensor) -> Tensor:
        y, mean, log_variance = output
        fit = functional.binary_cross_entropy_with_logits(y, x, reduction="sum")
        return (fit - 0.5 * (1 + log_variance - mean**2 - log_variance.exp()).sum()) / len(x)

    model = Of(
        run,
        encode=nn.Sequential(nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 8)),
        decode=nn.Sequential(nn.Linear(4, 48), nn.ReLU(), nn.Linear(48, 64)),
    )
    x = _digits()[0]
    return Case(model, x, x, loss)


def _language_lstm() -> Case:
    model = Of(
        lambda m, x: m.out(m.rnn(m.embed(x))[0]).transpose(1, 2),
        embed=nn.Embedding(50, 16),
        rnn=nn.LSTM(16, 32, batch_first=True),
        out=nn.Linear(32, 50),
    )
    x = torch.randint(50, (16, 61))
    return Case(model, x[:, :-1], x[:, 1:], functional.cross_entropy)


def _bert() -> Case:
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(
        vocab_size=50,
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=32,
        num_labels=CLASSES,
    )
    x, y = tokens()
    return Case(BertForSequenceClassification(config), x, y, lambda o, t: functional.cross_entropy(o.logits, t))


def _gpt2() -> Case:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(vocab_size=50, n_positions=32, n_embd=32, n_layer=3, n_head=4)
    x = torch.randint(50, (16, 17))
    model = Of(lambda m, x: m.gpt(x).logits.transpose(1, 2), gpt=GPT2LMHeadModel(config))
    return Case(model, x[:, :-1], x[:, 1:], functional.cross_entropy)


def _vision_transformer() -> Case:
    class Vision(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cut = nn.Conv2d(3, 32, 4, stride=4)
            self.first, self.place = nn.Parameter(torch.zeros(1, 1, 32)), nn.Parameter(0.02 * torch.randn(1, 17, 32))
            layer = nn.TransformerEncoderLayer(32, 4, 64, 0.0, "gelu", batch_first=True, norm_first=True)
            self.encoder = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)
            self.norm, self.out = nn.LayerNorm(32), nn.Linear(32, CLASSES)

        def forward(self, x: Tensor) -> Tensor:
            h = self.cut(x).flatten(2).transpose(1, 2)
            h = torch.cat([self.first.expand(len(x), -1, -1), h], 1) + self.place
            return self.out(self.norm(self.encoder(h))[:, 0])  # type: ignore[no-any-return]

    return _classified(Vision(), images())


def _siren() -> Case:
    x = torch.rand(256, 2) * 2 - 1
    y = torch.sin(5 * x[:, :1]) * torch.cos(4 * x[:, 1:])
    return Case(siren(), x, y, functional.mse_loss)


def _discriminator() -> Case:
    model = nn.Sequential(
        nn.Conv2d(3, 16, 4, 2, 1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(16, 32, 4, 2, 1, bias=False),
        nn.BatchNorm2d(32),
        nn.LeakyReLU(0.2),
        nn.Flatten(),
        nn.Linear(512, 1),
    )
    x, _ = images()
    y = (torch.arange(32) % 2).float()[:, None]
    return Case(model, x, y, functional.binary_cross_entropy_with_logits)


def _generator() -> Case:
    judge = nn.Sequential(nn.Conv2d(3, 16, 4, 2, 1), nn.LeakyReLU(0.2), nn.Flatten(), nn.Linear(1024, 1))
    model = nn.Sequential(
        nn.ConvTranspose2d(16, 32, 4, 1, 0, bias=False),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.ConvTranspose2d(32, 16, 4, 2, 1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.ConvTranspose2d(16, 3, 4, 2, 1),
        nn.Tanh(),
    )

    def drawn_as_published(module: nn.Module) -> None:
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.normal_(module.weight, 0.0, 0.02)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, 0.02)

    model.apply(drawn_as_published)
    ones = torch.ones(32, 1)
    return Case(
        model, torch.randn(32, 16, 1, 1), ones, lambda y, t: functional.binary_cross_entropy_with_logits(judge(y), t)
    )


def _critic() -> Case:
    model = nn.Sequential(nn.Linear(20, 64), nn.LeakyReLU(0.2), nn.Linear(64, 64), nn.LeakyReLU(0.2), nn.Linear(64, 1))
    x = torch.randn(64, 20)
    return Case(model, x, (torch.arange(64) % 2 * 2 - 1).float()[:, None], lambda y, t: (y * t).mean())


def _siamese() -> Case:
    def loss(output: Any, same: Tensor) -> Tensor:
        distance = (output[0] - output[1]).square().sum(1).add(1e-6).sqrt()
        return (same * distance**2 + (1 - same) * (1 - distance).clamp_min(0) ** 2).mean()

    model = Of(lambda m, a, b: (m.encode(a), m.encode(b)), encode=mlp(2, outs=16))
    return Case(model, (torch.randn(64, 20), torch.randn(64, 20)), (torch.arange(64) % 2).float(), loss)


def _contrastive() -> Case:
    model = Of(lambda m, a, b: (m.encode(a), m.encode(b)), encode=mlp(2, outs=16))

    def loss(output: Any, _: Any) -> Tensor:
        a, b = (functional.normalize(z, dim=1) for z in output)
        return functional.cross_entropy(a @ b.T / 0.5, torch.arange(len(a)))

    x = torch.randn(64, 20)
    return Case(model, (x, x + 0.1 * torch.randn(64, 20)), None, loss)


def _mixture_of_experts() -> Case:
    def run(m: Any, x: Tensor) -> Tensor:
        gates = m.gate(x).softmax(1)
        return (torch.stack([e(x) for e in m.experts], 2) * gates[:, None]).sum(2)  # type: ignore[no-any-return]

    model = Of(run, gate=nn.Linear(20, 4), experts=nn.ModuleList(mlp(1, 32) for _ in range(4)))
    return _classified(model, vectors())


def _sparse_experts() -> Case:
    def run(m: Any, x: Tensor) -> Tensor:
        scores = m.gate(x)
        best, at = scores.topk(2, 1)
        gates = torch.zeros_like(scores).scatter(1, at, best.softmax(1))
        h = m.inner(x).relu()
        return m.out(h + sum(gates[:, i, None] * e(h) for i, e in enumerate(m.experts)))  # type: ignore[no-any-return]

    model = Of(
        run,
        gate=nn.Linear(20, 4),
        inner=nn.Linear(20, 32),
        experts=nn.ModuleList(mlp(1, 32, ins=32, outs=32) for _ in range(4)),
        out=nn.Linear(32, CLASSES),
    )
    return _classified(model, vectors())


def _graph() -> Case:
    nodes = 60
    edges = (torch.rand(nodes, nodes) < 0.08).float()
    adjacency = ((edges + edges.T) > 0).float() + torch.eye(nodes)
    root = adjacency.sum(1).rsqrt()
    model = Of(lambda m, x, a: m.out(a @ (a @ m.inner(x)).relu()), inner=nn.Linear(20, 32), out=nn.Linear(32, 5))
    return Case(
        model,
        (torch.randn(nodes, 20), root[:, None] * adjacency * root),
        torch.arange(nodes) % 5,
        functional.cross_entropy,
    )


def _message_passing() -> Case:
    nodes = 60
    edges = torch.randint(nodes, (2, 240))

    def run(m: Any, x: Tensor, edges: Tensor) -> Tensor:
        h = m.inner(x).relu()
        for layer in m.layers:
            messages = torch.zeros_like(h).index_add(0, edges[1], h[edges[0]]) / 4
            h = layer(torch.cat([h, messages], 1)).relu()
        return m.out(h)  # type: ignore[no-any-return]

    layers = nn.ModuleList(nn.Linear(64, 32) for _ in range(2))
    model = Of(run, inner=nn.Linear(20, 32), layers=layers, out=nn.Linear(32, 5))
    return Case(model, (torch.randn(nodes, 20), edges), torch.arange(nodes) % 5, functional.cross_entropy)


def _sets() -> Case:
    model = Of(lambda m, x: m.after(m.before(x).amax(1)), before=mlp(1, 32, ins=3, outs=32), after=mlp(1, 32, ins=32))
    return Case(model, torch.randn(32, 20, 3), torch.arange(32) % CLASSES, functional.cross_entropy)


def _mixture_density() -> Case:
    def loss(y: Tensor, t: Tensor) -> Tensor:
        weight, mean, log_scale = y.chunk(3, 1)
        at = -0.5 * ((t - mean) / log_scale.exp()) ** 2 - log_scale
        return -(weight.log_softmax(1) + at).logsumexp(1).mean()

    x = torch.randn(64, 20)
    return Case(mlp(2, 32, nn.Tanh, outs=9), x, x[:, :1] + 0.3 * torch.randn(64, 1), loss)


def _labels() -> Case:
    x = torch.randn(64, 20)
    return Case(mlp(2, outs=6), x, (torch.rand(64, 6) < 0.3).float(), functional.binary_cross_entropy_with_logits)


def _rare() -> Case:
    x = torch.randn(64, 20)
    y = (torch.rand(64, 1) < 0.1).float()
    y[0], y[1] = 1, 0
    return Case(mlp(2, outs=1), x, y, functional.binary_cross_entropy_with_logits)


def _bag() -> Case:
    x, y = tokens()
    model = Of(lambda m, x: m.out(m.embed(x)), embed=nn.EmbeddingBag(50, 16), out=nn.Linear(16, CLASSES))
    return _classified(model, (x, y))


def _factors() -> Case:
    def run(m: Any, user: Tensor, item: Tensor) -> Tensor:
        both = (m.user(user) * m.item(item)).sum(1)
        return both + m.user_bias(user)[:, 0] + m.item_bias(item)[:, 0]  # type: ignore[no-any-return]

    model = Of(
        run,
        user=nn.Embedding(40, 8),
        item=nn.Embedding(30, 8),
        user_bias=nn.Embedding(40, 1),
        item_bias=nn.Embedding(30, 1),
    )
    for table in model.children():
        nn.init.normal_(table.weight, 0.0, 0.1)  # type: ignore[arg-type]
    pairs = (torch.randint(40, (64,)), torch.randint(30, (64,)))
    return Case(model, pairs, torch.randn(64), functional.mse_loss)


def _temporal() -> Case:
    def block(ins: int, step: int) -> nn.Module:
        return Of(
            lambda m, x: functional.relu(m.conv(functional.pad(x, (2 * step, 0))) + m.beside(x)),
            conv=nn.Conv1d(ins, 16, 3, dilation=step),
            beside=nn.Conv1d(ins, 16, 1),
        )

    model = Of(
        lambda m, x: m.out(m.body(x.transpose(1, 2))[:, :, -1]),
        body=nn.Sequential(block(6, 1), block(16, 2), block(16, 4)),
        out=nn.Linear(16, CLASSES),
    )
    return _classified(model, series())


def _translator() -> Case:
    def run(m: Any, source: Tensor, target: Tensor) -> Tensor:
        memory, state = m.encoder(m.embed(source))
        found = []
        h = state[0]
        for t in range(target.shape[1]):
            weights = m.score(torch.tanh(memory + m.query(h)[:, None])).softmax(1)
            h = m.cell(torch.cat([m.embed(target[:, t]), (weights * memory).sum(1)], 1), h)
            found.append(m.out(h))
        return torch.stack(found, 2)

    model = Of(
        run,
        embed=nn.Embedding(50, 16),
        encoder=nn.GRU(16, 24, batch_first=True),
        query=nn.Linear(24, 24),
        score=nn.Linear(24, 1),
        cell=nn.GRUCell(40, 24),
        out=nn.Linear(24, 50),
    )
    x, y = torch.randint(50, (16, 10)), torch.randint(50, (16, 9))
    return Case(model, (x, y[:, :-1]), y[:, 1:], functional.cross_entropy)


def _transferred() -> Case:
    net = cnn()
    net[:8].requires_grad_(False)
    return _classified(net, images())


def _mixer() -> Case:
    def block() -> nn.Module:
        def run(m: Any, x: Tensor) -> Tensor:
            x = x + m.across(m.norm1(x).transpose(1, 2)).transpose(1, 2)
            return x + m.within(m.norm2(x))  # type: ignore[no-any-return]

        across = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16))
        within = nn.Sequential(nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 32))
        return Of(run, norm1=nn.LayerNorm(32), across=across, norm2=nn.LayerNorm(32), within=within)

    model = Of(
        lambda m, x: m.out(m.norm(m.body(m.cut(x).flatten(2).transpose(1, 2))).mean(1)),
        cut=nn.Conv2d(3, 32, 4, stride=4),
        body=nn.Sequential(block(), block()),
        norm=nn.LayerNorm(32),
        out=nn.Linear(32, CLASSES),
    )
    return _classified(model, images())


def _dense_blocks() -> Case:
    def run(m: Any, x: Tensor) -> Tensor:
        for layer in m.layers:
            x = torch.cat([x, layer(x)], 1)
        return m.out(x.mean((2, 3)))  # type: ignore[no-any-return]

    layers = nn.ModuleList(
        nn.Sequential(nn.BatchNorm2d(3 + 8 * i), nn.ReLU(), nn.Conv2d(3 + 8 * i, 8, 3, padding=1, bias=False))
        for i in range(4)
    )
    return _classified(Of(run, layers=layers, out=nn.Linear(35, CLASSES)), images())


def _quantiles() -> Case:
    levels = torch.tensor([0.1, 0.5, 0.9])
    x = torch.randn(64, 20)

    def loss(y: Tensor, t: Tensor) -> Tensor:
        return torch.maximum(levels * (t - y), (levels - 1) * (t - y)).mean()

    return Case(mlp(2, outs=3), x, x[:, :1] + torch.randn(64, 1), loss)


def _counts() -> Case:
    x = torch.randn(64, 20)
    y = torch.poisson((x[:, :1] * 0.5 + 1).exp())
    return Case(mlp(2, outs=1), x, y, functional.poisson_nll_loss)


def _radiance() -> Case:
    def run(m: Any, x: Tensor) -> Tensor:
        waves = x[..., None] * 2.0 ** torch.arange(6) * math.pi
        return m.body(torch.cat([waves.sin(), waves.cos()], -1).flatten(1))  # type: ignore[no-any-return]

    x = torch.rand(256, 3) * 2 - 1
    return Case(Of(run, body=mlp(4, 32, ins=36, outs=3)), x, (x.sin() + 1) / 2, functional.mse_loss)


def _normalized_table() -> Case:
    scale = torch.logspace(-2, 4, 20)
    x = torch.randn(64, 20) * scale + scale
    model = nn.Sequential(nn.BatchNorm1d(20), *mlp(2))
    return Case(model, x, torch.arange(64) % CLASSES, functional.cross_entropy)


def _wide_head() -> Case:
    return Case(mlp(2, outs=1000), torch.randn(64, 20), torch.randint(1000, (64,)), functional.cross_entropy)


def _he_wide_head() -> Case:
    return Case(drawn(mlp(4, outs=1000)), torch.randn(64, 20), torch.arange(64) * 15, functional.cross_entropy)


def _segmented() -> Case:
    x, _ = images()
    y = (x[:, 0] > 0.5).long() + (x[:, 1] > 0).long()
    return Case(unet(), x, y, functional.cross_entropy)


def _denoised() -> Case:
    x, _ = images()
    return Case(unet(), x + 0.3 * torch.randn_like(x), x, functional.mse_loss)


def _diffusion() -> Case:
    def run(m: Any, x: Tensor, time: Tensor) -> Tensor:
        waves = time[:, None] * torch.exp(-math.log(1e4) * torch.arange(8) / 8)
        h = m.inner(x).relu() + m.time(torch.cat([waves.sin(), waves.cos()], 1))
        return m.out(m.middle(functional.silu(h)).relu())  # type: ignore[no-any-return]

    model = Of(run, inner=nn.Linear(20, 64), time=nn.Linear(16, 64), middle=nn.Linear(64, 64), out=nn.Linear(64, 20))
    noise, time = torch.randn(64, 20), torch.randint(1000, (64,))
    return Case(model, (torch.randn(64, 20) + noise, time), noise, functional.mse_loss)


def _double_q() -> Case:
    x = torch.randn(64, 8)
    action = torch.randint(4, (64,))
    reward = (torch.rand(64) < 0.2).float()

    def loss(q: Tensor, t: tuple[Tensor, Tensor]) -> Tensor:
        return functional.smooth_l1_loss(q.gather(1, t[0][:, None])[:, 0], t[1])

    return Case(mlp(2, ins=8, outs=4), x, (action, reward), loss)


def _policy() -> Case:
    x, action = torch.randn(64, 8), torch.randint(4, (64,))
    model = nn.Sequential(*mlp(2, activation=nn.Tanh, ins=8, outs=4), nn.LogSoftmax(1))
    return Case(model, x, (action, torch.randn(64)), lambda y, t: -(y.gather(1, t[0][:, None])[:, 0] * t[1]).mean())


def _spread() -> Case:
    x = torch.randn(64, 20)
    y = x[:, :1] + 0.5 * torch.randn(64, 1)
    model = Of(
        lambda m, x: (m.mean(m.body(x)), functional.softplus(m.spread(m.body(x))) + 1e-3),
        body=nn.Sequential(nn.Linear(20, 32), nn.ReLU()),
        mean=nn.Linear(32, 1),
        spread=nn.Linear(32, 1),
    )
    return Case(model, x, y, lambda o, t: functional.gaussian_nll_loss(o[0], t, o[1]))


def _house_prices() -> Case:
    return _regressed(drawn(mlp(3, outs=1)), shift=2.0)


def _mobile() -> Case:
    def block(channels: int) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU6(),
            nn.Conv2d(channels, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU6(),
        )

    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, 2, 1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU6(),
        block(16),
        block(16),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, CLASSES),
    )
    return _classified(model, images())


def _highway() -> Case:
    def run(m: Any, x: Tensor) -> Tensor:
        h = m.inner(x).relu()
        for scale, layer in zip(m.scales, m.layers, strict=True):
            h = h + scale * layer(h).relu()
        return m.out(h)  # type: ignore[no-any-return]

    model = Of(
        run,
        inner=nn.Linear(20, 64),
        layers=nn.ModuleList(nn.Linear(64, 64) for _ in range(8)),
        scales=nn.ParameterList(torch.zeros(()) for _ in range(8)),
        out=nn.Linear(64, CLASSES),
    )
    return _classified(model, vectors())


def _branches_at_zero() -> Case:
    def block() -> nn.Module:
        model = Of(lambda m, x: x + m.last(m.first(x).relu()), first=nn.Linear(20, 40), last=nn.Linear(40, 20))
        nn.init.zeros_(model.last.weight)  # type: ignore[arg-type, union-attr]
        return model

    return _classified(nn.Sequential(block(), block(), nn.Linear(20, CLASSES)), vectors())


def _encoder_at_zero() -> Case:
    model = transformer(2, norm_first=True)
    for layer in model.encoder.layers:  # type: ignore[union-attr]
        nn.init.zeros_(layer.self_attn.out_proj.weight), nn.init.zeros_(layer.linear2.weight)  # type: ignore[union-attr]
    return _classified(model, tokens())


def _adapted() -> Case:
    def adapted(inputs: int, outputs: int) -> nn.Module:
        model = Of(
            lambda m, x: m.base(x) + m.up(m.down(x)),
            base=nn.Linear(inputs, outputs).requires_grad_(False),
            down=nn.Linear(inputs, 4, bias=False),
            up=nn.Linear(4, outputs, bias=False),
        )
        nn.init.zeros_(model.up.weight)  # type: ignore[arg-type, union-attr]
        return model

    return _classified(nn.Sequential(adapted(20, 64), nn.ReLU(), adapted(64, CLASSES)), vectors())


def _bottlenecks() -> Case:
    def block() -> nn.Module:
        def run(m: Any, x: Tensor) -> Tensor:
            h = m.base(x).relu()
            return h + m.up(m.down(h).relu())  # type: ignore[no-any-return]

        model = Of(run, base=nn.Linear(64, 64).requires_grad_(False), down=nn.Linear(64, 16), up=nn.Linear(16, 64))
        nn.init.zeros_(model.up.weight)  # type: ignore[arg-type, union-attr]
        return model

    first = nn.Linear(20, 64).requires_grad_(False)
    return _classified(nn.Sequential(first, nn.ReLU(), block(), block(), nn.Linear(64, CLASSES)), vectors())


def _first_gate_at_zero() -> Case:
    model = Of(
        lambda m, x: m.out(x + m.gates[0] * m.branch(x)),
        branch=nn.Sequential(nn.Linear(20, 40), nn.ReLU(), nn.Linear(40, 20)),
        gates=nn.ParameterList([torch.zeros(())]),
        out=nn.Linear(20, CLASSES),
    )
    return _classified(model, vectors())


def _straight_through() -> Case:
    def run(m: Any, x: Tensor) -> Tensor:
        h = m.inner(x)
        return m.out(h + (h.round() - h).detach())  # type: ignore[no-any-return]

    return _classified(Of(run, inner=nn.Linear(20, 64), out=nn.Linear(64, CLASSES)), vectors())


def _tied_language() -> Case:
    model = transformer(2, causal=True)
    nn.init.normal_(model.embed.weight, 0.0, 0.02)  # type: ignore[arg-type, union-attr]
    model.out.weight = model.embed.weight  # type: ignore[union-attr]
    x = torch.randint(50, (16, 17))
    return Case(model, x[:, :-1], x[:, 1:], functional.cross_entropy)


def _pooled_lstm() -> Case:
    model = Of(
        lambda m, x: m.out(m.rnn(x)[0].mean(1)), rnn=nn.LSTM(6, 24, batch_first=True), out=nn.Linear(24, CLASSES)
    )
    return _classified(model, series(length=80))


def _causal() -> Case:
    x = torch.randint(50, (16, 17))
    return Case(transformer(2, causal=True, norm_first=True), x[:, :-1], x[:, 1:], functional.cross_entropy)


Builder = Callable[[], Case]
FIRST: dict[str, Builder] = {
    "mlp": lambda: _classified(mlp(), vectors()),
    "mlp by He": lambda: _classified(drawn(mlp()), vectors()),
    "deep mlp by He": lambda: _classified(drawn(mlp(12)), vectors()),
    "tanh": lambda: _classified(mlp(4, activation=nn.Tanh), vectors()),
    "1,000 classes": _wide_head,
    "regression": lambda: _regressed(mlp(outs=1)),
    "regression by He": lambda: _regressed(drawn(mlp(outs=1))),
    "several outputs": lambda: _regressed(drawn(mlp(outs=5)), outs=5),
    "rare positives": _rare,
    "cnn": lambda: _classified(cnn(False), images()),
    "cnn with batch norm": lambda: _classified(cnn(), images()),
    "resnet": lambda: _classified(resnet(), images()),
    "resnet, zero gamma": lambda: _classified(resnet(True), images()),
    "U-Net, segmentation": _segmented,
    "small autoencoder": _small_autoencoder,
    "convolutional autoencoder": _conv_autoencoder,
    "variational autoencoder": _vae,
    "lstm": lambda: _classified(recurrent(), series()),
    "gru": lambda: _classified(recurrent(nn.GRU), series()),
    "language lstm": _language_lstm,
    "transformer": lambda: _classified(transformer(), tokens()),
    "transformer, norms first": lambda: _classified(transformer(norm_first=True), tokens()),
    "transformer, sequence first": lambda: _classified(transformer(first=False), tokens()),
    "BERT": _bert,
    "SIREN": _siren,
    "discriminator": _discriminator,
    "siamese": _siamese,
    "mixture of experts": _mixture_of_experts,
    "graph": _graph,
    "transferred": _transferred,
    "digits": lambda: _classified(mlp(ins=64), _digits()),
}
FURTHER: dict[str, Builder] = {
    "deep mlp, GELU by He": lambda: _classified(drawn(mlp(6, activation=nn.GELU)), vectors()),
    "1,000 classes by He": _he_wide_head,
    "shifted regression": _house_prices,
    "SELU": lambda: _classified(drawn(mlp(5, activation=nn.SELU)), vectors()),
    "labels": _labels,
    "counts": _counts,
    "quantiles": _quantiles,
    "normalized table": _normalized_table,
    "mixture density": _mixture_density,
    "mean and spread": _spread,
    "U-Net, denoising": _denoised,
    "tight autoencoder": _tight_autoencoder,
    "dense blocks": _dense_blocks,
    "mobile": _mobile,
    "rnn": lambda: _classified(recurrent(nn.RNN), series()),
    "lstm, both ways": lambda: _classified(recurrent(num_layers=2, bidirectional=True), series()),
    "pooled lstm": _pooled_lstm,
    "temporal convolutions": _temporal,
    "translator": _translator,
    "GPT-2": _gpt2,
    "causal transformer": _causal,
    "tied language model": _tied_language,
    "vision transformer": _vision_transformer,
    "mixer": _mixer,
    "radiance field": _radiance,
    "diffusion": _diffusion,
    "generator": _generator,
    "critic": _critic,
    "contrastive": _contrastive,
    "sparse experts": _sparse_experts,
    "message passing": _message_passing,
    "sets": _sets,
    "bag of words": _bag,
    "factors": _factors,
    "Q-learning": _double_q,
    "policy": _policy,
    "gates at zero": _highway,
    "first gate at zero": _first_gate_at_zero,
    "branches at zero": _branches_at_zero,
    "encoder at zero": _encoder_at_zero,
    "adapted": _adapted,
    "bottlenecks": _bottlenecks,
    "straight-through": _straight_through,
}
SOUND = FIRST | FURTHER
