"""How large the gradient is over ten sigmoid layers, and what becomes of them: plain, with shortcuts, with heads."""

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from thalweg.compare.task import Examples, Task, build_model, materialize
from thalweg.compare.task.loading import load_task
from thalweg.tensors import generator

SEEDS, STEPS, EVERY = 10, 600, 20
WAYS = {
    "digits-deep": ("plain", "#D55E00", "s"),
    "digits-deep-residual": ("shortcuts", "#0072B2", "o"),
    "digits-deep-heads": ("auxiliary heads", "#009E73", "D"),
}


def draw() -> Figure:
    """Returns each layer's gradient before the first step and the accuracy over training: median and range of seeds."""
    figure = Figure(figsize=(9, 3.4))
    left, right = figure.subplots(1, 2)
    for name, (label, colour, marker) in WAYS.items():
        task = load_task(name)
        data = materialize(task)
        sizes, accuracies = map(torch.stack, zip(*(_train(task, data, seed) for seed in range(SEEDS)), strict=True))
        for axis, xs, rows in ((left, range(1, 12), sizes), (right, range(0, STEPS + 1, EVERY), accuracies)):
            middle = rows.median(dim=0).values
            axis.plot(xs, middle, color=colour, marker=marker, markersize=3, lw=1.2, label=label)
            axis.fill_between(xs, rows.amin(dim=0), rows.amax(dim=0), color=colour, alpha=0.2, lw=0)
        first, last = sizes.median(dim=0).values[[0, -1]].tolist()
        low, middle, high = accuracies[:, -1].quantile(torch.tensor([0.0, 0.5, 1.0])).tolist()
        print(f"{label}: gradient {first:.2g} in layer 1, {last:.2g} in the output; ", end="")
        print(f"accuracy {middle:.3f} ({low:.3f} to {high:.3f}) after {STEPS} steps")
    left.set(yscale="log", xlabel="layer (11: the output)", ylabel="gradient of a weight at the start")
    right.set(xlabel="step of Adam, minibatches of 64", ylabel="validation accuracy", ylim=(0, 1))
    left.legend(loc="lower right")
    return figure


def _train(task: Task, data: Examples, seed: int) -> tuple[Tensor, Tensor]:
    """Returns the root mean square of each layer's gradient ``(11,)`` and the accuracies every so many steps."""
    torch.manual_seed(seed)
    model = build_model(task)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    layers = [m for name, m in model.named_modules() if isinstance(m, nn.Linear) and not name.startswith("heads")]
    order, accuracies, sizes = generator(seed, "order"), [], torch.empty(0)
    for t in range(STEPS + 1):
        if t % EVERY == 0:
            with torch.no_grad():
                accuracies.append(task.score(model.eval()(data.valid.input), data.valid.target))
        rows = torch.randint(len(data.train), (64,), generator=order) if t else slice(None)
        optimizer.zero_grad()
        task.training_loss(model, model.train()(data.train.input[rows]), data.train.target[rows]).backward()
        if t == 0:
            sizes = torch.stack([m.weight.grad.square().mean().sqrt() for m in layers])
        optimizer.step()
    return sizes, torch.stack(accuracies)
