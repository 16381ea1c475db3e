"""Steps on a GPU: one kernel for all tensors, beside torch's forms and the time that the same bytes take to copy.

A time is that of ten steps between two events of the device, divided by ten, the median of rounds in which all take
turns; where the host is slower than the device, it is the host's. The differences are from the engine over lists after
ten steps, the largest of any number. What is measured stands in docs/benchmarks/gpu.part.json until all is, and is not
measured again.
"""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.measure import alternately, table
from thalweg import optim
from thalweg.averaging import EMA, Average
from thalweg.optim.of_rule import OfRule
from thalweg.rules import RULES

PART = Path(__file__).parent.parent / "docs" / "benchmarks" / "gpu.part.json"
STEPS, ROUNDS, GIGABYTE = 10, 7, 1 << 30
WIDE = 768
BLOCK = [
    (WIDE,),
    (WIDE,),
    (3 * WIDE, WIDE),
    (3 * WIDE,),
    (WIDE, WIDE),
    (WIDE,),
    (WIDE,),
    (WIDE,),
    (4 * WIDE, WIDE),
    (4 * WIDE,),
    (WIDE, 4 * WIDE),
    (WIDE,),
]
SHAPES: dict[str, list[tuple[int, ...]]] = {
    "124 M in 148 tensors": [(50257, WIDE), (1024, WIDE), *BLOCK * 12, (WIDE,), (WIDE,)],  # GPT-2's
    "0.1 M in 6 tensors": [(128, 784), (128,), (64, 128), (64,), (10, 64), (10,)],
}
Make = Callable[..., torch.optim.Optimizer]
TORCH: dict[str, Make] = {
    "sgd": torch.optim.SGD,
    "momentum": lambda p, **k: torch.optim.SGD(p, momentum=0.9, **k),
    "nesterov": lambda p, **k: torch.optim.SGD(p, momentum=0.9, nesterov=True, **k),
    "adagrad": torch.optim.Adagrad,
    "adadelta": torch.optim.Adadelta,
    "rmsprop": torch.optim.RMSprop,
    "adam": torch.optim.Adam,
    "amsgrad": lambda p, **k: torch.optim.Adam(p, amsgrad=True, **k),
    "nadam": torch.optim.NAdam,
    "adamw": torch.optim.AdamW,
}


def measure() -> dict[str, Any]:
    """Returns times in milliseconds and differences, by question."""
    if not torch.cuda.is_available():
        raise SystemExit("the benchmark gpu needs a GPU that torch can use: torch.cuda.is_available() is False")
    device = torch.cuda.get_device_name()
    known = json.loads(PART.read_text(encoding="utf-8")) if PART.exists() else {}
    found = known if known.get("device") == device else {"device": device}
    for name, question in _questions():
        if name not in found:
            began = time.perf_counter()
            found[name] = question()
            print(f"{name}: {time.perf_counter() - began:.1f} s", flush=True)
            PART.write_text(json.dumps(found), encoding="utf-8")
    PART.unlink()
    return found


def _questions() -> Iterator[tuple[str, Callable[[], Any]]]:
    yield "bytes a millisecond", _bytes_a_millisecond
    for rule in RULES:
        yield (
            f"differences, {rule}",
            lambda rule=rule: {
                str(dtype).removeprefix("torch."): _difference(rule, dtype) for dtype in (torch.float32, torch.bfloat16)
            },
        )
    for cut in SHAPES:
        for rule in RULES:
            yield f"{rule}, {cut}", lambda rule=rule, cut=cut: _step(rule, cut)
        for rule in ("momentum", "adam"):
            yield f"clip + {rule} + average, {cut}", lambda rule=rule, cut=cut: _together(rule, cut)


def _bytes_a_millisecond() -> float:
    one, two = (torch.empty(GIGABYTE, dtype=torch.uint8, device="cuda") for _ in range(2))
    return 2 * GIGABYTE / median(_milliseconds(lambda: one.copy_(two)) for _ in range(ROUNDS))


def _milliseconds(step: Callable[[], Any]) -> float:
    """Returns milliseconds of the device that a step takes, of ten in a row."""
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    begin.record()
    for _ in range(STEPS):
        step()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / STEPS


def _host(step: Callable[[], Any]) -> float:
    """Returns milliseconds after which a step has come back, without waiting for the device."""
    torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(STEPS):
        step()
    return 1000 * (time.perf_counter() - began) / STEPS


def _params(cut: str) -> list[nn.Parameter]:
    params = [nn.Parameter(torch.randn(shape, device="cuda") * 0.02) for shape in SHAPES[cut]]
    for p in params:
        p.grad = torch.randn_like(p)
    return params


def _peers(rule: str, params: list[nn.Parameter]) -> dict[str, Callable[[], Any]]:
    """Returns the steps of torch's forms of the rule, as far as it has them."""
    found: dict[str, Callable[[], Any]] = {}
    for form in ("foreach", "fused") if rule in TORCH else ():
        try:
            peer = TORCH[rule](params, lr=1e-5, **{form: True})
            peer.step()
        except (RuntimeError, TypeError, NotImplementedError):
            continue
        found[form] = peer.step
    return found


def _timed(rule: str, cut: str, mine: Callable[[], Any], peers: dict[str, Callable[[], Any]]) -> dict[str, Any]:
    began = time.perf_counter()
    mine()
    torch.cuda.synchronize()
    first = time.perf_counter() - began
    for step in (mine, *peers.values()):
        _milliseconds(step)
    steps = {"thalweg": mine} | peers
    times = alternately({name: (lambda step=step: _milliseconds(step)) for name, step in steps.items()}, ROUNDS)
    host = {name: median(_host(step) for _ in range(3)) for name, step in steps.items()}
    return {"first step, s": first, "host": host, "times": {name: median(values) for name, values in times.items()}}


def _step(rule: str, cut: str) -> dict[str, Any]:
    params = _params(cut)
    mine = OfRule(params, RULES[rule], {"lr": 1e-5})
    floats = 3 + 2 * len(RULES[rule].buffers)
    return {"floats": floats, **_timed(rule, cut, mine.step, _peers(rule, params))}


def _together(rule: str, cut: str) -> dict[str, Any]:
    """Clip, step and average, beside torch's three calls with each of its forms."""
    params = _params(cut)
    average = Average(params, EMA(0.999))
    options: dict[str, Any] = {"lr": 1e-5, "clip_norm": 1.0, "average": average}
    mine = optim.Adam(params, **options) if rule == "adam" else optim.SGD(params, momentum=0.9, **options)
    means, values = [p.detach().clone() for p in params], [p.detach() for p in params]

    def three(step: Callable[[], Any]) -> Callable[[], Any]:
        def call() -> None:
            nn.utils.clip_grad_norm_(params, 1.0)
            step()
            torch._foreach_lerp_(means, values, 0.001)

        return call

    peers = {name: three(step) for name, step in _peers(rule, params).items()}
    return {"floats": 6 + 2 * len(RULES[rule].buffers), **_timed(rule, cut, mine.step, peers)}


def _difference(rule: str, dtype: torch.dtype) -> float:
    """Returns the largest difference from the engine over lists, of any number after ten steps, or NaN."""

    def stepped(engine: Any) -> list[Tensor]:
        generator = torch.Generator("cuda").manual_seed(0)
        sizes = [(1000, 77), (4096,), (50_001,), (0,), (1,), (3, 5, 7)]
        params = [nn.Parameter(torch.randn(s, device="cuda", generator=generator).to(dtype)) for s in sizes]
        optimizer = OfRule(params, RULES[rule], {"weight_decay": 0.1}, engine=engine)
        for _ in range(10):
            for p in params:
                p.grad = torch.randn(p.shape, device="cuda", generator=generator).to(dtype)
            optimizer.step()
        return [p.detach() for p in params] + [optimizer.state[p][n] for p in params for n in RULES[rule].buffers]

    pairs = zip(stepped("triton"), stepped("foreach"), strict=True)
    return max(float((a.double() - b.double()).abs().max()) for a, b in pairs if a.numel())


def show(found: dict[str, Any]) -> str:
    """Returns the tables."""
    rate = found["bytes a millisecond"]
    rows = []
    for name, one in found.items():
        if not isinstance(one, dict) or "times" not in one:
            continue
        mine, cut = one["times"]["thalweg"], name.rpartition(", ")[2]
        size = sum(torch.Size(shape).numel() for shape in SHAPES[cut])
        floor = 4 * one["floats"] * size / rate if "124" in cut else None
        peers = [one["times"].get(form) for form in ("foreach", "fused")]
        best = min((p for p in peers if p is not None), default=None)
        rows.append(
            [
                name,
                mine,
                *peers,
                floor,
                mine / floor if floor else None,
                mine / best if best else None,
                one["host"]["thalweg"],
                one["first step, s"],
            ]
        )
    head = [
        "step",
        "thalweg (ms)",
        "foreach (ms)",
        "fused (ms)",
        "its bytes (ms)",
        "times its bytes",
        "times torch's fastest",
        "host (ms)",
        "first step (s)",
    ]
    apart = [
        [name.partition(", ")[2], one["float32"], one["bfloat16"]]
        for name, one in found.items()
        if name.startswith("differences")
    ]
    names = ["largest difference after ten steps", "float32", "bfloat16"]
    words = f"{found['device']}; a copy moves {rate / 1e9:.2f} GB a millisecond, counting reads and writes."
    return f"{table(head, rows)}\n\n{table(names, apart)}\n\n{words}"
