"""scikit-learn's handwritten digits: 1,797 images of 8×8, split 1,000 / 300 / 497."""

from collections.abc import Callable
from functools import cache, partial

import torch
from torch import nn
from torch.utils.data import TensorDataset

from thalweg.architecture import AuxiliaryHeads, Residual
from thalweg.compare.task.builtin.splits import Parts, split
from thalweg.compare.task.task import GuidanceInputs, Task
from thalweg.extras import needs


@cache
def _parts(image: bool = False) -> Parts:
    with needs("compare", "this task"):
        from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return split((x / 16).reshape(-1, 1, 8, 8) if image else x / 16, y, 1000, 300)


def _perceptron() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


def _deep(classes: int = 10) -> nn.Module:
    layers: list[nn.Module] = []
    for i in range(10):
        layers += [nn.Linear(64 if i == 0 else 32, 32), nn.Sigmoid()]
    return nn.Sequential(*layers, nn.Linear(32, classes))


def _deep_residual() -> nn.Module:
    """The layers of :func:`_deep`, nine of them past a shortcut."""
    blocks = [Residual(nn.Sequential(nn.Sigmoid(), nn.Linear(32, 32)), nn.Identity()) for _ in range(9)]
    return nn.Sequential(nn.Linear(64, 32), *blocks, nn.Sigmoid(), nn.Linear(32, 10))


def _deep_heads() -> nn.Module:
    """:func:`_deep` with a head on every second hidden layer below the last."""
    return AuxiliaryHeads(_deep(), {str(4 * i - 1): nn.Linear(32, 10) for i in range(1, 5)})


def _convolutional() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(128, 10),
    )


def digits() -> Task:
    """Handwritten digits 8×8, 64-64-64-10 rectifier network (the default)"""
    return Task(_perceptron, *_parts(), loss=nn.functional.cross_entropy, batch_size=64, name="digits", steps=150)


def _parity() -> Task:
    """Whether the digit of an image is even, for the same network up to its last layer."""
    train, valid, test = (TensorDataset(x, y % 2) for x, y in (part.tensors for part in _parts()))
    return Task(
        lambda: _deep(2), train, valid, test, loss=nn.functional.cross_entropy, batch_size=64, name="digits-parity"
    )


def digits_deep() -> Task:
    """Handwritten digits 8×8, ten narrow sigmoid layers: where the start decides"""
    return Task(
        _deep,
        *_parts(),
        loss=nn.functional.cross_entropy,
        batch_size=64,
        name="digits-deep",
        steps=1000,
        architectures={"plain": _deep, "residual": _deep_residual, "heads": _deep_heads},
        guidance_inputs=GuidanceInputs(teacher=_perceptron, hint="1", guided="9", source=_parity, parts=10),
    )


def digits_deep_residual() -> Task:
    """Handwritten digits 8×8, ten narrow sigmoid layers with shortcuts that start as the identity"""
    loss = nn.functional.cross_entropy
    return Task(_deep_residual, *_parts(), loss=loss, batch_size=64, name="digits-deep-residual", steps=1000)


def digits_deep_heads() -> Task:
    """Handwritten digits 8×8, ten narrow sigmoid layers with auxiliary heads, which are not judged"""
    loss = nn.functional.cross_entropy
    return Task(_deep_heads, *_parts(), loss=loss, batch_size=64, name="digits-deep-heads", steps=1000)


def digits_conv() -> Task:
    """Handwritten digits 8×8, small convolutional network"""
    loss = nn.functional.cross_entropy
    return Task(_convolutional, *_parts(image=True), loss=loss, batch_size=64, name="digits-conv", steps=500)


def digits_conv_norm() -> Task:
    """Handwritten digits 8×8, small convolutional network with batch normalization"""
    layers: list[Callable[[], nn.Module]] = []
    for before, after in ((1, 12), (12, 24)):
        layers += [partial(nn.Conv2d, before, after, 3, padding=1, bias=False), partial(nn.BatchNorm2d, after)]
        layers += [nn.ReLU, partial(nn.MaxPool2d, 2)]
    layers += [nn.Flatten, partial(nn.Linear, 96, 10)]
    loss = nn.functional.cross_entropy
    return Task(
        lambda: nn.Sequential(*(layer() for layer in layers)),
        *_parts(image=True),
        loss=loss,
        batch_size=32,
        name="digits-conv-norm",
        steps=300,
    )


def digits_autoencoder() -> Task:
    """Handwritten digits 8×8, 64-32-6-32-64 tanh autoencoder: a narrow middle"""
    parts = Parts(*(TensorDataset(part.tensors[0], part.tensors[0]) for part in _parts()))
    return Task(
        lambda: nn.Sequential(
            nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 6), nn.Linear(6, 32), nn.Tanh(), nn.Linear(32, 64)
        ),
        *parts,
        loss=nn.functional.mse_loss,
        batch_size=64,
        name="digits-autoencoder",
        steps=500,
    )


def digits_noisy() -> Task:
    """Handwritten digits 8×8, 40 % of the training labels are drawn at random: what is learned last is wrong"""
    train, valid, test = _parts()
    x, y = train.tensors
    drawn = torch.Generator().manual_seed(8)
    wrong = torch.rand(len(y), generator=drawn) < 0.4
    noisy = torch.where(wrong, torch.randint(10, y.shape, generator=drawn), y)
    loss = nn.functional.cross_entropy
    return Task(
        _perceptron, TensorDataset(x, noisy), valid, test, loss=loss, batch_size=64, name="digits-noisy", steps=300
    )
