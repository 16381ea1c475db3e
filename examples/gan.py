"""A generative adversarial network: two networks and two optimizers, in a loop of one's own.

The strategy's optimizer trains the generator; the discriminator keeps its Adam, so that strategies meet the same
opponent. With ``run.optimizer`` of the parameters of both networks, the strategy would train both, by one step of their
summed losses.

The command is ``thalweg compare gan.py:gan --strategies adam,rmsprop,sgd --steps 500``.
"""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import thalweg


def ring(count, seed):
    """Returns points of a noisy circle."""
    generator = torch.Generator().manual_seed(seed)
    angles = 2 * torch.pi * torch.rand(count, generator=generator)
    return torch.stack([angles.cos(), angles.sin()], 1) + 0.05 * torch.randn(count, 2, generator=generator)


def network(inputs, outputs):
    return nn.Sequential(nn.Linear(inputs, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, outputs))


@torch.no_grad()
def energy_distance(generator, real):
    """Returns a distance of two distributions, zero for equal ones."""
    made = generator(torch.randn(len(real), 4, generator=torch.Generator().manual_seed(0)).to(real.device))
    return 2 * torch.cdist(made, real).mean() - torch.cdist(made, made).mean() - torch.cdist(real, real).mean()


def train(run):
    generator, discriminator = network(4, 2).to(run.device), network(2, 1).to(run.device)
    optimizer = run.optimizer(generator)
    opponent = torch.optim.Adam(discriminator.parameters(), lr=2e-3, betas=(0.5, 0.999))
    run.track(discriminator=discriminator, opponent=opponent)
    judge = nn.functional.binary_cross_entropy_with_logits
    valid, test = ring(500, 1).to(run.device), ring(500, 2).to(run.device)

    for (real,) in run.batches(DataLoader(TensorDataset(ring(2000, 0)), batch_size=64, shuffle=True)):
        made = generator(torch.randn(len(real), 4, device=run.device))
        yes, no = torch.ones(len(real), 1, device=run.device), torch.zeros(len(real), 1, device=run.device)

        opponent.zero_grad()
        (judge(discriminator(real), yes) + judge(discriminator(made.detach()), no)).backward()
        opponent.step()

        optimizer.zero_grad()
        loss = judge(discriminator(made), yes)
        loss.backward()
        optimizer.step()

        run.loss(loss)
        if run.due:
            run.report(valid={"energy_distance": energy_distance(generator, valid)})
    run.report(test={"energy_distance": energy_distance(generator, test)})


gan = thalweg.TrainingLoop(train, name="gan", higher_is_better=False)
