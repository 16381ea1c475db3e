"""Which module ends each residual branch, and how it starts: at zero, or smaller the more branches there are.

    y = x + F(x)
    zero    the last normalization's or layer's scale is 0: F(x) = 0 but for a bias, the block starts as the identity
    depth   that scale times 1/√L, with L branches in all: their sum stays of one size

Source: Deep Learning, §8.7.5; Goyal et al. 2017 (zero scale), Radford et al. 2019 (1/√L).
"""

from typing import Literal

import torch
from torch import fx, nn

from thalweg.initialization.following import LOOKED_THROUGH, LOOKED_THROUGH_MODULES, function_name
from thalweg.initialization.gains import FUNCTIONS, UNKNOWN, name_of
from thalweg.tensors.graph import NotTraceable, trace
from thalweg.tensors.known import obstacle
from thalweg.tensors.layers import NORMS, WEIGHTED

Residual = Literal["zero", "depth"]


def residual_ends(model: nn.Module) -> list[str]:
    """Returns the names of the modules that end the residual branches: normalizations or layers.

    Raises:
        NotTraceable: the graph of the model cannot be read.

    >>> class Block(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3)
    ...     def forward(self, x):
    ...         return x + self.b(torch.relu(self.a(x)))
    >>> residual_ends(Block())
    ['b']
    """
    modules = dict(model.named_modules())
    ends: dict[str, None] = {}
    for name, block in modules.items():  # one piece to the tracer
        if isinstance(block, (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)):
            inner = ["self_attn.out_proj", "linear2"]
            if isinstance(block, nn.TransformerDecoderLayer):
                inner.insert(1, "multihead_attn.out_proj")
            ends |= dict.fromkeys(f"{name}.{i}".lstrip(".") for i in inner)
    if type(model) in (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer):
        return list(ends)
    for node in trace(model, "omit residual=").nodes:
        summed = node.op in ("call_function", "call_method") and function_name(node.target) in ("add", "iadd")
        terms = [a for a in node.args if isinstance(a, fx.Node)]
        if summed and len(terms) == 2:
            # Where both are chains of modules the branch is the longer one.
            for branch, skip in sorted((terms, terms[::-1]), key=lambda pair: -len(_ancestors(pair[0]))):
                if skip in _ancestors(branch) or _source(skip) in _ancestors(branch) - {branch}:
                    end = _end(branch, modules)
                    if end is not None:
                        ends[end] = None
                    break
    return list(ends)


def check_residual(model: nn.Module, how: Residual) -> list[str]:
    """Returns the ends of the residual branches.

    Raises:
        ValueError: the graph cannot be read, there is no residual branch, or an unknown way.
    """
    if how not in ("zero", "depth"):
        raise ValueError(f"unknown residual start {how!r}: choose zero or depth")
    try:
        ends = residual_ends(model)
    except NotTraceable as error:
        raise ValueError(f"residual branches cannot be found: {error}") from error
    if not ends:
        raise ValueError("the model has no residual branch x + F(x): omit residual=")
    for end in ends:
        module = model.get_submodule(end)
        if why := obstacle(module, (*NORMS, *WEIGHTED)):
            raise ValueError(f"a residual branch ends in {end!r}, whose start is not known: {why}; omit residual=")
    return ends


@torch.no_grad()
def start_residual(model: nn.Module, how: Residual) -> dict[str, str]:
    """Scales the ends of all residual branches in place; returns what was done, by the parameter's name."""
    ends, modules, done = check_residual(model, how), dict(model.named_modules()), dict[str, str]()
    for end in ends:
        weight: torch.Tensor = modules[end].weight
        if how == "zero":
            weight.zero_()
            done[f"{end}.weight"] = "0, the end of a residual branch"
        elif isinstance(modules[end], NORMS):
            weight.fill_(len(ends) ** -0.5)
            done[f"{end}.weight"] = f"1/√{len(ends)}"
        else:
            weight.mul_(len(ends) ** -0.5)
            done[f"{end}.weight"] = f"times 1/√{len(ends)}"
    return done


def _ancestors(node: fx.Node) -> set[fx.Node]:
    found, waiting = set[fx.Node](), [node]
    while waiting:
        one = waiting.pop()
        if one not in found:
            found.add(one)
            waiting += one.all_input_nodes
    return found


def _source(node: fx.Node) -> fx.Node:
    """Returns what a skip connection starts from: a projection on it is looked through."""
    while node.op == "call_module" and len(node.all_input_nodes) == 1:
        node = node.all_input_nodes[0]
    return node


def _end(node: fx.Node, modules: dict[str, nn.Module]) -> str | None:
    """Returns the last module with a scale of its own on a branch."""
    while True:
        if node.op == "call_module":
            module = modules[str(node.target)]
            if isinstance(module, (*NORMS, *WEIGHTED)) and module.weight is not None:
                return str(node.target)
            if not (isinstance(module, LOOKED_THROUGH_MODULES) or name_of(module) not in (None, UNKNOWN)):
                return None
        elif node.op not in ("call_function", "call_method") or (
            function_name(node.target) not in LOOKED_THROUGH and function_name(node.target) not in FUNCTIONS
        ):
            return None
        if not node.all_input_nodes:
            return None
        node = node.all_input_nodes[0]
