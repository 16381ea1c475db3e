"""L-BFGS and conjugate gradients over shards and copies: the trajectory of one process, and the same on all ranks."""

import math
from functools import cache

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
from thalweg import optim
from thalweg.averaging import Average, Polyak
from thalweg.second_order import BETAS, NotAnObjective

pytestmark = pytest.mark.slow

MAKE = {
    "LBFGS": optim.LBFGS,
    "LBFGS of few pairs": lambda p, **o: optim.LBFGS(p, history_size=3, **o),
    "LBFGS hager_zhang": lambda p, **o: optim.LBFGS(p, line_search_fn="hager_zhang", **o),
    "LBFGS backtracking, damped": lambda p, **o: optim.LBFGS(p, line_search_fn="backtracking", damping=0.3, **o),
    "LBFGS without a search": lambda p, **o: optim.LBFGS(p, line_search_fn=None, lr=0.1, **o),
    **{
        f"ConjugateGradient {beta}": lambda p, beta=beta, **o: optim.ConjugateGradient(p, beta=beta, **o)
        for beta in BETAS
    },
}
CHECKS = Checks()


def some():
    """Yields the optimizers, of which more processes try one of each kind."""
    yield from list(MAKE.values())[:: 1 if distributed.get_world_size() == 2 else 5]


@cache
def alone(make):
    """Returns where one process comes."""
    return run(net(), make, batch())


def run(model, make, x, steps=2, **options):
    optimizer = make(model.parameters(), max_iter=6, weight_decay=0.01, **options)
    reports = []
    for _ in range(steps):
        optimizer.step(lambda: loss_of(model, x))
        reports.append(optimizer.report)
    return whole(model.parameters()), reports


def close(one, two):
    """Says that parameters and reports are those of one process, to rounding."""
    torch.testing.assert_close(one[0], two[0], rtol=1e-8, atol=1e-9)
    for a, b in zip(one[1], two[1], strict=True):
        assert a[:4] == b[:4]
        assert a[4:] == pytest.approx(b[4:], rel=1e-8)


@CHECKS.among(2, 4)
def shards_go_the_way_of_the_whole(folder):
    for make in some():
        together = run(sharded(net()), make, batch(rank=distributed.get_rank()))
        close(together, alone(make))
        same_everywhere(together[1])


@CHECKS.among(2)
def copies_go_the_way_of_the_whole(folder):
    rank = distributed.get_rank()
    for make in some():
        model = nn.parallel.DistributedDataParallel(net())
        together = run(model, make, batch(rank=rank), process_group=model.process_group)
        close(together, alone(make))
        same_everywhere((together[1], [p.tolist() for p in together[0]]))


@CHECKS.among(4)
def copies_of_shards_go_the_way_of_the_whole(folder):
    from torch.distributed.device_mesh import init_device_mesh

    size = distributed.get_world_size()
    mesh = init_device_mesh("cpu", (2, size // 2), mesh_dim_names=("copies", "shards"))
    for make in (MAKE["LBFGS"], optim.ConjugateGradient):
        close(run(sharded(net(), mesh), make, batch(rank=distributed.get_rank())), alone(make))


@CHECKS.among(4)
def ranks_without_any_share_go_along(folder):
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.p = nn.Parameter(torch.tensor([-1.2, 1.0], dtype=torch.float64))

        def forward(self):
            return (self.p[1] - self.p[0] ** 2) ** 2 + (1 - self.p[0]) ** 2

    from torch.distributed.fsdp import fully_shard

    for make in (optim.LBFGS, optim.ConjugateGradient):
        model = fully_shard(Two())
        optimizer = make(model.parameters(), max_iter=200, tolerance_grad=1e-9)
        optimizer.step(model)
        torch.testing.assert_close(whole(model.parameters())[0], torch.ones(2, dtype=torch.float64))


@CHECKS.among(2)
def groups_have_their_own_weight_decay_and_closures_may_call_backward(folder):
    def trained(model, x):
        params = list(model.parameters())
        optimizer = optim.LBFGS([{"params": params[:2], "weight_decay": 0.3}, {"params": params[2:]}])

        def closure():
            optimizer.zero_grad()
            loss = loss_of(model, x)
            loss.backward()
            return loss

        optimizer.step(closure)
        return whole(params), [optimizer.report]

    close(trained(sharded(net()), batch(rank=distributed.get_rank())), trained(net(), batch()))


@CHECKS.among(2)
def pairs_may_come_from_another_closure(folder):
    def trained(model, x, rows):
        optimizer = optim.LBFGS(model.parameters())
        optimizer.step(lambda: loss_of(model, x), pair=lambda: loss_of(model, x[:rows]))
        return whole(model.parameters()), [optimizer.report]

    size = distributed.get_world_size()
    close(
        trained(sharded(net()), batch(rank=distributed.get_rank()), 1),
        trained(net(), batch(), size),
    )


@CHECKS.among(2)
def single_precision_and_a_narrow_history_end_where_one_process_does(folder):
    def trained(model, x):
        optimizer = optim.LBFGS(
            model.parameters(),
            max_iter=200,
            weight_decay=0.5,
            tolerance_grad=1e-2,
            tolerance_change=0,
            history_dtype=torch.bfloat16,
        )
        optimizer.step(lambda: loss_of(model, x))
        same_everywhere(optimizer.report)
        return optimizer.report.loss

    one = trained(net(torch.float32), batch())
    assert trained(sharded(net(torch.float32)), batch(rank=distributed.get_rank())) == pytest.approx(one, rel=1e-2)


@CHECKS.among(2, 4)
def a_loss_that_is_not_finite_on_one_rank_is_refused_by_all(folder):
    for wrap in (sharded, nn.parallel.DistributedDataParallel):
        model = wrap(net())
        x, before = batch(rank=distributed.get_rank()), whole(model.parameters())
        if distributed.get_rank() == 1:
            x[0] = math.nan
        group = getattr(model, "process_group", None)
        with pytest.raises(NotAnObjective, match="the loss is nan where the step begins"):
            optim.LBFGS(model.parameters(), process_group=group).step(lambda: loss_of(model, x))  # noqa: B023
        assert all(torch.equal(a, b) for a, b in zip(whole(model.parameters()), before, strict=True))


@CHECKS.among(2)
def ends_of_steps_are_averaged(folder):
    def trained(model, x):
        average = Average(model, Polyak())
        optimizer = optim.LBFGS(model.parameters(), max_iter=2, average=average)
        for _ in range(3):
            optimizer.step(lambda: loss_of(model, x))
        return whole(average.means.values())

    one, two = trained(sharded(net()), batch(rank=distributed.get_rank())), trained(net(), batch())
    torch.testing.assert_close(one, two, rtol=1e-8, atol=1e-9)


@CHECKS.among(2)
def an_iteration_sends_a_few_hundred_bytes(folder):
    from thalweg.second_order import ranks

    sent, plain = [], (ranks.all_reduce, ranks.all_gather)
    ranks.all_reduce = lambda t, group: (sent.append(t.nbytes), plain[0](t, group=group))
    ranks.all_gather = lambda rows, own, group: (sent.append(own.nbytes * len(rows)), plain[1](rows, own, group=group))
    try:
        for make, most in ((optim.LBFGS, 8 * (2 * 15 + 6)), (optim.ConjugateGradient, 8 * 6)):
            model, x = sharded(net()), batch(rank=distributed.get_rank())
            optimizer = make(model.parameters(), tolerance_grad=0, tolerance_change=0)
            sent.clear()
            optimizer.step(lambda: loss_of(model, x))  # noqa: B023
            evaluation = 8 * 5 * distributed.get_world_size()  # and as much for each line
            n = optimizer.report
            assert len(sent) <= n.evaluations + 2 * n.iterations + 3
            assert sum(sent) <= (n.evaluations + 2) * evaluation + n.iterations * (most + evaluation)
    finally:
        ranks.all_reduce, ranks.all_gather = plain


@CHECKS.among(2)
def what_cannot_be_stepped_together_is_refused(folder):
    for make in (optim.BFGS, optim.Newton, optim.TruncatedNewton):
        with pytest.raises(ValueError, match=r"cannot step sharded parameters \(DTensor\).*: use LBFGS"):
            make(sharded(net()).parameters())
    plain = nn.Parameter(torch.ones(2))
    with pytest.raises(ValueError, match="some parameters are sharded differently, or not at all"):
        optim.LBFGS([*sharded(net()).parameters(), plain])
    with pytest.raises(ValueError, match="bring their own process group: pass none"):
        optim.LBFGS(sharded(net()).parameters(), process_group=distributed.group.WORLD)


@CHECKS.among(2, 4)
def checkpoints_are_taken_up_by_as_many_ranks_and_by_more(folder):
    """Two ranks write; both they and, when their turn comes, four go on."""

    def go_on(model, optimizer, steps, rank=None):
        for step in steps:
            x = batch(step, rank)
            optimizer.step(lambda: loss_of(model, x))  # noqa: B023
        return whole(model.parameters())

    rank = distributed.get_rank()
    for name in ("LBFGS of few pairs", "ConjugateGradient polak_ribiere_plus"):
        make, one, path = MAKE[name], net(), folder / name
        expected = go_on(one, make(one.parameters(), max_iter=3), range(4))
        if distributed.get_world_size() == 2:
            model = sharded(net())
            optimizer = make(model.parameters(), max_iter=3)
            go_on(model, optimizer, range(2), rank)
            write(model, optimizer, path)
        model = sharded(net().apply(lambda m: nn.init.ones_(m.weight) if hasattr(m, "weight") else None))
        optimizer = make(model.parameters(), max_iter=3)
        take_up(model, optimizer, path)
        after = go_on(model, optimizer, range(2, 4), rank)
        torch.testing.assert_close(after, expected, rtol=1e-8, atol=1e-9)
        assert optimizer.state_dict()["state"][0]["n_iter"] == 12


@CHECKS.among(2)
def copies_write_checkpoints_too(folder):
    size, x = distributed.get_world_size(), batch()
    for make in (optim.LBFGS, optim.BFGS):
        model, other = (nn.parallel.DistributedDataParallel(net()) for _ in range(2))
        one, two = (make(m.parameters(), max_iter=3) for m in (model, other))
        one.step(lambda: loss_of(model, x))  # noqa: B023
        write(model, one, folder / f"{make.__name__} of {size}")
        take_up(other, two, folder / f"{make.__name__} of {size}")
        one.step(lambda: loss_of(model, x)), two.step(lambda: loss_of(other, x))  # noqa: B023
        torch.testing.assert_close(whole(other.parameters()), whole(model.parameters()), rtol=0, atol=0)


def test_ranks_go_together(tmp_path):
    for size in (2, 4):
        make_checks(__name__, size, tmp_path)
