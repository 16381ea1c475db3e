"""Once inside a convex bowl, RMSProp forgets the steep country that it came through; AdaGrad never does."""

from collections.abc import Callable

import torch
from matplotlib.figure import Figure
from torch import Tensor

from thalweg import optim

START, EDGE, STEPS = 8.0, 2.0, 400


def slope(theta: float) -> float:
    """Returns f′(θ): θ in the bowl |θ| ≤ 2; outside 2 + 40 sin²(3(|θ| − 2)), steep and not convex."""
    if abs(theta) <= EDGE:
        return theta
    far = abs(theta) - EDGE
    return float(torch.tensor(theta).sign()) * (EDGE + 40 * float(torch.tensor(3 * far).sin()) ** 2)


def draw() -> Figure:
    """Returns both paths and both rates; each method's lr is such that it enters the bowl at step 50 or so."""
    methods: dict[str, tuple[Callable[[list[Tensor]], torch.optim.Optimizer], Callable[..., Tensor]]] = {
        "AdaGrad": (lambda p: optim.AdaGrad(p, lr=0.67), lambda s: 0.67 / s["sum"].sqrt()),
        "RMSProp": (lambda p: optim.RMSProp(p, lr=0.135, alpha=0.9), lambda s: 0.135 / s["square_avg"].sqrt()),
    }
    figure = Figure(figsize=(9, 3.2))
    left, right = figure.subplots(1, 2)
    for name, (make, rate) in methods.items():
        theta = torch.tensor([START], requires_grad=True)
        optimizer = make([theta])
        path, rates = [START], []
        for _ in range(STEPS):
            theta.grad = torch.tensor([slope(theta.item())])
            optimizer.step()
            path.append(theta.item())
            rates.append(rate(optimizer.state[theta]).item())
        left.plot(range(STEPS + 1), [abs(x) for x in path], label=name)
        right.plot(range(1, STEPS + 1), rates, label=name)
        entered = next(i for i, x in enumerate(path) if abs(x) <= EDGE)
        close = next((i for i, x in enumerate(path) if abs(x) < 0.1), None)
        reached = f"within 0.1 of the minimum {close - entered} steps later" if close else "never within 0.1 of it"
        print(f"{name}: in the bowl at step {entered} with rate {rates[entered]:.4f}; {reached}")
    left.axhspan(0, EDGE, color="tab:green", alpha=0.1)
    left.text(STEPS * 0.98, 1.2, "the bowl", ha="right", color="tab:green")
    left.set(xlabel="step", ylabel="|θ|, distance from the minimum", ylim=(0, 10))
    left.set_yscale("symlog", linthresh=0.1)
    right.set(xlabel="step", ylabel="rate", yscale="log")
    left.legend()
    right.legend()
    return figure
