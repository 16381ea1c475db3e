"""Where the processes of a launch meet: a store of this attempt alone.

torchrun's own store outlives the processes that it starts anew, and gives them the addresses of those that were lost
(https://github.com/pytorch/pytorch/issues/135712). Counts of restarts would not tell attempts apart, since each machine
counts its own. So the first process opens a store on a free port and says so in torchrun's; what an attempt before had
said there leads nowhere, for torchrun ends all processes before it starts any anew.
"""

import os
import secrets
import time
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.distributed.distributed_c10d import Store

PLACE, TOKEN = "thalweg/place", "thalweg/token"
WAIT, LOOK = 300.0, timedelta(seconds=2)  # at most, for the first process; for one store


def meeting_place(rank: int) -> "Store | None":
    """Returns the store of this attempt; None where torchrun's will do, or something else started the processes.

    Raises:
        ValueError: the first process does not come.
    """
    from torch.distributed import DistError, TCPStore  # type: ignore[attr-defined]

    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return None
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    common = TCPStore(host, port, is_master=False)
    if rank == 0:
        token = secrets.token_hex(8)
        own = TCPStore(host, 0, is_master=True, wait_for_workers=False)
        own.set(TOKEN, token)
        common.set(PLACE, f"{own.port} {token}")
        return own
    began = time.monotonic()
    while time.monotonic() - began < WAIT:
        place, token = common.get(PLACE).decode().split()
        try:
            found = TCPStore(host, int(place), is_master=False, wait_for_workers=False, timeout=LOOK)
            if found.get(TOKEN).decode() == token:
                found.set_timeout(timedelta(minutes=30))
                return found
        except DistError:
            pass  # an attempt before had it
        time.sleep(0.05)
    raise ValueError("the first process did not open a store: look at what it says, and whether a firewall is between")
