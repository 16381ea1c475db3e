"""A scheme over a whole model: every layer with the gain of the nonlinearity that follows it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Generator, Tensor, nn

from thalweg.initialization.data_driven import scale_by_data
from thalweg.initialization.fans import fans
from thalweg.initialization.following import following
from thalweg.initialization.gains import gain_of
from thalweg.initialization.gate_biases import gate_biases_
from thalweg.initialization.orthogonal import orthogonal_
from thalweg.initialization.residual import Residual, check_residual, start_residual
from thalweg.initialization.schemes import Scheme, scheme_of
from thalweg.initialization.table import InitializationTable, Row
from thalweg.tensors.graph import NotTraceable
from thalweg.tensors.layers import NORMS, WEIGHTED, unit_blocks

RECURRENT = (nn.RNNBase, nn.RNNCellBase)
GATED = (nn.LSTM, nn.LSTMCell, nn.GRU, nn.GRUCell)
UNKNOWN = "unknown"


@torch.no_grad()
def initialize(
    model: nn.Module,
    scheme: str = "he",
    generator: Generator | None = None,
    *,
    nonlinearity: str | Mapping[str, str] | None = None,
    batch: Any = None,
    rectifier_bias: float = 0.0,
    residual: Residual | None = None,
) -> InitializationTable:
    """Draws a model's parameters anew in place, and says in a table what was done to each.

    Dense layers, convolutions (also transposed and grouped) and attention's projections are drawn by the scheme, with
    the gain of the nonlinearity that follows where the scheme heeds it; their biases are 0. Recurrent modules get the
    scheme for each gate's inputs, orthogonal recurrent weights gate by gate, biases 0 and 1 for the gate that keeps
    the memory. Normalizations start at 1 and 0 with fresh statistics; embeddings and modules that are not known draw by
    their own ``reset_parameters``. A parameter that is shared is drawn once, by the module that comes first; one that
    is not trained, or that nobody knows, stays as it is.

    Arguments:
        model: any module, on any device; one on the meta device needs ``model.to_empty(device=...)`` first.
        scheme: a name of :data:`SCHEMES`; under ``"default"`` every module draws by its own ``reset_parameters``.
        generator: source of every draw, on the CPU, so that a seed gives the same weights on every device; by default
            one seeded from torch's global generator.
        nonlinearity: what follows the layers, a name for all or a mapping from layers' names; by default it is found.
        batch: an input of the model, or a tuple of its inputs, to find it by where the graph cannot be read; layers
            whose nonlinearity is not found have gain 1, and the table says "unknown". ``"lsuv"`` and
            ``"first-small"`` scale by it.
        rectifier_bias: bias of layers that feed a rectifier; 0.1 keeps most of them active at the start.
        residual: how the ends of residual branches start: ``"zero"``, so that each block begins as the identity, or
            ``"depth"``, 1/√L of the scheme's size for L branches.

    Returns:
        The :class:`InitializationTable`: distribution, gain, fan-in and fan-out of each parameter.

    Raises:
        ValueError: unknown scheme or nonlinearity; a parameter on the meta device, or one that is no floating-point
            tensor; a layer without inputs or units; a batch that does not fit, or none where a scheme scales by it.
            The model is then as it was.

    >>> net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 2))
    >>> print(initialize(net, "he", torch.Generator().manual_seed(0)))
    parameter  shape  distribution   nonlinearity  gain   fan-in  fan-out
    0.weight   32×8   N(0, 0.5²)     relu          1.414  8       32
    0.bias     32     0
    2.weight   2×32   N(0, 0.177²)   linear        1      32      2
    2.bias     2      0

    Source: Deep Learning, §8.4.
    """
    chosen = scheme_of(scheme)
    _check(model)
    if chosen is not None and chosen.scaled and batch is None:
        raise ValueError(f"{scheme} scales by what a batch shows: pass batch=, an input of the model")
    if residual is not None:
        check_residual(model, residual)
    if generator is None:
        generator = torch.Generator().manual_seed(int(torch.randint(2**62, ())))
    saved = [(p, p.clone()) for p in model.parameters()] if chosen is not None and chosen.scaled else []
    found = _nonlinearities(model, nonlinearity, batch) if chosen is not None and chosen.heeds else {}
    rows: dict[str, Row] = {}
    names = {id(p): name for name, p in model.named_parameters()}
    seed = int(torch.randint(2**62, (), generator=generator))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for name, module in model.named_modules():
            own = {id(p): p for p in module.parameters(recurse=False) if names[id(p)] not in rows}
            if not any(p.requires_grad for p in own.values()):
                continue
            for p, row in _drawn(module, found.get(name), chosen, generator, own, rectifier_bias):
                rows[names[id(p)]] = row
    ends = start_residual(model, residual) if residual is not None else {}
    for name, law in ends.items():
        if name in rows:
            before = rows[name]
            rows[name] = replace(before, distribution=f"{before.distribution} {law}" if "times" in law else law)
    if chosen is not None and chosen.scaled:
        for layer, factor in _scaled(model, batch, saved).items():
            name = f"{layer}.weight" if layer else "weight"
            rows[name] = replace(rows[name], distribution=f"{factor:.3g} · {rows[name].distribution}")
    return InitializationTable(
        tuple(
            Row(n, _shape(p), "as it was") if n not in rows else Row(n, _shape(p), *_rest(rows[n]))
            for n, p in model.named_parameters()
        )
    )


def _scaled(model: nn.Module, batch: Any, before: Sequence[tuple[Tensor, Tensor]]) -> dict[str, float]:
    """Scales the layers by the batch and returns their factors; puts parameters back where that fails."""
    try:
        report = scale_by_data(model, batch)
    except ValueError:
        for p, value in before:
            p.copy_(value)
        raise
    return {s.layer: s.factor for s in report.layers if s.factor != 1}


def _drawn(
    module: nn.Module,
    nonlinearity: str | None,
    scheme: Scheme | None,
    generator: Generator,
    own: Mapping[int, Tensor],
    rectifier_bias: float,
) -> Iterator[tuple[Tensor, Row]]:
    """Draws a module's own parameters and yields each with its row, whose name and shape are filled in later."""
    kept = {key: p.detach().clone() for key, p in own.items() if not p.requires_grad}
    if scheme is None or not isinstance(module, (*WEIGHTED, *RECURRENT, nn.MultiheadAttention)):
        reset: Any = getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None)
        if not callable(reset):
            return
        reset()
        law = "1" if isinstance(module, NORMS) else f"{type(module).__name__}'s own"
        for p in own.values():
            yield p, Row("", "", "0" if law == "1" and p is getattr(module, "bias", None) else law)
    elif isinstance(module, WEIGHTED):
        gain = 1.0 if nonlinearity in (None, UNKNOWN) else gain_of(str(nonlinearity))
        if id(module.weight) in own:
            yield module.weight, _draw(unit_blocks(module, module.weight), scheme, generator, gain, nonlinearity)
        if module.bias is not None and id(module.bias) in own:
            start = rectifier_bias if "relu" in str(nonlinearity) else 0.0
            module.bias.fill_(start)
            yield module.bias, Row("", "", f"{start:g}")
    elif isinstance(module, RECURRENT):
        yield from _recurrent(module, scheme, generator, own)
    else:
        for name, p in module.named_parameters(recurse=False):
            if p.dim() == 2:  # queries, keys and values are packed one below the other, or stand alone
                yield p, _draw(list(p.chunk(3 if name == "in_proj_weight" else 1)), scheme, generator, 1.0, None)
            else:
                p.zero_()
                yield p, Row("", "", "0")
    for key, value in kept.items():
        own[key].detach().copy_(value)


def _draw(blocks: list[Tensor], scheme: Scheme, generator: Generator, gain: float, nonlinearity: str | None) -> Row:
    m, n = fans(blocks[0])
    for block in blocks:
        if block.device.type == "cpu" and block.dtype == torch.float32 and block.is_contiguous():
            scheme.draw(block.detach(), generator, gain)
        else:  # drawn on the CPU, the same for every device and layout
            dtype = block.dtype if block.dtype == torch.float64 else torch.float32
            block.copy_(scheme.draw(torch.empty(block.shape, dtype=dtype), generator, gain))
    return Row("", "", scheme.law(m, n, gain), nonlinearity, gain if scheme.heeds else None, m, n)


def _recurrent(
    module: nn.Module, scheme: Scheme, generator: Generator, own: Mapping[int, Tensor]
) -> Iterator[tuple[Tensor, Row]]:
    size = int(module.hidden_size)  # type: ignore[arg-type]
    for name, p in module.named_parameters(recurse=False):
        if id(p) not in own:
            continue
        if name.startswith("weight_ih"):
            yield p, _draw(list(p.split(size)), scheme, generator, 1.0, None)
        elif name.startswith("weight_hh"):
            for block in p.split(size):
                block.copy_(orthogonal_(torch.empty(block.shape), generator))
            yield p, Row("", "", "orthogonal, gate by gate", None, 1.0, p.shape[1], size)
        elif name.startswith("weight"):
            yield p, _draw([p], scheme, generator, 1.0, None)
        else:
            p.zero_()
            keeps = isinstance(module, GATED) and name.startswith("bias_ih")
            yield p, Row("", "", "0, and 1 for the gate that keeps" if keeps else "0")
    if isinstance(module, GATED) and module.bias:
        gate_biases_(module)


def _nonlinearities(model: nn.Module, told: str | Mapping[str, str] | None, batch: Any) -> dict[str, str]:
    layers: dict[str, nn.Module] = {
        name: module for name, module in model.named_modules() if isinstance(module, WEIGHTED)
    }
    if isinstance(told, str):
        found = dict.fromkeys(layers, told)
    else:
        try:
            found = following(model, layers, batch)
        except NotTraceable:
            if batch is not None:
                raise
            found = dict.fromkeys(layers, UNKNOWN)
        strange = next((name for name in told or {} if name not in layers), None)
        if strange is not None:
            raise ValueError(f"nonlinearity names {strange!r}, which is no dense or convolution layer of the model")
        found |= dict(told or {})
    for name in set(found.values()) - {UNKNOWN}:
        gain_of(name)
    return found


def _check(model: nn.Module) -> None:
    """Raises ValueError for what cannot be drawn."""
    for name, p in model.named_parameters():
        if p.is_meta:
            raise ValueError(f"{name} is on the meta device: materialize the model first, model.to_empty(device='cpu')")
        if p.requires_grad and not (p.is_floating_point() or p.is_complex()):
            raise ValueError(f"{name} is a {p.dtype} tensor, which cannot be drawn: initialize before quantizing")
    for name, module in model.named_modules():
        if isinstance(module, WEIGHTED) and 0 in module.weight.shape:
            raise ValueError(
                f"layer {name!r} has a weight of shape {tuple(module.weight.shape)}: give it inputs and units"
            )


def _shape(p: Tensor) -> str:
    return "×".join(map(str, p.shape)) or "1"


def _rest(row: Row) -> tuple[Any, ...]:
    return row.distribution, row.nonlinearity, row.gain, row.fan_in, row.fan_out
