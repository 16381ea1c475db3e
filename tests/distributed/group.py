"""Checks that several processes make together, with one start-up for all checks of a file."""

import importlib
import json
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from torch import distributed, nn
from torch.distributed import checkpoint
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict

import tests.no_accelerator  # noqa: F401
from tests.waiting import LONG


class Checks(dict[str, tuple[Callable[[Path], None], tuple[int, ...]]]):
    """The checks of a file, each with the numbers of processes that make it: as few as show it."""

    def among(self, *sizes):
        """Returns what adds a function to the checks of so many processes."""

        def add(function):
            self[function.__name__] = function, sizes
            return function

        return add


def make_checks(module, size, folder):
    """Makes the module's CHECKS of ``size`` processes in as many, and fails with all that failed there."""
    torch.multiprocessing.start_processes(_rank, (module, size, folder), nprocs=size, start_method="forkserver")
    by_rank = [json.loads((folder / f"{rank}.json").read_text()) for rank in range(size)]
    failed = [f"{name}, rank {rank}: {why}" for rank, found in enumerate(by_rank) for name, why in found.items()]
    assert not failed, "\n".join(failed)


def _rank(rank, module, size, folder):
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo",
        init_method=f"file://{folder / f'store{size}'}",
        rank=rank,
        world_size=size,
        timeout=timedelta(seconds=LONG),
    )
    found = {}
    for name, (check, sizes) in importlib.import_module(module).CHECKS.items():
        try:
            if size in sizes:
                check(folder)
        except (Exception, pytest.fail.Exception):  # the other ranks wait until the time-out at most
            found[name] = traceback.format_exc()
    (folder / f"{rank}.json").write_text(json.dumps(found))
    distributed.destroy_process_group()


def net(dtype=torch.float64):
    """Returns a model of 5, 7, 3 and 1 rows: none divides evenly over 2 and 4 ranks, some ranks get nothing."""
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3), nn.Tanh(), nn.Linear(3, 1))
    return model.to(dtype)


def sharded(model, mesh=None):
    """Shards the model over all ranks or a mesh; as one unit, since each sends messages of its own."""
    from torch.distributed.fsdp import fully_shard

    return fully_shard(model, mesh=mesh)


def batch(step=0, rank=None):
    """Returns twelve inputs at a step, or one rank's equal part of them."""
    x = torch.randn(12, 5, generator=torch.Generator().manual_seed(step), dtype=torch.float64)
    return x if rank is None else x[rank :: distributed.get_world_size()]


def loss_of(model, x):
    """Returns the mean loss over the rows."""
    x = x.to(next(model.parameters()).dtype)
    return (model(x) - x.sin().sum(dim=1, keepdim=True)).square().mean()


def whole(params):
    """Returns the full parameters as plain tensors."""
    return [p.full_tensor().detach() if hasattr(p, "full_tensor") else p.detach().clone() for p in params]


def write(model, optimizer, path):
    """Writes a distributed checkpoint."""
    checkpoint.save(_parts(model, optimizer), checkpoint_id=path)


def take_up(model, optimizer, path):
    """Goes on from a distributed checkpoint."""
    parts = _parts(model, optimizer)
    checkpoint.load(parts, checkpoint_id=path)
    set_state_dict(model, optimizer, model_state_dict=parts["model"], optim_state_dict=parts["optimizer"])


def _parts(model, optimizer):
    return dict(zip(("model", "optimizer"), get_state_dict(model, optimizer), strict=True))


def same_everywhere(value):
    """Asserts that all ranks have the same value."""
    every = [None] * distributed.get_world_size()
    distributed.all_gather_object(every, value)
    assert all(other == value for other in every), every
