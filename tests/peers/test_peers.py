"""Some of the optimizers of docs/peers.md, held to their authors' loops over fewer steps; ``make peers`` holds all."""

import pytest

from tests.peers.cases import CASES, Case
from tests.peers.held import hold

SAMPLE = (
    "torch.optim.NAdam",
    "torch.optim.Rprop",
    "schedulefree.AdamWScheduleFree",
    "schedulefree.SGDScheduleFreeClosure",
    "schedulefree.ScheduleFreeWrapper of SGD",
    "prodigyopt.Prodigy",
    "lion_pytorch.Lion",
    "pytorch_optimizer.SAM of SGD",
)


def _named(name: str) -> Case:
    return next(case for case in CASES if case.name == name)


@pytest.mark.parametrize("name", SAMPLE)
def test_an_optimizer_trains_as_in_its_authors_loop_straight_and_cut(name):
    pytest.importorskip(name.partition(".")[0])
    held = hold(_named(name), steps=30)
    assert held.passes, held
