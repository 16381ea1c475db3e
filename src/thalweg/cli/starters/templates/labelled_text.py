"""Text: which strategy trains this classifier best?

    thalweg compare my.py:task

The data are made up, so that the file runs as it is: put your own into ``parts``, and your own network into ``model``.
"""

import thalweg
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset

VOCABULARY = 20
LENGTH = 16  # tokens of an example
CLASSES = 2


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, 16)
        self.recurrent = nn.GRU(16, 32, batch_first=True)
        self.head = nn.Linear(32, CLASSES)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.recurrent(self.embedding(tokens))[0][:, -1])


def model() -> nn.Module:
    """Returns a new model; its weights are drawn from torch's generator, which every seed seeds."""
    return Model()


def made_up(count: int, seed: int) -> TensorDataset:
    """Returns tokens (count, LENGTH), and the class of each text (count,)."""
    tokens = torch.randint(VOCABULARY, (count, LENGTH), generator=torch.Generator().manual_seed(seed))
    return TensorDataset(tokens, tokens[:, : LENGTH // 2].sum(1) * 2 // VOCABULARY % CLASSES)


def parts() -> tuple[Dataset, Dataset, Dataset]:
    """Returns the examples to learn from, those that tuning looks at, and those that judge once, at the end."""
    return made_up(1000, seed=1), made_up(200, seed=2), made_up(200, seed=3)


def task() -> thalweg.Task:
    train, valid, test = parts()  # data sets, DataLoaders, or a function (seed) -> batches
    return thalweg.Task(
        model,
        train,
        valid,
        test,
        nn.functional.cross_entropy,  # or your own: (output, target) -> mean over the batch
        batch_size=25,
        clip_norm=1.0,
        name="text",
        steps=200,  # gradient evaluations of a run: as many as your model needs until it hardly improves
    )
