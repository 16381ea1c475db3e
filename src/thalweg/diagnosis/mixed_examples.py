"""Examples that get mixed: the output for one changes with another, as a softmax or a view over the batch makes it."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from thalweg.diagnosis.findings import Finding
from thalweg.diagnosis.forward_recorder import RESHAPED, is_layer
from thalweg.diagnosis.observe import Seen
from thalweg.diagnosis.passes import along, evaluated, tensors_of
from thalweg.initialization.following import function_name
from thalweg.tensors.private import tree_flatten, tree_map

INFLUENCE = 3e-5
OVER = {"mean", "sum", "var", "std", "var_mean", "std_mean", "norm", "max", "min", "amax", "amin", "logsumexp"}


def mixed_examples(seen: Seen) -> list[Finding]:
    """Finds a model whose output for one example changes by more than 3e-5 of its size as another example does.

        max_{i ≠ j} |f(x)_i − f(x')_i| / rms f(x),   x' is x with another's inputs in place of x_j

    It is run as in evaluation, where batch normalization does not mix. Models of graphs, whose inputs or buffers say
    which examples belong together (a matrix (N, N), edges (2, E)), are left out.

    >>> from thalweg.diagnosis.observe import observe
    >>> net = nn.Sequential(nn.Linear(3, 4), nn.Softmax(0))
    >>> found = mixed_examples(observe(net, (torch.randn(9, 3), torch.randn(9, 4)), nn.functional.mse_loss))
    >>> [(f.layer, f.fix_code) for f in found]
    [('1', "model.get_submodule('1').dim = 1")]

    Source: Deep Learning, §8.1.3 (the gradient of a minibatch is a mean over examples).
    """
    examples = seen.examples
    if examples < 2 or _joined(seen):
        return []
    changed = _changed(seen, examples)
    if changed is None:
        return []
    try:
        before, after = tensors_of(seen.calm[0]), tensors_of(evaluated(seen, changed[0])[0])
    except Exception:  # a model may take only what it was trained on
        return []
    influences = [_influence(a, b, examples, changed[1]) for a, b in zip(before, after, strict=False)]
    influence = max((value or 0.0 for value in influences), default=0.0)
    if influence <= INFLUENCE:
        return []
    layer, function, last, inside = _mixing_layer(seen, changed)
    what = f"{function}, after or in {layer or 'the model'}," if function else layer or "the model"
    fix = _fix(seen, layer, last, inside)
    advice = "" if fix else f"; {_advice(function)}"
    meaning = f"outputs of examples change if another example changes: {what} mixes the batch{advice}"
    return [Finding("mixed examples", "error", layer, influence, meaning, fix, threshold=INFLUENCE)]


def _joined(seen: Seen) -> bool:
    """Returns whether something says which examples belong together."""
    n = seen.examples
    held = [t for t in (*tree_flatten(seen.inputs)[0], *seen.model.buffers()) if isinstance(t, Tensor)]
    return any(
        t.layout != torch.strided or t.shape[-2:] == (n, n) or (t.dim() == 2 and len(t) == 2 and _whole(t) and n != 2)
        for t in held
    )


def _whole(tensor: Tensor) -> bool:
    return not tensor.is_floating_point() and tensor.dtype != torch.bool


def _changed(seen: Seen, examples: int) -> tuple[Any, int] | None:
    """Returns inputs with one example's replaced by another's, and which; None where no two differ."""
    j = examples // 2
    for k in range(1, min(examples, 8)):

        def other(value: Any, k: int = k) -> Any:
            dims = along(value, examples) if isinstance(value, Tensor) else []
            if not dims:
                return value
            moved = value.detach().clone()
            moved.select(dims[0], j).copy_(value.detach().select(dims[0], (j + k) % examples))
            return moved

        inputs = tree_map(other, seen.inputs)
        pairs = zip(tree_flatten(inputs)[0], tree_flatten(seen.inputs)[0], strict=True)
        if any(isinstance(a, Tensor) and not torch.equal(a, b) for a, b in pairs):
            return inputs, j
    return None


def _influence(before: Tensor, after: Tensor, examples: int, j: int) -> float | None:
    """Returns by how much others than j changed, in times the values' size; None where no dimension is of examples."""
    dims = along(before, examples)
    if not dims or before.shape != after.shape:
        return None
    size = float(before.double().square().mean().sqrt())
    others = [i for i in range(examples) if i != j]
    moved = (before.double() - after.double()).abs().nan_to_num()
    return min(float(moved.movedim(d, 0)[others].max()) for d in dims) / size if size > 0 else 0.0


class _Trace(TorchFunctionMode):
    """Keeps what each function gives, the module that calls it, and the layers that its arguments come from."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.calls: list[tuple[str, str, str, Tensor]] = []
        self.stack: list[str] = []
        self.source: dict[int, str] = {}
        self.kept: list[Any] = []
        self.handles = [
            handle
            for name, module in model.named_modules()
            for handle in (
                module.register_forward_pre_hook(lambda _, __, name=name: self.stack.append(name)),
                module.register_forward_hook(lambda module, _, output, name=name: self._leave(name, module, output)),
            )
        ]

    def _leave(self, name: str, module: nn.Module, output: Any) -> None:
        self.stack.pop()
        for tensor in tree_flatten(output)[0] if is_layer(module) else ():
            self.kept.append(tensor)
            self.source[id(tensor)] = name

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        given = [id(a) for a in tree_flatten((args, kwargs))[0] if isinstance(a, Tensor)]
        source = next((self.source[key] for key in given if key in self.source), "")
        for tensor in tree_flatten(result)[0]:
            if isinstance(tensor, Tensor) and tensor.is_floating_point():
                self.kept.append(tensor)
                self.source.setdefault(id(tensor), source)
                self.calls.append((self.stack[-1] if self.stack else "", function_name(func), source, tensor.clone()))
        return result


def _mixing_layer(seen: Seen, changed: tuple[Any, int]) -> tuple[str, str, bool, bool]:
    """Returns the layer and the function where examples first mix, whether after the last layer, or within that one."""
    traces = []
    for inputs in (seen.inputs, changed[0]):
        trace = _Trace(seen.model)
        try:
            with trace:
                evaluated(seen, inputs)
        finally:
            for handle in trace.handles:
                handle.remove()
        traces.append(trace.calls)
    for (module, function, source, before), (*_, after) in zip(*traces, strict=False):
        if (_influence(before, after, seen.examples, changed[1]) or 0.0) > INFLUENCE:
            own = seen.model.get_submodule(module)
            alone = is_layer(own) or next(own.children(), None) is None
            names = list(seen.layers)
            return (
                (module if alone and module else source or module),
                function,
                source == names[-1] and not alone,
                alone or not source,
            )
    return "", "", False, False


def _fix(seen: Seen, layer: str, last: bool, inside: bool) -> str:
    module: Any = seen.model.get_submodule(layer)
    if inside and getattr(module, "batch_first", None) is False:
        return "[setattr(m, 'batch_first', True) for m in model.modules() if hasattr(m, 'batch_first')]"
    if inside and getattr(module, "dim", None) == 0:
        return f"model.get_submodule({layer!r}).dim = 1"
    y: Sequence[Tensor] = tensors_of(seen.output)
    if last and len(y) == 1 and y[0].shape == seen.layers[layer].output.shape:
        return give_output_of(layer)
    return ""


def _advice(function: str) -> str:
    """Returns what to change in the model's own code, of which there is no line."""
    if "softmax" in function or function in OVER:
        return f"let {function} go over another dimension than that of the examples"
    if function in RESHAPED:
        return f"move the examples to the first dimension before {function}, and let it keep that dimension"
    return f"let {function or 'forward'} combine only numbers of one example"


def give_output_of(layer: str) -> str:
    """Returns the line that has the model give a layer's own output, whatever its ``forward`` does after that."""
    keep = "lambda module, args, output, kept=kept: kept.update(output=output)"
    give = "lambda module, args, output, kept=kept: kept['output'].reshape(output.shape)"
    return (
        f"kept = {{}}; model.get_submodule({layer!r}).register_forward_hook({keep}); "
        f"model.register_forward_hook({give})  # or return it in forward"
    )
