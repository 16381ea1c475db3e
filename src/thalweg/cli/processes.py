"""``torchrun -m thalweg …``: the processes of one launch join and agree before they begin, and the main one prints."""

import os
import secrets
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from thalweg.compare.user_errors import brief

if TYPE_CHECKING:
    import torch
    from torch import nn
    from torch.distributed import ProcessGroup
    from torch.distributed.distributed_c10d import Store

    from thalweg.stages import Plan

PLACE, TOKEN = "thalweg/place", "thalweg/token"
WAIT, LOOK = 300.0, timedelta(seconds=2)  # at most, for the first process; for one store


def meeting_place(rank: int) -> "Store | None":
    """Returns the store of this attempt; None where torchrun's will do, or something else started the processes.

    torchrun's own store outlives the processes that it starts anew, and gives them the addresses of those that were
    lost (https://github.com/pytorch/pytorch/issues/135712). Counts of restarts would not tell attempts apart, since
    each machine counts its own. So the first process opens a store on a free port and says so in torchrun's; what an
    attempt before had said there leads nowhere, for torchrun ends all processes before it starts any anew.

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


def is_main_process() -> bool:
    """Returns whether this process prints and writes: the only one, or the first of a launch.

    >>> is_main_process()
    True
    """
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def joined(resume: bool) -> "Iterator[ProcessGroup | None]":
    """Gives the group of all processes of the launch; None where this is the only one.

    Raises:
        ValueError: lost processes are to be started anew, and what they did is not to be resumed.
    """
    if int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0")) and not resume:
        raise ValueError(
            "torchrun restarts all processes if one is lost, and without --resume they would start over: add --resume"
        )
    if "RANK" not in os.environ or int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield None
        return
    import torch
    from torch import distributed

    if not is_main_process():
        warnings.simplefilter("ignore")
    backend, rank = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", int(os.environ["RANK"])
    if (store := meeting_place(rank)) is None:
        distributed.init_process_group(backend)
    else:
        distributed.init_process_group(backend, store=store, rank=rank, world_size=int(os.environ["WORLD_SIZE"]))
    try:
        yield distributed.group.WORLD
    finally:
        distributed.destroy_process_group()


@contextmanager
def agreeing(group: "ProcessGroup | None") -> Iterator[None]:
    """Runs its body in all processes; where it raises ValueError in any, all raise the first one's."""
    if group is None:
        yield
        return
    from torch import distributed

    own: str | None = None
    try:
        yield
    except ValueError as error:
        own = str(error)
    messages: list[str | None] = [None] * group.size()
    distributed.all_gather_object(messages, own, group=group)
    for rank, message in enumerate(messages):
        if message is not None:
            raise ValueError(f"process {rank} of {len(messages)}: {message}" if rank else message)


def synchronize(model: "nn.Module", group: "ProcessGroup | None") -> None:
    """Gives all processes the first one's weights, and has batch normalizations take all their batches as one."""
    from torch import distributed

    from thalweg.normalization import BatchNorm, convert_batch_norm

    if group is not None:
        for tensor in (*model.parameters(), *model.buffers()):
            distributed.broadcast(tensor.detach(), group=group, group_src=0)
        for module in convert_batch_norm(model).modules():
            if isinstance(module, BatchNorm):
                module.synchronize = True


def check(plan: "Plan", group: "ProcessGroup | None", shard: bool) -> None:
    """Raises ValueError where the processes cannot train the plan."""
    if group is None:
        if shard:
            raise ValueError("--shard divides a model among processes: start several with torchrun --nproc-per-node")
        return
    if shard and len(plan.stages) > 1:
        raise ValueError("--shard requires a model that is trained as a whole: omit --shard, or the guidance")
    for stage in plan.stages:
        size = getattr(stage.data, "batch_size", None)
        if isinstance(size, int) and size < group.size():
            raise ValueError(
                f"a batch of {size} cannot be divided among {group.size()} processes: start at most {size}"
            )


def own_device(asked: "torch.device", group: "ProcessGroup | None") -> "torch.device":
    """Returns this process's own of the devices of that kind.

    Raises:
        ValueError: there are fewer of them than processes.
    """
    import torch

    if group is None or asked.type != "cuda":
        return asked
    here, there = int(os.environ.get("LOCAL_WORLD_SIZE", "1")), torch.cuda.device_count()
    if here > there:
        raise ValueError(
            f"{here} processes cannot share {there} GPUs: start {there} with torchrun, or use --device cpu"
        )
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    torch.cuda.set_device(device)
    return device


def was_lost(error: BaseException | None) -> bool:
    """Returns whether the error is that another process of the launch is gone.

    >>> was_lost(RuntimeError("[.../gloo/transport/tcp/pair.cc:553] Connection closed by peer [127.0.0.1]:24726."))
    True
    """
    from torch import distributed

    from thalweg.tensors.error_texts import is_lost_connection

    if not isinstance(error, RuntimeError):
        return False
    return is_lost_connection(brief(error)) or isinstance(error, getattr(distributed, "DistError", ()))
