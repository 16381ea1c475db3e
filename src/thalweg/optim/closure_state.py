"""What a closure optimizer says of a step and keeps for the next; its vectors are divided among the parameters.
Within the optimizer they are one vector over all parameters. In a state dict each parameter has its share, in its
shape and distributed as it is, so that checkpoints over processes can be read by other numbers of them.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from thalweg.second_order import Limits, Scale
from thalweg.second_order.approach import Approach
from thalweg.second_order.progress import MESSAGES, Ending
from thalweg.tensors.form import form, is_allocated
from thalweg.tensors.vector import gathered, local, spread

State = dict[str, Any]


class StepReport(NamedTuple):
    """What a step came to.

    Attributes:
        ending: why it ended, in a word; ``message`` says it in a sentence.
        iterations: of the method, within the step.
        evaluations: of the closure.
        products: with the Hessian or the Gauss–Newton matrix.
        loss: the closure's, at the parameters that the step leaves.
        gradient_norm: ‖∇f‖∞ there, weight decay included.
    """

    ending: Ending
    iterations: int
    evaluations: int
    products: int
    loss: float
    gradient_norm: float

    @property
    def message(self) -> str:
        """Why the step ended."""
        return MESSAGES[self.ending]


def blank() -> dict[str, Tensor]:
    """Returns what is kept beside the method's own state, before the first step; NaN is what is not known yet."""
    nan = torch.tensor(math.nan, dtype=torch.float64)
    norms = {name: nan.clone() for name in ("first_norm", "last_norm", "factor")}
    counts = {name: torch.tensor(0) for name in ("func_evals", "n_iter")}
    return {**counts, "approach": nan.repeat(6), "last_step": nan.repeat(3), **norms}


def limits_of(group: Mapping[str, Any], state: dict[str, Tensor], spent: int, still: bool, share: float) -> Limits:
    """Returns when a step ends; no iteration where it is to stand still."""
    first, most, cap = float(state["first_norm"]), group["max_iter"], group["max_eval"]
    cap = max(25, int(share * most)) if cap is None else cap
    gradient, change = max(0.0, group["tolerance_grad"]), max(0.0, group["tolerance_change"])
    approach = None
    if not math.isnan(first):
        approach = Approach()
        approach.load(state["approach"])
    return Limits(gradient, 0 if still else most, cap + spent, change, None if approach is None else first, approach)


def scale_of(state: dict[str, Tensor]) -> Scale:
    """Returns what is known of the last step."""
    scale, (step, slope, decrease) = Scale(), state["last_step"].tolist()
    if not math.isnan(step):
        scale.last = step, slope, decrease
    return scale


def divided(own: Mapping[str, Any], vectors: Sequence[str], params: Sequence[Tensor]) -> dict[int, State]:
    """Returns the states by parameters' numbers.

    Arguments:
        own: the whole state; ``members`` says which parameters the vectors are of.
        vectors: names of the entries that are vectors, or rows of such.
        params: all parameters.

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
        raise ValueError(f"{what} is {form(share)}, the parameter {form(param)}: load the state of this model")
