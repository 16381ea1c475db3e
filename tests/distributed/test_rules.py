"""Every update rule over shards and copies: the trajectory of one process, through checkpoints too."""

import math

import pytest
import torch
from torch import distributed, nn

from tests.distributed.group import (
    Checks,
    batch,
    loss_of,
    make_checks,
    net,
    same_everywhere,
    sharded,
    take_up,
    whole,
    write,
)
from tests.optim.test_after_the_book import OPTIMIZERS as LATER
from tests.optim.test_conventions import OPTIMIZERS
from thalweg import optim
from thalweg.averaging import EMA, Average

pytestmark = pytest.mark.slow

CHECKS = Checks()
SUMMING = ("ScheduleFreeAdamW", "LAMB", "Prodigy", "AdamW, MARS, cautious")  # over tensors and over the model


def some():
    """Yields names and optimizers, of which more processes try that with the most state."""
    yield from (OPTIMIZERS if distributed.get_world_size() == 2 else {"AMSGrad": OPTIMIZERS["AMSGrad"]}).items()


def train(model, optimizer, steps, rank=None, bad=()):
    """Trains; at the steps that are bad one row, of rank 1, is NaN."""
    for step in steps:
        x = batch(step)
        if step in bad:
            x[1] = math.nan
        if rank is not None:
            x = x[rank :: distributed.get_world_size()]
        optimizer.zero_grad()
        loss_of(model, x).backward()
        optimizer.step()
    return whole(model.parameters())


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)


@CHECKS.among(2, 4)
def every_rule_goes_the_way_of_one_process(folder):
    rank = distributed.get_rank()
    for make in (*dict(some()).values(), *(LATER[name] for name in SUMMING)):
        one, shards, copies = net(), sharded(net()), nn.parallel.DistributedDataParallel(net())
        expected = train(one, make(one.parameters(), weight_decay=0.1), range(4))
        close(train(shards, make(shards.parameters(), weight_decay=0.1), range(4), rank), expected)
        close(train(copies, make(copies.parameters(), weight_decay=0.1), range(4), rank), expected)


@CHECKS.among(2, 4)
def all_ranks_clip_skip_and_average_alike(folder):
    def trained(model, rank=None):
        average = Average(model, EMA(0.8))
        options = {"lr": 0.1, "clip_norm": 0.5, "skip_nonfinite": True, "average": average}
        optimizer = optim.SGD(model.parameters(), momentum=0.9, **options)
        params = train(model, optimizer, range(5), rank, bad=[1, 3])
        same_everywhere((optimizer.skipped, average.step, optimizer.gradient_norm.item()))
        assert (optimizer.skipped, average.step) == (2, 3)
        return params, whole(average.means.values()), optimizer.gradient_norm

    rank, expected = distributed.get_rank(), trained(net())
    close(trained(sharded(net()), rank), expected)
    close(trained(nn.parallel.DistributedDataParallel(net()), rank), expected)


@CHECKS.among(2)
def large_shards_are_stepped_by_the_compiled_engine(folder):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Shard, distribute_tensor

    mesh = init_device_mesh("cpu", (distributed.get_world_size(),))
    start = torch.linspace(-1, 1, 501 * 200).view(501, 200)
    shards = nn.Parameter(distribute_tensor(start, mesh, [Shard(0)]))
    plain, other = nn.Parameter(start.clone()), nn.Parameter(torch.ones(3))
    optimizer = optim.Adam([shards, other], engine="compiled", clip_norm=1.0)  # distributed and plain together
    alone = optim.Adam([plain], engine="foreach", clip_norm=1.0)
    for _ in range(3):
        shards.grad, plain.grad = distribute_tensor(start.cos(), mesh, [Shard(0)]), start.cos()
        other.grad = torch.zeros(3)
        optimizer.step(), alone.step()
    torch.testing.assert_close(shards.full_tensor().detach(), plain.detach(), rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(optimizer.gradient_norm, alone.gradient_norm)


@CHECKS.among(2, 4)
def gradients_that_are_placed_otherwise_are_placed_as_the_parameter(folder):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Partial, Replicate, Shard, distribute_tensor

    mesh = init_device_mesh("cpu", (distributed.get_world_size(),))
    for placement in (Replicate(), Partial()):
        p = nn.Parameter(distribute_tensor(torch.ones(5, 2), mesh, [Shard(0)]))
        p.grad = distribute_tensor(torch.ones(5, 2), mesh, [placement])
        optim.SGD([p], lr=0.25).step()
        torch.testing.assert_close(p.full_tensor().detach(), torch.full((5, 2), 0.75))


@CHECKS.among(2, 4)
def checkpoints_are_taken_up_by_as_many_ranks_and_by_more(folder):
    """Two ranks write; both they and, when their turn comes, four go on."""
    rank = distributed.get_rank()
    for name, make in some():
        one, path = net(), folder / name
        expected = train(one, make(one.parameters(), weight_decay=0.1), range(4))
        if distributed.get_world_size() == 2:
            model = sharded(net())
            optimizer = make(model.parameters(), weight_decay=0.1)
            train(model, optimizer, range(2), rank)
            write(model, optimizer, path)
        model = sharded(net().apply(lambda m: nn.init.ones_(m.weight) if hasattr(m, "weight") else None))
        optimizer = make(model.parameters())
        take_up(model, optimizer, path)
        close(train(model, optimizer, range(2, 4), rank), expected)


def test_ranks_go_together(tmp_path):
    for size in (2, 4):
        make_checks(__name__, size, tmp_path)
