"""Tasks of sequences: what was shown is recalled after a delay, and the next character of English text."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from thalweg.compare.task.builtin.splits import Parts
from thalweg.compare.task.task import Task
from thalweg.extras import needs

SYMBOLS, SHOWN, DELAY = 8, 3, 12
CONTEXT, WIDTH = 24, 32


class _Gated(nn.Module):
    """A gated recurrent unit, written out so that lanes can stack it, and a linear reading of its last states.

    r, z = σ(W x + U h),   n = tanh(Wₙ x + r ⊙ (Uₙ h + bₙ)),   h ← (1 − z) ⊙ n + z ⊙ h
    """

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        self.input = nn.Linear(SYMBOLS + 2, 3 * width)
        self.state, self.output = nn.Linear(width, 3 * width), nn.Linear(width, SYMBOLS)
        self.width = width

    def forward(self, symbols: Tensor) -> Tensor:
        drive = nn.functional.embedding(symbols, self.input.weight.T) + self.input.bias
        hidden, states = drive.new_zeros(len(symbols), self.width), []
        for i in range(symbols.shape[1]):
            r, z, n = drive[:, i].chunk(3, dim=-1)
            a, b, c = self.state(hidden).chunk(3, dim=-1)
            keep = torch.sigmoid(z + b)
            hidden = keep * hidden + (1 - keep) * torch.tanh(n + torch.sigmoid(r + a) * c)
            states.append(hidden)
        return self.output(torch.stack(states[-SHOWN:], dim=1)).transpose(1, 2)


def recall() -> Task:
    """Three symbols recalled after 12 blanks, gated recurrent network of 48 units: gradients through 18 steps"""
    drawn = np.random.default_rng(8)
    shown = torch.as_tensor(drawn.integers(0, SYMBOLS, (3200, SHOWN)))
    blank, go = torch.full((3200, DELAY), SYMBOLS), torch.full((3200, SHOWN), SYMBOLS + 1)
    data = torch.cat([shown, blank, go], dim=1)
    parts = Parts(*(TensorDataset(data[rows].contiguous(), shown[rows].contiguous()) for rows in _rows(3200)))
    return Task(_Gated, *parts, loss=nn.functional.cross_entropy, batch_size=64, name="recall", steps=600)


def _rows(count: int) -> tuple[slice, slice, slice]:
    first, second = 10 * count // 16, 13 * count // 16
    return slice(first), slice(first, second), slice(second, None)


class _Transformer(nn.Module):
    """One pre-normalized block of causal attention with two heads, over characters and their positions."""

    mask: Tensor

    def __init__(self, characters: int) -> None:
        super().__init__()
        self.token, self.position = nn.Embedding(characters, WIDTH), nn.Embedding(CONTEXT, WIDTH)
        self.before, self.between, self.after = (nn.LayerNorm(WIDTH) for _ in range(3))
        self.qkv, self.merge = nn.Linear(WIDTH, 3 * WIDTH, bias=False), nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)
        self.head = nn.Linear(WIDTH, characters)
        self.register_buffer("mask", torch.full((CONTEXT, CONTEXT), -torch.inf).triu(1))

    def forward(self, text: Tensor) -> Tensor:
        x = self.token(text) + self.position.weight
        q, k, v = (part.unflatten(-1, (2, -1)).transpose(1, 2) for part in self.qkv(self.before(x)).chunk(3, dim=-1))
        weights = torch.softmax(q @ k.transpose(-1, -2) / (WIDTH / 2) ** 0.5 + self.mask, dim=-1)
        x = x + self.merge((weights @ v).transpose(1, 2).flatten(2))
        x = x + self.down(nn.functional.gelu(self.up(self.between(x))))
        return self.head(self.after(x)).transpose(1, 2)


def _english() -> str:
    """Returns scikit-learn's own descriptions of its data sets, some 40,000 characters, in one case."""
    with needs("compare", "this task"):
        from sklearn import datasets

    loads = ("breast_cancer", "diabetes", "digits", "iris", "linnerud", "wine")
    texts = (getattr(datasets, f"load_{name}")()["DESCR"] for name in loads)
    kept = "abcdefghijklmnopqrstuvwxyz0123456789.,-() \n"
    return "".join(c for c in "\n".join(texts).lower() if c in kept)


def characters() -> Task:
    """The next character of English text, transformer of one block, 32 wide, over 24 characters"""
    text = _english()
    index = {c: i for i, c in enumerate(sorted(set(text)))}
    coded = torch.tensor([index[c] for c in text])
    parts = []
    for rows, stride in zip(_rows(len(coded)), (3, CONTEXT, CONTEXT), strict=True):
        windows = coded[rows].unfold(0, CONTEXT + 1, stride)
        parts.append(TensorDataset(windows[:, :-1].contiguous(), windows[:, 1:].contiguous()))
    loss = nn.functional.cross_entropy
    return Task(
        lambda: _Transformer(len(index)), *Parts(*parts), loss, "loss", batch_size=32, name="characters", steps=500
    )
