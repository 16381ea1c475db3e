"""L-BFGS over four processes that share 8,000,000 parameters, against one process that holds them all.

The optimizer's own time per iteration, without the closure's, with 10 pairs in float32 and the same number of threads:
four processes of one thread each, and one process of four. Each fills its history first. The objective is a quadratic
whose gradient each process writes for its own share, so that only the optimizer's own numbers are sent; these are
counted.
"""

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard

from benchmarks.measure import alternately, ratio, table
from thalweg import optim
from thalweg.second_order import ranks

SIZE, PROCESSES, MEMORY, ITERATIONS, ROUNDS = 8_000_000, 4, 10, 20, 5


def measure() -> dict[str, Any]:
    """Returns seconds, bytes and messages an iteration."""
    runs = {"one": lambda: _spawned(1), "four": lambda: _spawned(PROCESSES)}
    rounds = alternately(runs, ROUNDS)
    return {
        **{f"{name}, s": [found["seconds"] for found in several] for name, several in rounds.items()},
        "messages": rounds["four"][0]["messages"],
        "bytes": rounds["four"][0]["bytes"],
    }


def _spawned(processes: int) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(_rank, (processes, folder), nprocs=processes)
        return json.loads((Path(folder) / "found.json").read_text(encoding="utf-8"))


def _rank(rank: int, processes: int, folder: str) -> None:
    torch.set_num_threads(PROCESSES // processes)
    store = distributed.FileStore(str(Path(folder) / "store"), processes)
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=processes)
    closure = Quadratic(processes)
    optimizer = optim.LBFGS([closure.p], history_size=MEMORY, tolerance_grad=0, tolerance_change=0)
    group = optimizer.param_groups[0]
    group["max_iter"], group["max_eval"] = MEMORY + 1, 10 * MEMORY
    optimizer.step(closure)
    sent = _counted()
    group["max_iter"], group["max_eval"] = ITERATIONS, 10 * ITERATIONS
    closure.seconds, began = 0.0, time.perf_counter()
    optimizer.step(closure)
    own = (time.perf_counter() - began - closure.seconds) / ITERATIONS
    if not rank:
        found = {"seconds": own, "messages": len(sent) / ITERATIONS, "bytes": sum(sent) / ITERATIONS}
        (Path(folder) / "found.json").write_text(json.dumps(found), encoding="utf-8")
    distributed.destroy_process_group()


class Quadratic:
    """½ Σ c (p − 1)² with c from 1e-4 to 1, its gradient written by hand; adds up its own time."""

    def __init__(self, processes: int) -> None:
        self.processes, here = processes, torch.zeros(SIZE // processes)
        if processes > 1:
            mesh = init_device_mesh("cpu", (processes,))
            self.p = nn.Parameter(DTensor.from_local(here, mesh, [Shard(0)]))
        else:
            self.p = nn.Parameter(here)
        self.c = torch.logspace(-4, 0, SIZE).chunk(processes)[distributed.get_rank()].clone()
        self.seconds = 0.0

    def __call__(self) -> float:
        began = time.perf_counter()
        with torch.no_grad():
            p = self.p.to_local() if isinstance(self.p, DTensor) else self.p
            difference = p - 1
            grad = self.c * difference
            loss = 0.5 * self.processes * float(grad @ difference)  # the optimizer takes the mean over processes
            like = self.p
            self.p.grad = DTensor.from_local(grad, like.device_mesh, [Shard(0)]) if isinstance(like, DTensor) else grad
        self.seconds += time.perf_counter() - began
        return loss


def _counted() -> list[int]:
    """Returns a list to which the bytes of each message are added that this process takes part in from now on."""
    sent: list[int] = []
    reduce, gather = ranks.all_reduce, ranks.all_gather

    def counted_reduce(tensor: torch.Tensor, **options: Any) -> None:
        sent.append(tensor.nbytes)
        reduce(tensor, **options)

    def counted_gather(rows: list[torch.Tensor], own: torch.Tensor, **options: Any) -> None:
        sent.append(len(rows) * own.nbytes)
        gather(rows, own, **options)

    ranks.all_reduce, ranks.all_gather = counted_reduce, counted_gather  # type: ignore[assignment]
    return sent


def show(found: dict[str, Any]) -> str:
    """Returns the table."""
    one, four = (sorted(found[f"{name}, s"]) for name in ("one", "four"))
    return table(
        ["one process, ms", "four, ms", "four / one", "messages per iteration", "bytes per iteration"],
        [
            [
                one[len(one) // 2] * 1e3,
                four[len(four) // 2] * 1e3,
                ratio(found["four, s"], found["one, s"]),
                found["messages"],
                found["bytes"],
            ]
        ],
    )
