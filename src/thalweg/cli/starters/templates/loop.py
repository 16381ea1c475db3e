"""A training loop of your own: which optimizer trains it best?

    thalweg compare my.py:train --strategies adam,adamw@cosine,sgd --steps 200

The data are made up, so that the file runs as it is. Put your own loop in the place of ``train``, and add the lines
that end with ``# thalweg``.
"""

import thalweg
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

FEATURES = 20  # of a row
CLASSES = 3


class Model(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Linear(FEATURES, 32), nn.ReLU(), nn.Linear(32, CLASSES))


def model() -> nn.Module:
    """Returns a new model; its weights are drawn from torch's generator, which every seed seeds."""
    return Model()


def made_up(count: int, seed: int) -> TensorDataset:
    """Returns rows (count, FEATURES), and the class of each (count,)."""
    rows = torch.randn(count, FEATURES, generator=torch.Generator().manual_seed(seed))
    weights = torch.randn(FEATURES, CLASSES, generator=torch.Generator().manual_seed(0))
    return TensorDataset(rows, (rows.square() @ weights).argmax(1))


def parts() -> tuple[Dataset, Dataset, Dataset]:
    """Returns the examples to learn from, those that tuning looks at, and those that judge once, at the end."""
    return made_up(1000, seed=1), made_up(300, seed=2), made_up(300, seed=3)


def step(model: nn.Module, batch: list[Tensor]) -> Tensor:
    """Returns the loss of a batch."""
    rows, classes = batch
    return nn.functional.cross_entropy(model(rows), classes)


@torch.no_grad()
def evaluate(model: nn.Module, data: Dataset, device: torch.device) -> dict[str, float]:
    """Returns numbers of a whole part of the data; the first of those that are reported is the metric."""
    model.eval()
    batches = ([part.to(device) for part in batch] for batch in DataLoader(data, batch_size=100))
    losses = [step(model, batch) for batch in batches]
    model.train()
    return {"loss": float(torch.stack(losses).mean())}


def train(run: thalweg.Run) -> None:
    learned, valid, test = parts()
    net = model().to(run.device)
    optimizer = run.optimizer(net)  # thalweg
    for batch in run.batches(DataLoader(learned, batch_size=50, shuffle=True)):  # thalweg
        loss = step(net, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        run.loss(loss)  # thalweg
        if run.due:  # thalweg
            run.report(valid=evaluate(net, valid, run.device))  # thalweg
    run.report(test=evaluate(net, test, run.device))  # thalweg
