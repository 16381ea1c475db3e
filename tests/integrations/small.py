"""A small classification, its batches in order, and the loop of one's own that frameworks should equal."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

EPOCHS, BATCH = 2, 25


def net(seed=0, dropout=0.0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Dropout(dropout), nn.Linear(12, 3))


def data(rows=100):
    x = torch.randn(rows, 6, generator=torch.Generator().manual_seed(0))
    return TensorDataset(x, x[:, :3].argmax(dim=1))


def loader(rows=100):
    return DataLoader(data(rows), batch_size=BATCH)


def loss_of(model, batch):
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def own_loop(
    model, optimizer, schedule=None, epochs=EPOCHS, closure=False, batches=None, backward=torch.Tensor.backward
):
    """Trains as a loop of one's own does; returns the parameters."""
    for _ in range(epochs):
        for batch in batches or loader():

            def evaluate(batch=batch):
                optimizer.zero_grad()
                loss = loss_of(model, batch)
                backward(loss)
                return loss

            if closure:
                optimizer.step(evaluate)
            else:
                evaluate()
                optimizer.step()
            if schedule is not None:
                schedule.step()
    return flat(model)


def flat(model):
    return torch.cat([p.detach().reshape(-1) for p in model.parameters()])


def equal(a, b):
    torch.testing.assert_close(a, b, rtol=0, atol=0)
