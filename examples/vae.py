"""A variational autoencoder: no target, a loss of two terms, and noise in the model.

The command is ``thalweg compare vae.py:task --strategies adam,rmsprop,momentum``.
"""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import TensorDataset

import thalweg


class Autoencoder(nn.Module):
    def __init__(self, latent=4):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, 48), nn.Tanh(), nn.Linear(48, 2 * latent))
        self.decoder = nn.Sequential(nn.Linear(latent, 48), nn.Tanh(), nn.Linear(48, 64))

    def forward(self, x):
        mean, log_variance = self.encoder(x).chunk(2, dim=1)
        z = mean + torch.randn_like(mean) * (log_variance / 2).exp()
        return self.decoder(z), mean, log_variance


def step(model, batch):
    """Returns the negative evidence lower bound, the mean over the images."""
    (x,) = batch
    logits, mean, log_variance = model(x)
    reconstruction = nn.functional.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(1)
    divergence = (mean**2 + log_variance.exp() - 1 - log_variance).sum(1) / 2
    return (reconstruction + divergence).mean()


def task():
    images = torch.tensor(load_digits().data / 16, dtype=torch.float32)
    parts = TensorDataset(images[:1000]), TensorDataset(images[1000:1300]), TensorDataset(images[1300:])
    return thalweg.Task(Autoencoder, *parts, step=step, name="vae", batch_size=50, steps=200)
