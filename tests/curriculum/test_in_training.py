"""A curriculum in the training loop: cut off at any step and resumed, it ends as if it never had been."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from tests.training.small import Cut, CutAfter
from thalweg import optim
from thalweg.curriculum import CurriculumSampler, Pacing, SelfPaced, losses
from thalweg.stages import Stage, supervised
from thalweg.training import train


def run(self_paced, workers, accumulate, path, callback=None):
    """Returns the trained parameters."""
    torch.manual_seed(0)
    model = nn.Linear(4, 3)
    data = TensorDataset(torch.randn(50, 4), torch.randint(3, (50,)))
    if self_paced:
        difficulty = SelfPaced(model, data, functional.cross_entropy, every=5)
    else:
        difficulty = losses(model, data, functional.cross_entropy)
    sampler = CurriculumSampler(difficulty, Pacing(start=0.2, over=30), batch_size=8, mixture=0.25)
    stage = Stage(
        objective=supervised(functional.cross_entropy),
        data=DataLoader(data, batch_size=8, sampler=sampler, num_workers=workers),
        optimizer=partial(optim.Adam, lr=0.05),
        steps=40,
        accumulate=accumulate,
    )
    train(model, [stage], checkpoint=path, checkpoint_every=1, resume=path.exists(), callback=callback)
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize(
    ("self_paced", "workers", "accumulate"), [(False, 0, 1), (False, 0, 3), (True, 0, 1), (False, 2, 1)]
)
def test_a_run_goes_on_bit_for_bit(self_paced, workers, accumulate, tmp_path):
    whole = run(self_paced, workers, accumulate, tmp_path / "whole.pt")
    for place, steps in enumerate((3, 1, 4, 8)):  # ends of epochs among them
        with pytest.raises(Cut):
            run(self_paced, workers, accumulate, tmp_path / "cut.pt", CutAfter(steps + place % 2))
    assert torch.equal(run(self_paced, workers, accumulate, tmp_path / "cut.pt"), whole)
