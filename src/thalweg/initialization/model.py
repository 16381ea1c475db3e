"""A scheme over a whole model: every layer with the gain of the nonlinearity that follows it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Generator, Tensor, nn
from torch.nn.parameter import is_lazy

from thalweg.initialization.data_driven import scale_by_data
from thalweg.initialization.drawn import drawn
from thalweg.initialization.effective_tensors import effective_tensors
from thalweg.initialization.following import following
from thalweg.initialization.gains import UNKNOWN, gain_of
from thalweg.initialization.residual import Residual, check_residual, start_residual
from thalweg.initialization.schemes import Scheme, scheme_of
from thalweg.initialization.table import InitializationTable, Row
from thalweg.tensors.draws import seed_torch
from thalweg.tensors.graph import NotTraceable
from thalweg.tensors.layers import NORMS, WEIGHTED
from thalweg.tensors.private import own_parameters
from thalweg.tensors.ranges import is_within

NOT_TRAINED, NOT_DRAWN = "unchanged (not trained)", "not drawn here; set it yourself after to_empty()"


@torch.no_grad()
def initialize(
    model: nn.Module,
    scheme: str | None = None,
    generator: Generator | None = None,
    *,
    gain: float | Literal["nonlinearity"] | None = None,
    nonlinearity: str | Mapping[str, str] | None = None,
    batch: Any = None,
    rectifier_bias: float = 0.0,
    residual: Residual | None = None,
) -> InitializationTable:
    """Draws the parameters of a model anew, in place, and returns a table of what was done to each.

    Dense layers, convolutions (also transposed and grouped) and the projections of attention are drawn by the scheme as
    it was published, or with another gain; their biases are 0. In a transposed convolution, a share of 1/stride of the
    inputs contributes to an output, which determines its fan-in. In recurrent modules, the input weights of each gate
    are drawn by the scheme, the recurrent weights are orthogonal for each gate, and biases are 0, except 1 for the
    forget gate. Normalizations start at 1 and 0 with new statistics; embeddings and unknown modules draw by their own
    ``reset_parameters``. Under weight_norm, spectral_norm and similar parametrizations, the effective weight is drawn.
    A shared parameter is drawn once, by the first module that has it.

    A parameter that is not trained, and a parameter or buffer that no scheme covers, is not changed, and the table
    lists it: after ``to_empty()`` it has no value yet, and you have to set it.

    Arguments:
        model: any module on any device; a module on the meta device needs ``model.to_empty(device=...)`` first.
        scheme: a name of :data:`SCHEMES`; under ``"default"`` every module draws by its own ``reset_parameters``.
            Without a name it is ``"he"`` with the gain of the nonlinearity that follows each layer.
        generator: source of every draw, on the CPU, so that a seed gives the same weights on every device; by default
            one seeded from torch's global generator.
        gain: factor on the weights that replaces the published one (√2 for ``"he"``, 1 for the others), for schemes
            that have a gain: a number for all layers, or ``"nonlinearity"``, the gain of the nonlinearity that follows
            each layer, with which signals keep their size.
        nonlinearity: the nonlinearity that follows the layers, as one name for all or as a mapping from names of layers
            (those of other layers are determined); it implies ``gain="nonlinearity"``.
        batch: an input of the model, or a tuple of its inputs, from which nonlinearities are determined if the graph
            cannot be read; layers whose nonlinearity is not found have gain 1, and the table says "unknown".
            ``"lsuv"`` and ``"first-small"`` scale by this batch.
        rectifier_bias: bias of layers that feed a rectifier; 0.1 keeps most of them active at the start.
        residual: how the ends of residual branches start: ``"zero"``, so that each block begins as the identity, or
            ``"depth"``, 1/√L of the scheme's size for L branches.

    Returns:
        The :class:`InitializationTable`: distribution, gain, fan-in and fan-out of each parameter, and the buffers that
        were not set.

    Raises:
        ValueError: unknown scheme or nonlinearity; a gain for a scheme that has none; a parameter or buffer that is on
            the meta device or has no shape yet, or a parameter that is no floating-point tensor; a layer without inputs
            or units; a batch that does not fit, or none where a scheme scales by it. The model is then as it was.

    >>> net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 2))
    >>> print(initialize(net, "he", torch.Generator().manual_seed(0), gain="nonlinearity"))
    parameter  shape  distribution   nonlinearity  gain   fan-in  fan-out
    0.weight   32×8   N(0, 0.5²)     relu          1.414  8       32
    0.bias     32     0
    2.weight   2×32   N(0, 0.177²)   linear        1      32      2
    2.bias     2      0

    Source: Deep Learning, §8.4.
    """
    chosen = scheme_of(scheme or "he")
    if gain is None and (scheme is None or nonlinearity is not None):
        gain = "nonlinearity"
    elif gain is not None:
        _check_gain(scheme or "he", chosen, gain, nonlinearity)
    _check(model)
    if not is_within(rectifier_bias) or (rectifier_bias and chosen is None):
        raise ValueError(f"rectifier_bias is {rectifier_bias}: give a number, together with a scheme that sets biases")
    if chosen is not None and chosen.scaled and batch is None:
        raise ValueError(f"{scheme} scales by data: pass batch=, an input of the model")
    if residual is not None:
        check_residual(model, residual)
    if generator is None:
        generator = torch.Generator().manual_seed(int(torch.randint(2**62, ())))
    saved = [(p, p.clone()) for p in model.parameters()] if chosen is not None and chosen.scaled else []
    asked = chosen is not None and (chosen.heeds or bool(rectifier_bias))
    found = _nonlinearities(model, nonlinearity, batch) if asked else {}
    rows: dict[str, Row] = {}
    names = {id(t): name for name, t in [*model.named_parameters(), *model.named_buffers()]}
    seed = int(torch.randint(2**62, (), generator=generator))
    with torch.random.fork_rng():
        seed_torch(seed)
        for name, module in model.named_modules():
            parts = [module, *getattr(module, "parametrizations", {}).values()]
            own = {id(p): p for part in parts for p in part.parameters(recurse=False) if names[id(p)] not in rows}
            if any(p.requires_grad for p in own.values()):
                for tensor, row in drawn(module, found.get(name), chosen, gain, generator, own, rectifier_bias):
                    rows[names[id(tensor)]] = row
            elif not own and isinstance(module, NORMS) and callable(getattr(module, "reset_running_stats", None)):
                rows |= {names[id(b)]: Row("", "", "fresh") for b in _reset(module)}
    ends = start_residual(model, residual) if residual is not None else {}
    for name, law in ends.items():
        if name in rows:
            before = rows[name]
            rows[name] = replace(before, distribution=f"{before.distribution} {law}" if "times" in law else law)
    if chosen is not None and chosen.scaled:
        for layer, factor in _scaled(model, batch, saved).items():
            for p in effective_tensors(model.get_submodule(layer))["weight"].params:
                row = rows[names[id(p)]]
                rows[names[id(p)]] = replace(row, distribution=f"{factor:.3g} · {row.distribution}")
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    left = [(name, b) for name, b in model.named_buffers() if name not in rows]
    return InitializationTable(
        tuple(
            Row(n, _shape(t), *(_rest(rows[n]) if n in rows else [NOT_TRAINED if n in frozen else NOT_DRAWN]))
            for n, t in [*model.named_parameters(), *left]
        )
    )


def _reset(module: Any) -> list[Tensor]:
    """Begins a normalization's running statistics anew; returns its buffers."""
    module.reset_running_stats()
    return list(module.buffers(recurse=False))


def _check_gain(name: str, scheme: Scheme | None, gain: float | str, nonlinearity: Any) -> None:
    """Raises ValueError for a gain that cannot be given."""
    if scheme is None or not scheme.heeds:
        raise ValueError(f"{name} has no gain: omit gain=, or choose a scheme that has one, such as he")
    if gain != "nonlinearity" and not (is_within(gain, 0) and float(gain) > 0):
        raise ValueError(f"gain must be a number above 0, or 'nonlinearity', not {gain!r}")
    if gain != "nonlinearity" and nonlinearity is not None:
        raise ValueError(
            f"gain is {gain} and nonlinearity {nonlinearity!r}, which has another gain: give only one of them"
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


def _nonlinearities(model: nn.Module, given: str | Mapping[str, str] | None, batch: Any) -> dict[str, str]:
    layers: dict[str, nn.Module] = {
        name: module for name, module in model.named_modules() if isinstance(module, WEIGHTED)
    }
    if isinstance(given, str):
        found = dict.fromkeys(layers, given)
    else:
        try:
            found = following(model, layers, batch)
        except NotTraceable:
            if batch is not None:
                raise
            found = dict.fromkeys(layers, UNKNOWN)
        strange = next((name for name in given or {} if name not in layers), None)
        if strange is not None:
            raise ValueError(f"nonlinearity names {strange!r}, which is not a dense or convolution layer of the model")
        found |= dict(given or {})
    for name in set(found.values()) - {UNKNOWN}:
        gain_of(name)
    return found


def _check(model: nn.Module) -> None:
    """Raises ValueError for what cannot be drawn."""
    for name, p in [*model.named_parameters(), *model.named_buffers()]:
        if is_lazy(p):
            raise ValueError(f"{name} has no shape yet: run the model on an input first")
        if p.is_meta:
            raise ValueError(
                f"{name} is on the meta device: materialize the model first with model.to_empty(device='cpu')"
            )
        if p.requires_grad and not (p.is_floating_point() or p.is_complex()):
            raise ValueError(f"{name} is a {p.dtype} tensor, which cannot be drawn: initialize before quantizing")
    for name, module in model.named_modules():
        weight = own_parameters(module).get("weight")
        if isinstance(module, WEIGHTED) and weight is not None and 0 in weight.shape:
            raise ValueError(
                f"layer {name!r} has a weight of shape {tuple(weight.shape)}: give it at least one input and one unit"
            )


def _shape(p: Tensor) -> str:
    return "×".join(map(str, p.shape)) or "1"


def _rest(row: Row) -> tuple[Any, ...]:
    return row.distribution, row.nonlinearity, row.gain, row.fan_in, row.fan_out
