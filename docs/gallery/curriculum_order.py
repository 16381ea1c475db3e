"""Easy first, at random, or hard first: what the order is worth by the length of training, labels clean and noisy."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.utils.data import BatchSampler, TensorDataset

from benchmarks.pairs import mean_interval
from thalweg.compare.statistics import Interval
from thalweg.compare.task import Examples, Task, build_model, materialize
from thalweg.compare.task.loading import load_task
from thalweg.curriculum import CurriculumSampler, Pacing, losses
from thalweg.initialization import initialize
from thalweg.tensors import generator

BUDGETS, NOISE = (60, 125, 250, 500), (0.0, 0.3)
TUNING, SEEDS, BATCH = 3, 10, 64
WAYS: dict[str, dict[str, Any]] = {
    "all at once": {"mixture": 1.0},
    "easy first": {},
    "easy first, a fifth from all": {"mixture": 0.2},
    "random": {"order": "random"},
    "hard first": {"order": "hard-first"},
}
STYLES = {"easy first": "#0072B2", "easy first, a fifth from all": "#56B4E9", "random": "0.5", "hard first": "#D55E00"}


@dataclass
class Setting:
    """What is trained, and how: the teacher with the middle one of the rates."""

    task: str
    optimizer: Callable[..., torch.optim.Optimizer]
    rates: Sequence[float]
    teacher_steps: int
    scheme: str = "default"


DIGITS = Setting("digits", torch.optim.SGD, (0.05, 0.15, 0.5, 1.5), teacher_steps=200)


def draw() -> Figure:
    """Returns by how much each order is better in test accuracy than all examples at once, paired by seed."""
    figure = Figure(figsize=(9, 3.4))
    for axis, noise in zip(figure.subplots(1, 2), NOISE, strict=True):
        print(f"{noise:.0%} of the labels wrong:")
        found = study(DIGITS, noise, BUDGETS)
        for place, (way, colour) in enumerate(STYLES.items()):
            gains = [gain(found[budget], way) for budget in BUDGETS]
            means = [g.mean for g in gains]
            arms = [[g.mean - g.low for g in gains], [g.high - g.mean for g in gains]]
            shifted = [budget * 1.05 ** (place - 1.5) for budget in BUDGETS]
            axis.errorbar(shifted, means, arms, color=colour, marker="o", markersize=3, lw=1, label=way)
            texts = [f"{b}: {g.mean:+.3f} ({g.low:+.3f} to {g.high:+.3f})" for b, g in zip(BUDGETS, gains, strict=True)]
            print(f"  {way}: {', '.join(texts)}")
        axis.axhline(0, color="0.3", lw=0.8)
        axis.set(xscale="log", xlabel="steps", title=f"{noise:.0%} of the labels wrong")
        axis.set_xticks(BUDGETS, [str(b) for b in BUDGETS])
        axis.minorticks_off()
    figure.axes[0].set_ylabel("test accuracy − that of all at once")
    figure.axes[0].legend(fontsize=7)
    return figure


def gain(found: dict[str, list[float]], way: str) -> Interval:
    """Returns by how much a way is better than all at once."""
    return mean_interval([a - b for a, b in zip(found[way], found["all at once"], strict=True)], (-1.0, 1.0))


def study(setting: Setting, noise: float, budgets: Sequence[int]) -> dict[int, dict[str, list[float]]]:
    """Returns, a budget and way, the test accuracies of fresh seeds at the rate that is best on validation data."""
    task = load_task(setting.task)
    data = materialize(task)
    data = data.map(lambda t: t.double() if t.is_floating_point() else t)  # so that threads do not matter
    labels = _noisy(data.train.target, noise)
    plain, rate = torch.zeros(len(labels)), setting.rates[len(setting.rates) // 2 - 1]
    teacher = _train(setting, task, data, labels, plain, {"mixture": 1.0}, setting.teacher_steps, rate, seed=99)
    difficulty = losses(teacher, TensorDataset(data.train.input, labels), nn.functional.cross_entropy)

    def accuracies(budget: int, way: str, rate: float, seeds: range, x: Tensor, y: Tensor) -> list[float]:
        models = [_train(setting, task, data, labels, difficulty, WAYS[way], budget, rate, seed) for seed in seeds]
        return [(model(x).argmax(dim=1) == y).double().mean().item() for model in models]

    found: dict[int, dict[str, list[float]]] = {budget: {} for budget in budgets}
    for budget in budgets:
        for way in WAYS:
            tuning = [
                sum(accuracies(budget, way, rate, range(100, 100 + TUNING), data.valid.input, data.valid.target))
                for rate in setting.rates
            ]
            best = setting.rates[tuning.index(max(tuning))]
            found[budget][way] = accuracies(budget, way, best, range(SEEDS), data.test.input, data.test.target)
            print(f"  {budget} steps, {way}: {sum(found[budget][way]) / SEEDS:.3f} at lr {best}", flush=True)
    return found


def _noisy(y: Tensor, share: float) -> Tensor:
    """Returns the labels with a share of them changed to any other."""
    source, labels = generator(0, "noise"), y.clone()
    rows = torch.randperm(len(y), generator=source)[: round(share * len(y))]
    labels[rows] = (labels[rows] + torch.randint(1, 10, (len(rows),), generator=source)) % 10
    return labels


def _train(
    setting: Setting,
    task: Task,
    data: Examples,
    labels: Tensor,
    difficulty: Tensor,
    way: dict[str, Any],
    steps: int,
    rate: float,
    seed: int,
) -> nn.Module:
    """Returns a model trained for so many steps, all examples admitted after seven tenths of them."""
    model = build_model(task).double()
    gain = None if setting.scheme == "default" else "nonlinearity"
    initialize(model, setting.scheme, generator(seed, "weights"), gain=gain)
    optimizer = setting.optimizer(model.parameters(), lr=rate)
    pacing = Pacing("linear", start=0.2, over=round(0.7 * steps))
    sampler = CurriculumSampler(
        difficulty, pacing, batch_size=BATCH, num_samples=steps * BATCH, classes=labels, seed=seed, **way
    )
    for rows in BatchSampler(sampler, BATCH, drop_last=False):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(data.train.input[rows]), labels[rows]).backward()
        optimizer.step()
    return model
