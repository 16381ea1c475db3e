"""MNIST from its IDX files: 55,000 / 5,000 / 10,000 images of 28×28."""

import gzip
import struct
import zlib

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils.data import TensorDataset

from thalweg.compare.task.builtin.files import data_file
from thalweg.compare.task.builtin.splits import Parts
from thalweg.compare.task.task import Task
from thalweg.compare.user_errors import TaskError

MIRROR = "https://ossci-datasets.s3.amazonaws.com/mnist/"
SHA256 = {
    "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}
VALID = 5000


def read_idx(name: str) -> NDArray[np.uint8]:
    """Returns the array in one of the gzipped IDX files.

    Raises:
        TaskError: the file is no such file.
    """
    path = data_file("mnist", name, MIRROR + name, SHA256[name])
    try:
        return parse_idx(gzip.decompress(path.read_bytes()))
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise TaskError(f"{path} is damaged ({error}): download it again") from error


def parse_idx(raw: bytes) -> NDArray[np.uint8]:
    """Returns the array that the bytes of an IDX file hold.

    Raises:
        ValueError: they are no such bytes.
    """
    try:
        zero, kind, dimensions = struct.unpack(">HBB", raw[:4])
        shape = struct.unpack(f">{dimensions}I", raw[4 : 4 + 4 * dimensions])
    except struct.error as error:
        raise ValueError(f"truncated, {error}") from error
    if (zero, kind) != (0, 8):
        raise ValueError("not an IDX file of bytes")
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * dimensions).reshape(shape)


def _parts(image: bool = False) -> Parts:
    def images(name: str) -> torch.Tensor:
        x = torch.from_numpy(read_idx(name).astype(np.float32) / 255)
        return x[:, None] if image else x.flatten(1)

    def labels(name: str) -> torch.Tensor:
        return torch.from_numpy(read_idx(name).astype(np.int64))

    x, y = images("train-images-idx3-ubyte.gz"), labels("train-labels-idx1-ubyte.gz")
    return Parts(
        TensorDataset(x[:-VALID], y[:-VALID]),
        TensorDataset(x[-VALID:], y[-VALID:]),
        TensorDataset(images("t10k-images-idx3-ubyte.gz"), labels("t10k-labels-idx1-ubyte.gz")),
    )


def _perceptron() -> nn.Module:
    return nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10))


def _convolutional() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 5, stride=2, padding=2),
        nn.ReLU(),
        nn.Conv2d(8, 16, 5, stride=2, padding=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16 * 7 * 7, 10),
    )


def mnist() -> Task:
    """MNIST, 784-128-128-10 rectifier network"""
    return Task(_perceptron, *_parts(), loss=nn.functional.cross_entropy, batch_size=128, name="mnist", steps=1000)


def mnist_conv() -> Task:
    """MNIST, small convolutional network"""
    loss = nn.functional.cross_entropy
    return Task(_convolutional, *_parts(image=True), loss=loss, batch_size=128, name="mnist-conv", steps=500)
