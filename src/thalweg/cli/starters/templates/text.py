"""Text: which strategy trains this model of the next token best?

    thalweg compare my.py:task

The data are made up, so that the file runs as it is: put your own into ``parts``, and your own network into ``model``.
"""

import thalweg
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset

VOCABULARY = 20
LENGTH = 16  # tokens of an example


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, 16)
        self.recurrent = nn.GRU(16, 32, batch_first=True)
        self.head = nn.Linear(32, VOCABULARY)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.recurrent(self.embedding(tokens))[0])


def model() -> nn.Module:
    """Returns a new model; its weights are drawn from torch's generator, which every seed seeds."""
    return Model()


def step(model: nn.Module, batch: list[Tensor]) -> Tensor:
    """Returns the loss of a batch: of logits (N, LENGTH, VOCABULARY) and the tokens that follow (N, LENGTH)."""
    tokens, following = batch
    return nn.functional.cross_entropy(model(tokens).flatten(0, 1), following.flatten())


def made_up(count: int, seed: int) -> TensorDataset:
    """Returns tokens (count, LENGTH), and those that follow each (count, LENGTH)."""
    generator = torch.Generator().manual_seed(seed)
    jumps = torch.randint(1, 3, (count, LENGTH), generator=generator)
    first = torch.randint(VOCABULARY, (count, 1), generator=generator)
    tokens = torch.cat([first, first + jumps.cumsum(1)], 1) % VOCABULARY
    return TensorDataset(tokens[:, :-1], tokens[:, 1:])


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
        step=step,  # judged by its mean; by another metric with evaluate=
        batch_size=25,
        clip_norm=1.0,
        name="text",
        steps=200,  # gradient evaluations of a run: as many as your model needs until it hardly improves
    )
