"""A script in the style of timm's train.py as a loop of one's own: train_one_epoch, validate, averaged weights.

Lines that end with ``# thalweg`` are those that were changed or added; the scheduler of the script is left out, since a
strategy has its own (``momentum@cosine``).

The command is ``thalweg compare timm_style.py:main --strategies momentum@cosine,adamw@cosine --steps 200``.
"""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def create_model():
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(128, 10)
    )


def create_loader(start, stop, batch_size, is_training):
    images, digits = load_digits(return_X_y=True)
    x = torch.tensor(images[start:stop] / 16, dtype=torch.float32).view(-1, 1, 8, 8)
    dataset = TensorDataset(x, torch.tensor(digits[start:stop]))
    return DataLoader(dataset, batch_size, shuffle=is_training)


def mixup(x, y, classes=10, alpha=0.2):
    share = torch.distributions.Beta(alpha, alpha).sample().item()
    y = nn.functional.one_hot(y, classes).float()
    return share * x + (1 - share) * x.flip(0), share * y + (1 - share) * y.flip(0)


def train_one_epoch(run, model, model_ema, loader, loader_eval, optimizer, loss_fn):
    model.train()
    for x, y in run.batches(loader):  # thalweg
        x, y = mixup(x, y)
        loss = loss_fn(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        model_ema.update_parameters(model)
        run.loss(loss)  # thalweg
        if run.due:  # thalweg
            run.report(valid=validate(model_ema, loader_eval, run.device))  # thalweg
            model.train()


@torch.no_grad()
def validate(model, loader, device):
    model.eval()
    correct, count = 0, 0
    for x, y in loader:
        correct += (model(x.to(device)).argmax(1) == y.to(device)).sum().item()
        count += len(y)
    return {"accuracy": correct / count}


def main(run, epochs=10, batch_size=50):  # thalweg
    model = create_model().to(run.device)
    decay = torch.optim.swa_utils.get_ema_multi_avg_fn(0.95)
    model_ema = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=decay, use_buffers=True)
    optimizer = run.optimizer(model)  # thalweg
    run.track(model_ema=model_ema)  # thalweg
    loader = create_loader(0, 1000, batch_size, is_training=True)
    loader_eval = create_loader(1000, 1300, 100, is_training=False)
    loss_fn = nn.CrossEntropyLoss()
    for _ in range(epochs):
        train_one_epoch(run, model, model_ema, loader, loader_eval, optimizer, loss_fn)
    run.report(test=validate(model_ema, create_loader(1300, 1797, 100, is_training=False), run.device))  # thalweg
