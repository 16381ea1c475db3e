"""AdaGrad gives each parameter a rate of its own: lr / √(Σ g²), alike while the gradients are alike."""

import torch
from matplotlib.figure import Figure

from thalweg import optim

LR, EQUAL, STEPS = 0.1, 50, 200


def draw() -> Figure:
    """Returns the rates of two parameters whose gradients are equal for 50 steps and differ after that."""
    theta = torch.zeros(2, requires_grad=True)
    optimizer = optim.AdaGrad([theta], lr=LR)
    gradients, rates = [], []
    for step in range(STEPS):
        theta.grad = torch.tensor([1.0, 1.0 if step < EQUAL else 0.1])
        optimizer.step()
        gradients.append(theta.grad.tolist())
        rates.append((LR / (optimizer.state[theta]["sum"].sqrt() + 1e-10)).tolist())
    figure = Figure(figsize=(9, 3.2))
    left, right = figure.subplots(1, 2)
    for i, (style, label) in enumerate((("-", "gradient stays at 1"), ("--", "gradient falls to 0.1"))):
        left.plot(range(1, STEPS + 1), [g[i] for g in gradients], style, label=label)
        right.plot(range(1, STEPS + 1), [r[i] for r in rates], style, label=label)
    left.set(xlabel="step", ylabel="gradient", ylim=(0, 1.1))
    right.set(xlabel="step", ylabel="rate, lr / √(Σ g²)", xscale="log", yscale="log")
    left.legend()
    right.legend()
    for step in (1, EQUAL, STEPS):
        first, second = rates[step - 1]
        print(f"step {step:3}: rates {first:.5f} and {second:.5f}, ratio {second / first:.2f}")
    return figure
