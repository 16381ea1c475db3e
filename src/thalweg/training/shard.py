"""A model sharded over processes by FSDP2: in units, of which only the one that computes is whole."""

from collections import Counter
from collections.abc import Callable

import torch
from torch import nn
from torch.distributed import ProcessGroup
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard

from thalweg.tensors.private import own_parameters
from thalweg.training.sharded_state import is_sharded

UNIT = 65_536  # parameters from which a layer is worth messages of its own


def divide(model: nn.Module, group: ProcessGroup, device: torch.device, least: int = UNIT) -> nn.Module:
    """Returns the model, its parameters divided among the group's processes in place.

    Each entry of a sequence or list of layers in the model that has so many parameters is a unit, and all else is one;
    all is one where layers share parameters.

    Arguments:
        model: the same in all processes.
        group: all of them.
        device: where the model is.
        least: parameters of a unit.

    Source: Zhao et al. 2023 (PyTorch FSDP).
    """
    mesh = DeviceMesh.from_group(group, device.type)
    for unit in _units(model, least):
        fully_shard(unit, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model


def undivided(model: nn.Module, make: Callable[[], nn.Module]) -> nn.Module:
    """Returns the model as it is if it is not sharded; else, in the first process, a new one with its weights.

    Arguments:
        model: in all processes.
        make: makes one like it.

    >>> model = nn.Linear(1, 1)
    >>> undivided(model, lambda: nn.Linear(1, 1)) is model
    True
    """
    if not is_sharded(model):
        return model
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    weights, bare = get_model_state_dict(model, options=options), make()
    if weights:
        bare.load_state_dict(weights)
    return bare


def _units(model: nn.Module, least: int) -> list[nn.Module]:
    """Returns the entries of the outermost sequences that are large enough.

    >>> _units(nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Sequential(nn.Linear(2, 1))), least=6)
    [Linear(in_features=2, out_features=2, bias=True)]
    """
    if isinstance(model, (nn.Sequential, nn.ModuleList)):
        units = [child for child in model if sum(p.numel() for p in child.parameters()) >= least]
        units = [child for child in units if not isinstance(child, nn.ModuleList)]  # which has no forward
    else:
        units = [unit for child in model.children() for unit in _units(child, least)]
    users = Counter(id(p) for module in model.modules() for p in own_parameters(module).values() if p is not None)
    return units if max(users.values(), default=0) <= 1 else []
