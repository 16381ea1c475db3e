"""How much memory there is, and how much a lane takes."""

import os

import torch

from thalweg.compare.execution.context import TaskContext
from thalweg.compare.task.examples import CHUNK
from thalweg.compare.task.nested import leaves


def free_memory(device: torch.device) -> int:
    """Returns the bytes that are free on the device."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        with open("/proc/meminfo") as lines:
            return 1024 * int(next(line for line in lines if line.startswith("MemAvailable")).split()[1])
    except (OSError, StopIteration):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def lane_bytes(context: TaskContext) -> int:
    """Returns the bytes that one lane takes: parameters, gradient, state, activations kept for the backward pass."""
    kept = 0

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal kept
        kept += tensor.numel() * tensor.element_size()
        return tensor

    rows = context.parts(context.batches(0, 0, 1)[0])[0]
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        context.task.loss_and_output(context.fresh_model("default", 0), context.data.train.batch(rows))
    evaluated = sum(tensor.numel() for tensor in leaves(context.data.valid.head(CHUNK))) * 4
    return 4 * context.layout.size * 8 + 2 * kept + evaluated
