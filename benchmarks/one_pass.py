"""Clip, step and average of 25 million parameters in one pass, compared with torch's three passes.

torch's are ``clip_grad_norm_``, its fastest form of the method, and an exponential average by one foreach kernel, which
is ``AveragedModel`` without its overhead. The stream is the time to move the bytes that one pass has to move: the
gradient is read twice, and parameters, state and average are read and written once.

The last table gives the cost of the norm next to a backward pass of ten layers, 25 million parameters and a batch of 8:
after it, by torch's norm and by BLAS's dot, and during it, in a hook on each gradient as soon as it is accumulated.
"""

from collections.abc import Callable
from statistics import median
from typing import Any

import torch

from benchmarks.measure import alternately, seconds, table
from benchmarks.step import FORMS, METHODS, SHAPES, beside_torch, row
from thalweg import optim
from thalweg.averaging import EMA, Average

CUTS = ["10 tensors", "8 transformer blocks, 96 tensors"]
ASKED = {"RMSProp": 0.4}


def measure(rounds: int = 15) -> dict[str, Any]:
    """Returns, for each method and cutting of the parameters, medians in milliseconds and ratios."""
    methods = METHODS | {
        "Momentum": (
            lambda p, **k: optim.SGD(p, lr=1e-3, momentum=0.9, **k),
            lambda p, **k: torch.optim.SGD(p, lr=1e-3, momentum=0.9, **k),
            5,
            ["loop", "foreach", "fused"],
        )
    }
    del methods["Nesterov"]
    found = {f"{method}, {cut}": _measure(methods[method], SHAPES[cut], rounds) for method in methods for cut in CUTS}
    return {"steps": found, "norms": _norms(rounds)}


def _norms(rounds: int) -> dict[str, float]:
    """Returns milliseconds that a norm adds to a backward pass, the median of the rounds' differences."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(*(part for _ in range(10) for part in (torch.nn.Linear(1581, 1581), torch.nn.ReLU())))
    params, x = list(model.parameters()), torch.randn(8, 1581)
    squares: list[torch.Tensor] = []

    def backward() -> None:
        for p in params:
            p.grad = None
        model(x).square().mean().backward()

    def square(p: torch.nn.Parameter) -> None:
        assert p.grad is not None
        flat = p.grad.view(-1)
        squares.append(torch.dot(flat, flat))

    def after(norm: Callable[[list[torch.Tensor]], Any]) -> None:
        backward()
        norm([p.grad for p in params if p.grad is not None])

    def within() -> float:
        handles = [p.register_post_accumulate_grad_hook(square) for p in params]
        squares.clear()
        taken = seconds(lambda: (backward(), torch.stack(squares).sum().sqrt()))
        for handle in handles:
            handle.remove()
        return taken

    def dots(grads: list[torch.Tensor]) -> torch.Tensor:
        return torch.stack([torch.dot(g, g) for g in (grad.view(-1) for grad in grads)]).sum().sqrt()

    runs = {
        "none": lambda: seconds(backward),
        "after, torch's": lambda: seconds(lambda: after(torch.nn.utils.get_total_norm)),
        "after, dot": lambda: seconds(lambda: after(dots)),
        "in hooks, dot": within,
    }
    found = alternately(runs, 3 * rounds)
    return {
        name: 1000 * median(a - b for a, b in zip(values, found["none"], strict=True))
        for name, values in found.items()
        if name != "none"
    }


def _measure(method: Any, shapes: list[tuple[int, ...]], rounds: int) -> dict[str, Any]:
    ours, theirs, floats, forms = method
    params = [torch.nn.Parameter(torch.randn(shape)) for shape in shapes]
    for p in params:
        p.grad = torch.randn_like(p)
    average = Average(params, EMA(0.999))
    together = ours(params, engine="compiled", clip_norm=1.0, skip_nonfinite=True, average=average)
    together.step()
    means = [p.detach().clone() for p in params]
    values = [p.detach() for p in params]

    def one_after_the_other(peer: torch.optim.Optimizer) -> Callable[[], Any]:
        def step() -> None:
            torch.nn.utils.clip_grad_norm_(params, 1.0)
            peer.step()
            torch._foreach_lerp_(means, values, 0.001)

        return step

    peers = {form: one_after_the_other(theirs(params, **FORMS[form])) for form in forms}
    for step in peers.values():
        step()
    together.step()
    memory = torch.randn(sum(p.numel() for p in params))
    runs = {
        "thalweg": lambda: seconds(together.step),
        "stream": lambda: seconds(lambda: memory.add_(1e-9)) * (floats + 3) / 2,
    }
    runs |= {f"torch, {form}": (lambda step=step: seconds(step)) for form, step in peers.items()}
    return beside_torch(alternately(runs, rounds))


def show(found: dict[str, Any]) -> str:
    """Returns the table."""
    rows = [[*row(name, one), ASKED.get(name.split(",")[0], 0.8)] for name, one in found["steps"].items()]
    head = [
        "clip, step and average",
        "thalweg (ms)",
        "stream (ms)",
        "times the stream",
        "torch's fastest",
        "torch (ms)",
        "times torch's time",
        "goal: at most",
    ]
    norms = table(
        ["norm, beside a backward pass", "adds (ms)"], [[name, value] for name, value in found["norms"].items()]
    )
    return f"{table(head, rows)}\n\n{norms}"
