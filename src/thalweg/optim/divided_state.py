"""The vectors of a closure optimizer in a state dict: divided among the parameters, and joined again.

Within the optimizer they are one vector over all parameters. In a state dict each parameter has its share, in its
shape and distributed as it is, so that checkpoints over processes can be read by other numbers of them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from thalweg.tensors.form import form, is_allocated
from thalweg.tensors.vector import gathered, local, spread

State = dict[str, Any]


def divided(own: Mapping[str, Any], vectors: Sequence[str], params: Sequence[Tensor]) -> dict[int, State]:
    """Returns the states by parameters' numbers.

    Arguments:
        own: the whole state; ``members`` says which parameters the vectors are of.
        vectors: names of the entries that are vectors, or rows of such.
        params: all parameters.

    >>> import torch
    >>> own = {"members": torch.tensor([0, 1]), "n_iter": 3, "pairs": torch.arange(3.0)}
    >>> states = divided(own, ["pairs"], [torch.zeros(2), torch.zeros(1)])
    >>> states[0]["pairs"].tolist(), states[1]["pairs"].tolist()
    ([0.0, 1.0], [2.0])
    >>> joined([states[0], states[1]], ["pairs"], [torch.zeros(2), torch.zeros(1)])["pairs"].tolist()
    [0.0, 1.0, 2.0]
    """
    members = own["members"].tolist()
    state: dict[int, State] = {i: {"n_iter": own["n_iter"]} for i in members}
    state[0] = {name: value for name, value in own.items() if name not in vectors}
    for name in vectors:
        for i, part in zip(members, spread(own[name], [params[i] for i in members]), strict=True):
            state[i][name] = part
    return state


def joined(states: Sequence[Mapping[str, Any]], vectors: Sequence[str], params: Sequence[Tensor]) -> State:
    """Returns the whole state from the parameters' own, in their order; tensors are copies, of the types they have.

    Raises:
        ValueError: a share is not of its parameter's shape, with its memory behind it.
    """
    if not states or not states[0]:
        return {}
    device = local(params[0]).device
    own: State = {
        name: value.to(device, copy=True) if isinstance(value, Tensor) else value
        for name, value in states[0].items()
        if name not in vectors
    }
    members = own["members"].tolist() if "members" in own else []
    for name in vectors:
        if members and all(name in states[i] for i in members):
            for i in members:
                _check_share(states[i][name], params[i], f"parameter {i}'s share of {name!r}")
            own[name] = gathered([states[i][name] for i in members], [params[i] for i in members]).to(device)
    return own


def _check_share(share: Any, param: Tensor, what: str) -> None:
    wanted = (*param.shape, 2) if param.is_complex() else tuple(param.shape)
    if not isinstance(share, Tensor) or share.shape[share.dim() - len(wanted) :] != wanted or not is_allocated(share):
        raise ValueError(f"{what} is {form(share)}, the parameter {form(param)}: load this model's own state")
