"""Processes with unequal parts of a batch compute what one process computes on all of it."""

import traceback

import pytest
import torch
from torch import distributed, multiprocessing, nn

from thalweg.normalization import BatchNorm

PARTS = {"unequal": [5, 3], "one example in all but one": [1, 6], "nothing on one": [0, 4]}


def inputs(rows, *extent):
    return torch.randn(rows, 3, *extent, dtype=torch.float64, generator=torch.Generator().manual_seed(rows))


def results(norm, x, weights):
    """Returns output, gradients, gradients of the gradient by x, and statistics."""
    x = x.clone().requires_grad_()
    y = norm(x)
    first = torch.autograd.grad((y.sin() * weights).sum(), [x, norm.weight, norm.bias], create_graph=True)
    (second,) = torch.autograd.grad(first[0].square().sum(), x)
    return [y.detach(), *(g.detach() for g in first), second, *(b.clone() for b in norm.buffers())]


def made():
    norm = BatchNorm(3, dtype=torch.float64, synchronize=True)
    nn.init.normal_(norm.weight, generator=torch.Generator().manual_seed(0))
    return norm


def worker(rank, folder):
    """Runs every case in one process; what it finds, or what went wrong, is saved."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    found = {}
    try:
        for name, sizes in PARTS.items():
            for extent in ((), (4,)):
                x = inputs(sum(sizes), *extent)
                part = x.split(sizes)[rank]
                weights = inputs(sum(sizes) + 100, *extent)[: len(x)].split(sizes)[rank]
                found[f"{name} {extent}"] = results(made(), part, weights)
        alone = distributed.new_group([0]), distributed.new_group([1])
        own = BatchNorm(3, dtype=torch.float64, synchronize=alone[rank])
        found["alone"] = [own(inputs(4 + rank)).detach()]
        half = BatchNorm(3, momentum=1.0, synchronize=True)
        found["half"] = [
            half((inputs(8)[rank * 4 :][:4] + 100).bfloat16()).detach(),
            half.running_mean,
            half.running_var,
        ]
        norm = made()
        try:
            norm(inputs(1)[: 1 - rank])
        except ValueError as error:
            found["refused"] = str(error), int(norm.num_batches_tracked)
        found["evaluation"] = [norm.eval()(inputs(1)).detach()]  # one process's business, though the other calls too
    except Exception:
        found["error"] = traceback.format_exc()
    torch.save(found, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gloo")
    multiprocessing.start_processes(worker, (str(folder),), nprocs=2, start_method="forkserver")
    both = [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]
    for one in both:
        assert "error" not in one, one["error"]
    return both


@pytest.mark.parametrize("name", PARTS)
@pytest.mark.parametrize("extent", [(), (4,)])
def test_two_processes_are_as_one(found, name, extent):
    sizes = PARTS[name]
    x = inputs(sum(sizes), *extent)
    weights = inputs(sum(sizes) + 100, *extent)[: len(x)]
    y, by_x, by_weight, by_bias, second, *statistics = results(made(), x, weights)
    parts = list(zip(*(one[f"{name} {extent}"] for one in found), strict=True))
    torch.testing.assert_close(torch.cat(parts[0]), y)
    torch.testing.assert_close(torch.cat(parts[1]), by_x)
    torch.testing.assert_close(sum(parts[2]), by_weight)
    torch.testing.assert_close(sum(parts[3]), by_bias)
    torch.testing.assert_close(torch.cat(parts[4]), second)
    for expected, values in zip(statistics, parts[5:], strict=True):
        for value in values:
            torch.testing.assert_close(value, expected)


def test_a_group_joins_its_own_processes(found):
    for rank, one in enumerate(found):
        expected = nn.functional.batch_norm(inputs(4 + rank), None, None, training=True)
        torch.testing.assert_close(one["alone"][0], expected)


def test_half_precision_is_joined_in_float32(found):
    x = (inputs(8) + 100).bfloat16().double()
    for one in found:
        _, mean, var = one["half"]
        torch.testing.assert_close(mean.double(), x.mean(dim=0), rtol=1e-6, atol=0)
        torch.testing.assert_close(var.double(), x.var(dim=0), rtol=1e-4, atol=0)
    y = torch.cat([one["half"][0] for one in found]).double()
    torch.testing.assert_close(y, nn.functional.batch_norm(x, None, None, training=True), rtol=0.01, atol=0.01)


def test_one_value_over_all_processes_is_refused_by_each(found):
    for one in found:
        message, batches = one["refused"]
        assert message.startswith("a batch with 1 value per channel has no variance")
        assert batches == 0
        assert one["evaluation"][0].shape == (1, 3)


def test_without_processes_it_does_nothing():
    x = inputs(6)
    torch.testing.assert_close(BatchNorm(3, dtype=torch.float64, synchronize=True)(x), nn.BatchNorm1d(3).double()(x))
