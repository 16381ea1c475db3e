"""Images: which strategy trains this classifier best?

    thalweg compare my.py:task

The data are made up, so that the file runs as it is: put your own into ``parts``, and your own network into ``model``.
"""

import thalweg
import torch
from torch import nn
from torch.utils.data import Dataset, TensorDataset

CHANNELS = 3
SIZE = 8  # height and width of an image
CLASSES = 4


class Model(nn.Sequential):
    def __init__(self) -> None:
        convolution = nn.Conv2d(CHANNELS, 8, 3, stride=2, padding=1)
        super().__init__(convolution, nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(128, CLASSES))


def model() -> nn.Module:
    """Returns a new model; its weights are drawn from torch's generator, which every seed seeds."""
    return Model()


def made_up(count: int, seed: int) -> TensorDataset:
    """Returns images (count, CHANNELS, SIZE, SIZE), and the class of each (count,)."""
    generator = torch.Generator().manual_seed(seed)
    classes = torch.randint(CLASSES, (count,), generator=generator)
    patterns = torch.randn(CLASSES, CHANNELS, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(count, CHANNELS, SIZE, SIZE, generator=generator)
    return TensorDataset(patterns[classes] + 3 * noise, classes)


def parts() -> tuple[Dataset, Dataset, Dataset]:
    """Returns the examples to learn from, those that tuning looks at, and those that judge once, at the end.

    The data sets of torchvision fit, with ``transform=ToTensor()``; what a transform draws is drawn anew each time.
    """
    return made_up(1000, seed=1), made_up(300, seed=2), made_up(300, seed=3)


def task() -> thalweg.Task:
    train, valid, test = parts()  # data sets whose examples are (input, target), or DataLoaders of these
    return thalweg.Task(
        model,
        train,
        valid,
        test,
        nn.functional.cross_entropy,  # or your own: (output, target) -> mean over the batch
        batch_size=50,
        name="vision",
        steps=200,  # gradient evaluations of a run: as many as your model needs until it hardly improves
    )
