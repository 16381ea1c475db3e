"""The next character of Shakespeare's plays from the sixteen before it; 90 % / 5 % / 5 % of the text in its order."""

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from thalweg.compare.task.builtin.files import data_file
from thalweg.compare.task.task import Task
from thalweg.compare.user_errors import TaskError

URL = (
    "https://raw.githubusercontent.com/karpathy/char-rnn/"
    "6f9487a6fe5b420b7ca9afb0d7c078e37c1d1b4e/data/tinyshakespeare/input.txt"
)
SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
CONTEXT = 16


def _windows(text: Tensor, stride: int) -> TensorDataset:
    windows = text.unfold(0, CONTEXT + 1, stride)
    return TensorDataset(windows[:, :-1].contiguous(), windows[:, -1].contiguous())


def shakespeare() -> Task:
    """Shakespeare's plays by character, embedding and one hidden layer over 16 characters"""
    path = data_file("tinyshakespeare", "input.txt", URL, SHA256)
    raw = path.read_bytes()
    if len(raw) < 100 * CONTEXT:
        raise TaskError(f"{path} is too short ({len(raw)} bytes): a character model needs a longer text")
    characters = sorted(set(raw))
    index = {c: i for i, c in enumerate(characters)}
    text = torch.tensor([index[c] for c in raw])
    first, second = int(0.9 * len(text)), int(0.95 * len(text))

    def model() -> nn.Module:
        embedding = nn.Embedding(len(characters), 16)
        return nn.Sequential(
            embedding, nn.Flatten(), nn.Linear(16 * CONTEXT, 128), nn.ReLU(), nn.Linear(128, len(characters))
        )

    return Task(
        model,
        _windows(text[:first], 1),
        _windows(text[first:second], 11),
        _windows(text[second:], 5),
        nn.functional.cross_entropy,
        "loss",
        batch_size=128,
        name="shakespeare",
        steps=2000,
    )
