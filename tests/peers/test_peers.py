"""Some of the optimizers of docs/peers.md, held to their authors' loops over fewer steps; ``make peers`` holds all."""

import pytest

from tests.peers.cases import CASES
from tests.peers.held import hold

SAMPLE = (
    "torch.optim.NAdam",
    "torch.optim.Rprop",
    "schedulefree.AdamWScheduleFree",
    "schedulefree.SGDScheduleFreeClosure",
    "schedulefree.ScheduleFreeWrapper of SGD",
    "prodigyopt.Prodigy",
    "lion_pytorch.Lion",
)
CHOSEN = [case for case in CASES if case.name in SAMPLE]  # one of them on two models


@pytest.mark.parametrize("case", CHOSEN, ids=[f"{case.name} {case.note}".strip() for case in CHOSEN])
def test_an_optimizer_trains_as_in_its_authors_loop_straight_and_cut(case):
    pytest.importorskip(case.name.partition(".")[0])
    held = hold(case, steps=30)
    assert held.passes, held
