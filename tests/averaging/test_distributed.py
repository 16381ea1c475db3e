"""Averages under DistributedDataParallel, torch.compile, and with distributed tensors."""

import os
from contextlib import ExitStack

import pytest
import torch
from torch import nn

from tests.averaging.points import equal, net, train, walk
from thalweg.averaging import EMA, Average, Polyak

pytestmark = pytest.mark.slow


def rank(number, store, results):
    """Trains on data of its own, wrapped; saves averages and what the wrapped model gives under them."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=number, world_size=2)
    model = nn.parallel.DistributedDataParallel(net())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    averages = [Average(model, EMA(0.8)), Average(model, Polyak(), dtype=torch.bfloat16)]
    for average in averages:
        average.follow(optimizer)
    train(model, optimizer, 5, seed=number)
    outputs = []
    for average in averages:
        with average.applied():
            model.eval()
            outputs.append(model.module[0](torch.ones(1, 3)).detach())
            model.train()
    train(model, optimizer, 2, seed=number)  # goes on after
    torch.save([*(a.state_dict() for a in averages), outputs], results / f"{number}.pt")
    torch.distributed.destroy_process_group()
    # The model's reducer is the group's last holder; freed with it, torch 2.13's group may wait for itself forever.
    os._exit(0)


def test_averages_are_equal_on_all_ranks_and_named_as_in_the_model_itself(tmp_path):
    torch.multiprocessing.start_processes(rank, (tmp_path / "store", tmp_path), nprocs=2, start_method="forkserver")
    one, two = (torch.load(tmp_path / f"{i}.pt", weights_only=True) for i in range(2))
    for a, b in zip(one[:2], two[:2], strict=True):
        assert equal(a["means"], b["means"])
        assert a["step"] == b["step"] == 7
    assert all(torch.equal(a, b) for a, b in zip(one[2], two[2], strict=True))
    alone = Average(net(), EMA(0.8))
    alone.load_state_dict(one[0])
    assert equal(alone.means, one[0]["means"])


def test_a_compiled_model_runs_with_the_average_without_compiling_again():
    torch._dynamo.reset()
    model = net().eval()
    fast = torch.compile(model, backend="aot_eager")
    average = Average(fast, Polyak())
    x = torch.randn(4, 3)
    list(walk(average.means.values(), 1))  # an average that differs from the parameters
    plain = fast(x)
    torch._dynamo.utils.counters.clear()
    with average.applied():
        within = fast(x)
        torch.testing.assert_close(within, model(x))
    assert not torch.allclose(within, plain)
    torch.testing.assert_close(fast(x), plain)
    assert not torch._dynamo.utils.counters["stats"]["unique_graphs"]
    assert list(average.means) == list(Average(model, Polyak()).means)


@pytest.fixture
def mesh(tmp_path):
    from torch.distributed.device_mesh import init_device_mesh

    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("dtype", [None, torch.float64, torch.bfloat16])
def test_sharded_parameters_have_sharded_averages(mesh, dtype):
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor import DTensor

    plain, sharded = net(), net()
    fully_shard(sharded[0], mesh=mesh)
    fully_shard(sharded, mesh=mesh)
    averages = [Average(model, EMA(0.8), dtype=dtype) for model in (plain, sharded)]
    optimizers = [torch.optim.SGD(model.parameters(), lr=0.1) for model in (plain, sharded)]
    for model, average, optimizer in zip((plain, sharded), averages, optimizers, strict=True):
        average.follow(optimizer)
        train(model, optimizer, 3)
    for name, mean in averages[1].means.items():
        assert isinstance(mean, DTensor)
        torch.testing.assert_close(mean.full_tensor(), averages[0].means[name])
    averages[1].load_state_dict(averages[1].state_dict())
    # After a pass FSDP2 keeps the outermost parameters whole; they must not outlive what the shards hold.
    x = torch.ones(2, 3)
    plain.eval(), sharded.eval()
    for inside in (False, True, False):
        with ExitStack() as stack:
            for average in averages if inside else ():
                stack.enter_context(average.applied())
            torch.testing.assert_close(sharded(x), plain(x))
    for model, optimizer in zip((plain, sharded), optimizers, strict=True):
        train(model.train(), optimizer, 1)
    assert averages[1].step == 4
    torch.testing.assert_close(averages[1].means["1.weight"].full_tensor(), averages[0].means["1.weight"])


def test_plain_and_distributed_tensors_are_averaged_together(mesh):
    from torch.distributed.tensor import Shard, distribute_tensor

    start = torch.arange(6.0).view(3, 2)
    params = [nn.Parameter(distribute_tensor(start, mesh, [Shard(0)])), nn.Parameter(start.clone())]
    average = Average(params, Polyak())
    for step in range(3):
        with torch.no_grad():
            for p in params:
                p.add_(step)
        average.update()
    assert torch.equal(average.means["0"].full_tensor(), average.means["1"])
