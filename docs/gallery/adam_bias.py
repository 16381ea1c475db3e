"""Adam's first steps: with bias correction they are lr long; without it they start at 3 lr and grow."""

import torch
from matplotlib.figure import Figure
from torch import nn

from thalweg import optim
from thalweg.compare.task import build_model, materialize
from thalweg.compare.task.loading import load_task

LR, STEPS = 1e-3, 300


def draw() -> Figure:
    """Returns the length of the steps, for a constant gradient and on digits, and the loss on digits."""
    figure = Figure(figsize=(9, 3.2))
    left, right = figure.subplots(1, 2)
    for corrected, colour in ((True, "tab:blue"), (False, "tab:orange")):
        label = f"{'with' if corrected else 'without'} bias correction"
        constant = _constant_gradient(corrected)
        lengths, losses = _digits(corrected)
        left.plot(range(1, STEPS + 1), constant, color=colour, label=f"{label}, constant gradient")
        left.plot(range(1, STEPS + 1), lengths, ":", color=colour, label=f"{label}, digits (root mean square)")
        right.plot(range(1, STEPS + 1), losses, color=colour, label=label)
        print(
            f"{label}: steps 1, 10, 300 are {constant[0]:.2f}, {constant[9]:.2f}, {constant[-1]:.2f} lr long", end="; "
        )
        print(f"loss on digits after 10 steps {losses[9]:.2f}, after {STEPS} {losses[-1]:.3f}")
    left.set(xscale="log", xlabel="step", ylabel="length of the step / lr", ylim=(0, 9.5))
    right.set(xscale="log", yscale="log", xlabel="step", ylabel="minibatch loss on digits")
    left.legend(fontsize=7, loc="upper right")
    right.legend()
    return figure


def _constant_gradient(corrected: bool) -> list[float]:
    theta = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimizer = optim.Adam([theta], lr=LR, bias_correction=corrected)
    lengths = []
    for _ in range(STEPS):
        before = theta.item()
        theta.grad = torch.ones_like(theta)
        optimizer.step()
        lengths.append((before - theta.item()) / LR)
    return lengths


def _digits(corrected: bool) -> tuple[list[float], list[float]]:
    task = load_task("digits")
    data = materialize(task)
    torch.manual_seed(0)
    model = build_model(task)
    optimizer = optim.Adam(model.parameters(), lr=LR, bias_correction=corrected)
    draws = torch.Generator().manual_seed(0)
    lengths, losses = [], []
    for _ in range(STEPS):
        rows = torch.randint(len(data.train), (task.batch_size,), generator=draws)
        before = nn.utils.parameters_to_vector(model.parameters()).detach()
        optimizer.zero_grad()
        loss = task.loss(model(data.train.input[rows]), data.train.target[rows])
        loss.backward()
        optimizer.step()
        moved = nn.utils.parameters_to_vector(model.parameters()).detach() - before
        lengths.append(moved.square().mean().sqrt().item() / LR)
        losses.append(loss.item())
    return lengths, losses
