"""A continuation in the training loop: cut off on the way and resumed, it ends as if it never had been."""

from functools import partial

import pytest
import torch
from torch.nn import functional

from tests.curriculum.test_in_training import Cut, CutAfter
from thalweg import optim
from thalweg.continuation import Adaptive, Continuation, Falling, Fixed, GaussianSmoothing, Morphing, morph
from thalweg.stages import Batches, Stage
from thalweg.training import train


def run(adaptive, path, callback=None):
    """Returns the trained parameters, and where the continuation ended."""
    torch.manual_seed(0)
    model = morph(torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.Tanh(), torch.nn.Linear(5, 3)))
    x, y = torch.randn(50, 4), torch.randint(3, (50,))

    def cost(model, batch):
        return functional.cross_entropy(model(batch[0]), batch[1])

    if adaptive:
        family = GaussianSmoothing(cost, Falling(0.5, 0.05), samples=4, generator=torch.Generator().manual_seed(1))
        objective = Continuation(family, Adaptive(3, window=8, most=9))
    else:
        objective = Continuation(Morphing(cost), Fixed(30))
    stage = Stage(
        objective=objective, data=Batches(x, y, batch_size=8), optimizer=partial(optim.Adam, lr=0.02), steps=40
    )
    train(model, [stage], checkpoint=path, checkpoint_every=1, resume=path.exists(), callback=callback)
    return torch.cat([p.detach().flatten() for p in model.parameters()]), objective.t


@pytest.mark.parametrize("adaptive", [False, True])
def test_a_run_goes_on_bit_for_bit(adaptive, tmp_path):
    whole, t = run(adaptive, tmp_path / "whole.pt")
    assert t == 1.0
    for steps in (2, 8, 11):
        with pytest.raises(Cut):
            run(adaptive, tmp_path / "cut.pt", CutAfter(steps))
    again, _ = run(adaptive, tmp_path / "cut.pt")
    assert torch.equal(again, whole)
