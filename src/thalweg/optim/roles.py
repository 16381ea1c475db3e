"""What each parameter is to its model: a hidden matrix, an embedding, the head, a convolution, or a vector.

Optimizers of matrices are for hidden weights. Embeddings, the output layer and vectors are stepped by AdamW, which
their authors found to do better there.

Source: Jordan et al. 2024 (https://kellerjordan.github.io/posts/muon), "When should you use Muon?".
"""

from collections.abc import Callable, Collection, Mapping
from fnmatch import fnmatchcase
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.overrides import TorchFunctionMode

from thalweg.tensors.draws import own_draws
from thalweg.tensors.private import ConvolutionBase, base_of, tree_flatten

Role = Literal["hidden", "embedding", "head", "convolution", "vector"]
ROLES: tuple[Role, ...] = get_args(Role)
MATRICES: tuple[Role, ...] = ("hidden", "convolution")  # that a rule for matrices steps

# Functions of torch's by which a parameter is looked up in, multiplied by, or convolved with.
_LOOK_UPS = ("embedding", "embedding_bag")
_CONVOLUTIONS = (*tuple(f"conv{kind}{n}d" for kind in ("", "_transpose") for n in (1, 2, 3)), "convolution")
_RECURRENT = ("lstm", "gru", "rnn_tanh", "rnn_relu", "lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell")
_PRODUCTS = (
    *("linear", "matmul", "__matmul__", "__rmatmul__", "mm", "bmm", "addmm", "baddbmm", "mv", "addmv"),
    *("einsum", "tensordot", "bilinear", "multi_head_attention_forward", *_RECURRENT),
)


def parameter_roles(
    model: nn.Module, run: Callable[[nn.Module], Any] | None = None, named: Mapping[str, str] | None = None
) -> dict[str, Role]:
    """Returns the role of each parameter, by its name; one that is tied has the role of its first use in this list:

    ``embedding``
        it is looked up in, or is a table of vectors that are added.
    ``head``
        it is multiplied last of all, or gives an output of the model.
    ``convolution``, ``hidden``
        it is convolved with, or multiplied by, in between.
    ``vector``
        it has at most one dimension, or is used in none of these ways.

    Arguments:
        model: whose parameters these are.
        run: a function of the model that runs it once, by which the uses are known; by default they are guessed from
            the types and the order of the modules.
        named: roles that are given, by name or pattern, such as ``{"blocks.*.weight": "hidden"}``.

    Raises:
        ValueError: a role that there is not, a pattern that no parameter has, or one of a vector as a matrix.

    >>> model = nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 4), nn.Linear(4, 2))
    >>> roles = parameter_roles(model, lambda model: model(torch.tensor([1])))
    >>> roles["0.weight"], roles["1.weight"], roles["1.bias"], roles["2.weight"]
    ('embedding', 'hidden', 'vector', 'head')
    """
    check_roles(named or {})
    params = dict(model.named_parameters())
    for name, p in params.items():
        if is_lazy(p):
            raise ValueError(f"{name} has no shape yet: run a batch through the lazy module first")
    uses = _guessed(model) if run is None else _traced(model, run)
    found: dict[str, Role] = {name: _role(p, uses) for name, p in params.items()}
    return found | _given(params, named or {})


def check_roles(named: Mapping[str, str]) -> None:
    """Raises ValueError for a role that there is not."""
    if not isinstance(named, Mapping):
        raise ValueError(f"roles are {named!r}: give a mapping, such as {{'blocks.*.weight': 'hidden'}}")
    for pattern, role in named.items():
        if role not in ROLES:
            raise ValueError(f"the role of {pattern!r} is {role!r}: use {', '.join(ROLES)}")


def matrix_groups(
    model: nn.Module,
    inputs: Any = None,
    *,
    roles: Mapping[str, str] | None = None,
    convolutions: bool = True,
) -> list[dict[str, Any]]:
    """Returns parameter groups for an optimizer of matrices: hidden matrices, and all else, for its partner AdamW.

    Each group has ``partner``, which says whether AdamW is to step it, and the names of its parameters. An empty group
    is left out; frozen parameters stay, as optimizers ignore those without a gradient.

    Arguments:
        model: whose parameters these are.
        inputs: what the model is called with once, in evaluation mode, so that the uses of its parameters are seen: a
            tensor, or a tuple or mapping of arguments. By default they are guessed from the types and the order of the
            modules, of which the last one with a matrix is taken for the head.
        roles: roles that are given by name or pattern, such as ``{"blocks.*.weight": "hidden"}``.
        convolutions: whether convolutions count as matrices, of their outputs by everything else.

    Raises:
        ValueError: roles that cannot be; see :func:`parameter_roles`.

    >>> from thalweg.optim import Muon
    >>> model = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2))
    >>> groups = matrix_groups(model, torch.ones(1, 3))
    >>> [(group["param_names"], group["partner"]) for group in groups]
    [(['0.weight'], False), (['0.bias', '2.weight', '2.bias'], True)]
    >>> optimizer = Muon(groups, lr=0.02, adamw_lr=3e-3)
    """
    run = None if inputs is None else lambda model: _called(model, inputs)
    found = parameter_roles(model, run, roles)
    kinds = MATRICES if convolutions else ("hidden",)
    params = dict(model.named_parameters())
    groups = []
    for partner in (False, True):
        names = [name for name in params if (found[name] not in kinds) == partner]
        if names:
            groups.append({"params": [params[name] for name in names], "param_names": names, "partner": partner})
    return groups


def _called(model: nn.Module, inputs: Any) -> None:
    modes = {module: module.training for module in model.modules()}
    try:
        model.eval()
        with own_draws(0), torch.enable_grad():  # without gradients torch's transformers run as one kernel
            if isinstance(inputs, Mapping):
                model(**inputs)
            else:
                model(*inputs) if isinstance(inputs, tuple) else model(inputs)
    finally:
        for module, mode in modes.items():
            module.training = mode


class _Uses:
    """Which parameters are used how, by their ids; ``seen`` says whether all uses are known."""

    def __init__(self, seen: bool) -> None:
        self.seen = seen
        self.tables: set[int] = set()
        self.heads: set[int] = set()
        self.convolutions: set[int] = set()
        self.products: set[int] = set()


def _role(p: Tensor, uses: _Uses) -> Role:
    if p.dim() < 2:
        return "vector"
    if id(p) in uses.tables:
        return "embedding"
    if id(p) in uses.heads:
        return "head"
    if id(p) in uses.convolutions:
        return "convolution"
    if p.dim() > 2:
        return "vector"
    return "hidden" if id(p) in uses.products or not uses.seen else "embedding"


def _given(params: Mapping[str, Tensor], named: Mapping[str, str]) -> dict[str, Role]:
    found: dict[str, Role] = {}
    for pattern, role in named.items():
        names = [name for name in params if fnmatchcase(name, pattern)]
        if not names:
            raise ValueError(f"no parameter is called {pattern!r}, which roles names: there are {', '.join(params)}")
        for name in names:
            if role in MATRICES and params[name].dim() < 2:
                raise ValueError(
                    f"roles name {name} as {role}, and it is a vector of shape {tuple(params[name].shape)}"
                )
            found[name] = role  # type: ignore[assignment]
    return found


def _guessed(model: nn.Module) -> _Uses:
    """Returns uses by the types of the modules; the last one with a matrix is the head."""
    uses, last = _Uses(seen=False), None
    for module in model.modules():
        own = [p for p in module.parameters(recurse=False) if p.dim() > 1]
        ids = {id(p) for p in own}
        if isinstance(module, (nn.Embedding, nn.EmbeddingBag)):
            uses.tables |= ids
        elif isinstance(module, ConvolutionBase):
            uses.convolutions |= ids
        if own and not ids <= uses.tables:
            last = ids
    uses.heads = last or set()
    return uses


def _traced(model: nn.Module, run: Callable[[nn.Module], Any]) -> _Uses:
    """Returns uses as they are seen in one run."""
    recorder, outputs = _Recorder({id(p) for p in model.parameters()}), list[Any]()
    handle = model.register_forward_hook(lambda module, given, output: outputs.append(output))
    try:
        with recorder:
            run(model)
    finally:
        handle.remove()
    uses, shown = _guessed(model), {id(t) for t in tree_flatten(outputs)[0] if isinstance(t, Tensor)}
    uses.seen, uses.heads = True, set()
    for name, ids, result in recorder.calls:
        if name in _LOOK_UPS:
            uses.tables |= ids
        else:
            (uses.convolutions if name in _CONVOLUTIONS else uses.products).update(ids)
            if id(result) in shown:
                uses.heads |= ids
    products = [ids for name, ids, _ in recorder.calls if name not in _LOOK_UPS]
    uses.heads |= products[-1] if products else set()
    return uses


class _Recorder(TorchFunctionMode):
    """Notes the products, convolutions and look-ups that parameters are used in, in their order."""

    def __init__(self, params: Collection[int]) -> None:
        super().__init__()
        self.params = params
        self.calls: list[tuple[str, set[int], Any]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs a function of torch's, and notes it where it is one of those."""
        result = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "")
        if name in _LOOK_UPS or name in _PRODUCTS or name in _CONVOLUTIONS:
            given = [t for t in tree_flatten((args, kwargs or {}))[0] if isinstance(t, Tensor)]
            owners = [t if id(t) in self.params else base_of(t) for t in given]  # W.T is a view of W
            ids = {id(t) for t in owners if id(t) in self.params and t.dim() > 1}
            if ids:
                self.calls.append((name, ids, result))
        return result
