"""The compiled step on 25 million parameters, compared with the speed of memory and with torch's fastest form.

The stream is the time to move the bytes that the step has to read and write.
"""

from collections.abc import Callable
from statistics import median
from typing import Any

import torch

from benchmarks.measure import alternately, ratio, seconds, table
from thalweg import optim

SIZE = 25_000_000
WIDE = 512
# Attention's and the perceptron's weights and biases and two layer norms.
BLOCK = [(3 * WIDE, WIDE), (WIDE, WIDE), (4 * WIDE, WIDE), (WIDE, 4 * WIDE), (3 * WIDE,), (4 * WIDE,), *[(WIDE,)] * 6]
SHAPES: dict[str, list[tuple[int, ...]]] = {
    "1 tensor": [(SIZE,)],
    "10 tensors": [(SIZE // 10,)] * 10,
    "50 tensors": [(SIZE // 50,)] * 50,
    "8 transformer blocks, 96 tensors": BLOCK * 8,
}
# Method -> (thalweg's, torch's, the numbers of floats that a step reads and writes per parameter, forms of torch's).
METHODS: dict[str, tuple[Callable[..., Any], Callable[..., Any], int, list[str]]] = {
    "Nesterov": (
        lambda p, **k: optim.SGD(p, lr=1e-3, momentum=0.9, nesterov=True, **k),
        lambda p, **k: torch.optim.SGD(p, lr=1e-3, momentum=0.9, nesterov=True, **k),
        5,
        ["loop", "foreach", "fused"],
    ),
    "AdaGrad": (optim.AdaGrad, torch.optim.Adagrad, 5, ["loop", "foreach", "fused"]),
    "RMSProp": (optim.RMSProp, torch.optim.RMSprop, 5, ["loop", "foreach"]),
    "Adam": (optim.Adam, torch.optim.Adam, 7, ["loop", "foreach", "fused"]),
}
FORMS: dict[str, dict[str, bool]] = {"loop": {"foreach": False}, "foreach": {"foreach": True}, "fused": {"fused": True}}


def measure(rounds: int = 15) -> dict[str, Any]:
    """Returns, for each method and cutting of the parameters, medians in milliseconds and ratios."""
    return {
        f"{method}, {cut}": _measure(method, shapes, rounds) for method in METHODS for cut, shapes in SHAPES.items()
    }


def _measure(method: str, shapes: list[tuple[int, ...]], rounds: int) -> dict[str, Any]:
    ours, theirs, floats, forms = METHODS[method]
    params = [torch.nn.Parameter(torch.randn(shape)) for shape in shapes]
    for p in params:
        p.grad = torch.randn_like(p)
    compiled = ours(params, engine="compiled")
    compiling = seconds(compiled.step)
    compiled.step()
    peers = {form: theirs(params, **FORMS[form]) for form in forms}
    for peer in peers.values():
        peer.step()
    memory = torch.randn(sum(p.numel() for p in params))
    # An in-place add reads and writes each float: two moves.
    runs = {
        "thalweg": lambda: seconds(compiled.step),
        "stream": lambda: seconds(lambda: memory.add_(1e-9)) * floats / 2,
    }
    runs |= {f"torch, {form}": (lambda peer=peer: seconds(peer.step)) for form, peer in peers.items()}
    found = alternately(runs, rounds)
    return {"compile_seconds": compiling, **beside_torch(found)}


def beside_torch(found: dict[str, list[float]]) -> dict[str, Any]:
    """Returns medians in milliseconds, and ratios to the stream and to torch's fastest form."""
    fastest = min((name for name in found if name.startswith("torch")), key=lambda name: median(found[name]))
    return {
        "milliseconds": {name: 1000 * median(values) for name, values in found.items()},
        "fastest_of_torch": fastest,
        "times_the_stream": ratio(found["thalweg"], found["stream"]),
        "times_torch": ratio(found["thalweg"], found[fastest]),
    }


def row(name: str, one: dict[str, Any]) -> list[Any]:
    """Returns the table's row of what :func:`beside_torch` returned."""
    times, fastest = one["milliseconds"], one["fastest_of_torch"]
    beside = [fastest.removeprefix("torch, "), times[fastest], one["times_torch"]]
    return [name, times["thalweg"], times["stream"], one["times_the_stream"], *beside]


def show(found: dict[str, Any]) -> str:
    """Returns the table."""
    head = [
        "step",
        "thalweg (ms)",
        "stream (ms)",
        "times the stream",
        "torch's fastest",
        "torch (ms)",
        "times torch's time",
    ]
    return table(head, [row(name, one) for name, one in found.items()])
