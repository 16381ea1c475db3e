"""Learning rates that train: a network with batch normalization learns over a wider range of them than one without."""

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import nn

from benchmarks.pairs import mean_interval
from thalweg.compare.task import Examples, materialize
from thalweg.compare.task.loading import load_task
from thalweg.initialization import initialize
from thalweg.normalization import add_batch_norm, estimate_population_statistics

DEPTH, WIDTH, STEPS, BATCH, SEEDS = 6, 64, 200, 64, 8
RATES = np.logspace(-3, 1, 9)
WAYS = {"plain": ("#D55E00", "s"), "batch normalization": ("#0072B2", "o")}


def draw() -> Figure:
    """Returns accuracy on digits by the learning rate, and the loss by step at each one's best rate."""
    figure = Figure(figsize=(9, 3.2))
    left, right = figure.subplots(1, 2)
    data = materialize(load_task("digits"))
    data = data.map(lambda t: t.double() if t.is_floating_point() else t)  # so that threads do not matter
    for way, (colour, marker) in WAYS.items():
        runs = [[_train(way, rate, seed, data) for seed in range(SEEDS)] for rate in RATES]
        found = [mean_interval([accuracy for accuracy, _ in run], (0.0, 1.0)) for run in runs]
        means = [f.mean for f in found]
        left.plot(RATES, means, color=colour, marker=marker, markersize=3, label=way)
        left.fill_between(RATES, [f.low for f in found], [f.high for f in found], color=colour, alpha=0.2, lw=0)
        best = int(np.argmax(means))
        curves = [
            mean_interval(list(losses), (0.0, np.inf)) for losses in zip(*(c for _, c in runs[best]), strict=True)
        ]
        steps = range(0, STEPS, 10)
        right.plot(steps, [c.mean for c in curves], color=colour, label=f"{way}, lr {RATES[best]:.2g}")
        right.fill_between(steps, [c.low for c in curves], [c.high for c in curves], color=colour, alpha=0.2, lw=0)
        good = [f"{rate:.2g}" for rate, mean in zip(RATES, means, strict=True) if mean >= 0.9]
        print(
            f"{way}: {means[best]:.3f} ({found[best].low:.3f} to {found[best].high:.3f}) at lr {RATES[best]:.2g}; "
            f"0.9 or more at {', '.join(good)}; loss at the end {curves[-1].mean:.2g}"
        )
    left.set(xlabel="learning rate of SGD", ylabel=f"test accuracy after {STEPS} steps", xscale="log", ylim=(0, 1))
    right.set(xlabel="step", ylabel="cross-entropy on the minibatch", yscale="log", ylim=(1e-2, None))
    left.legend(loc="lower left")
    right.legend(fontsize=7)
    return figure


def _train(way: str, rate: float, seed: int, data: Examples) -> tuple[float, list[float]]:
    """Returns the test accuracy and the loss at every tenth step."""
    layers = [m for i in range(DEPTH) for m in (nn.Linear(WIDTH if i else 64, WIDTH), nn.ReLU())]
    model = nn.Sequential(*layers, nn.Linear(WIDTH, 10)).double()
    initialize(model, "he", torch.Generator().manual_seed(seed), gain="nonlinearity")
    if way != "plain":
        add_batch_norm(model)
    optimizer, draws = torch.optim.SGD(model.parameters(), lr=rate), torch.Generator().manual_seed(seed)
    losses = []
    for step in range(STEPS):
        rows = torch.randint(len(data.train), (BATCH,), generator=draws)
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(data.train.input[rows]), data.train.target[rows])
        loss.backward()
        optimizer.step()
        if step % 10 == 0:
            losses.append(loss.item())
    if way != "plain" and np.isfinite(loss.item()):
        estimate_population_statistics(model, data.train.input.split(BATCH * 4))
    with torch.no_grad():
        return (model.eval()(data.test.input).argmax(dim=1) == data.test.target).double().mean().item(), losses
