"""Curricula and continuations in the loop: told of each step, kept in checkpoints, resumed bit for bit."""

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from tests.training.small import LOSS, copy, data, equal, net, stage
from tests.training.test_resume import resumed, without_time
from thalweg.continuation import Adaptive, Continuation, Falling, Fixed, GaussianSmoothing, InputNoise
from thalweg.curriculum import CurriculumSampler, Pacing, SelfPaced
from thalweg.pretraining import greedy
from thalweg.training import train

PACING = Pacing("linear", start=0.2, over=9)


def curriculum(kind, model):
    dataset, options = TensorDataset(*data()), {"mixture": 0.3} if kind == "mixture" else {}
    difficulty = data()[0].square().sum(dim=1)
    if kind == "self-paced":
        difficulty = SelfPaced(model, dataset, LOSS, every=4)
    sampler = CurriculumSampler(difficulty, PACING, batch_size=8, **options)
    return DataLoader(dataset, batch_size=8, sampler=sampler, num_workers=2 if kind == "workers" else 0)


def annealed():
    smoothing = GaussianSmoothing(
        lambda m, b: LOSS(m(b[0]), b[1]),
        Falling(0.1, 0.01),
        samples=2,
        generator=torch.Generator().manual_seed(5),
        chunk=1,
    )
    return Continuation(smoothing, Adaptive(levels=2, window=8, most=8))


def noisy():
    noise = InputNoise(lambda m, b: LOSS(m(b[0]), b[1]), Falling(0.5, 0.1), generator=torch.Generator().manual_seed(5))
    return Continuation(noise, Adaptive(levels=2, window=8, most=8))


@pytest.mark.parametrize("kind", ["hard cut-off", "mixture", "self-paced", "workers"])
def test_a_curriculum_goes_on_in_the_middle_of_an_epoch(kind, tmp_path):
    models = []

    def model():
        models.append(net())
        return models[-1]

    def stages():
        return [stage(data=curriculum(kind, models[-1]), steps=16, evaluate_every=3)]

    whole = model()
    history = train(whole, stages())
    cuts = [5, 9] if kind == "workers" else [3, 6, 5, 1]
    end, again = resumed(model, stages, tmp_path / "run.pt", cuts)
    assert equal(copy(end), copy(whole))
    assert without_time(again) == without_time(history)


@pytest.mark.parametrize("make", [annealed, noisy])
def test_a_continuation_goes_on_at_its_level(make, tmp_path):
    objectives = []

    def stages():
        objectives.append(make())
        return [stage(objective=objectives[-1], steps=24)]

    whole = net(dropout=0)
    train(whole, stages())
    assert objectives[0].t == 1.0
    end, _ = resumed(lambda: net(dropout=0), stages, tmp_path / "run.pt", [5, 11, 4])
    assert equal(copy(end), copy(whole))


def test_a_plan_around_a_stateful_objective_keeps_its_state(tmp_path):
    def noise():
        return InputNoise(lambda m, b: LOSS(m(b[0]), b[1]), 0.3, generator=torch.Generator().manual_seed(5))

    def plan():
        joint = stage(objective=Continuation(noise(), Fixed(steps=30)), steps=9)
        return greedy(net(), joint, 6, generator=torch.Generator().manual_seed(1))

    whole, parts = plan(), []
    train(whole.model, whole.stages)

    def model():
        parts.append(plan())
        return parts[-1].model

    end, _ = resumed(model, lambda: parts[-1].stages, tmp_path / "run.pt", [4, 7, 3])
    assert equal(copy(end), copy(whole.model))
