"""Auxiliary heads: intermediate layers are trained to predict the target too, and the heads are removed afterwards.

    J(θ) = L(y, ŷ) + c(t) Σ_k w_k L(y, g_k(h_k))

h_k is the output of layer k and g_k its head; c(t) falls as training goes on, or stays at 1. The layers below a head
get a gradient that has not come through the layers above it.

Source: Deep Learning, §8.7.5; Szegedy et al. 2014 (GoogLeNet, w = 0.3); Lee, Xie, Gallagher, Zhang & Tu 2015 (deeply
supervised nets).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor, nn
from torch.utils.hooks import RemovableHandle

from thalweg.architecture.linear_start import draw_seed, pooled_linear
from thalweg.tensors.as_trained import as_trained
from thalweg.tensors.parts import check_layer
from thalweg.tensors.ranges import is_whole, is_within

Decay = Callable[[int], float] | int


class _Forward(NamedTuple):
    """A model's output and those of the heads, by their number."""

    output: Any
    heads: dict[int, Any]


class AuxiliaryHeads(nn.Module):
    """A model with heads on layers of it; it computes what the model does, and its :meth:`loss` adds the heads'.

    Heads run while it is in training mode and their weight is not 0. Each training forward is followed by one loss;
    under :mod:`torch.func`, ``vmap`` or ``torch.compile`` both stand in the function that is transformed. Initialize
    the model before the heads are put on. A state dict keeps the step.

    In ``DistributedDataParallel`` the loss is ``ddp.module.loss(ddp(x), target, loss)``. With
    ``find_unused_parameters`` or ``static_graph`` that wrapper gives copies of outputs, which the loss refuses; and
    once the weight is 0 the heads have no gradients: strip them then, and wrap anew.

    Arguments:
        model: any module; hooks are put on the layers named.
        at: from a layer's name, as in ``model.named_modules()``, to its head, a module from the layer's output to
            what the loss takes; or names, for heads that average over positions ``(N, C, …)`` and are linear.
        weight: w, one for all or by name.
        decay: c. None: 1; a number of steps T: linear to 0, 1 − t/T; or a function of the step.
        outputs: of the heads where ``at`` has names only; made by the first training forward, or by the probe.
        probe: an input, or a tuple of the inputs, of the model, by which heads are made at once.
        generator: source of the weights of such heads; torch's global one by default.

    Attributes:
        step: t, counted by :meth:`advance`.

    Raises:
        ValueError: a layer that does not exist or stands twice, weights of other names, heads without ``outputs``
            or the other way round; when it runs, a layer that runs twice, and at the loss one that did not run.

    >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))
    >>> heads = AuxiliaryHeads(model, at=["1"], outputs=3, decay=100)
    >>> x, y = torch.randn(5, 4), torch.tensor([0, 1, 2, 0, 1])
    >>> total = heads.loss(heads(x), y, nn.functional.cross_entropy)
    >>> total.backward()
    >>> heads.advance()
    >>> bare = heads.strip()
    >>> bare is model
    True

    Source: Deep Learning, §8.7.5; Szegedy et al. 2014; Lee et al. 2015.
    """

    def __init__(
        self,
        model: nn.Module,
        at: Mapping[str, nn.Module] | Sequence[str],
        weight: float | Mapping[str, float] = 0.3,
        decay: Decay | None = None,
        *,
        outputs: int | None = None,
        probe: Any = None,
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        names = list(at) if not isinstance(at, str) else [at]
        _check(model, names, weight, decay, isinstance(at, Mapping), outputs)
        if isinstance(at, Mapping):
            heads = [at[name] for name in names]
        else:
            dtype = next((p.dtype for p in model.parameters()), None)
            heads = [pooled_linear(outputs or 0, draw_seed(generator)).to(dtype) for _ in names]
        self.at = tuple(names)
        self.weights = tuple(weight[name] if isinstance(weight, Mapping) else weight for name in names)
        self.decay, self.step = decay, 0
        self.model: nn.Module | None = model
        self.heads = nn.ModuleList(heads)
        self._running: dict[int, Any] | None = None
        self._last: _Forward | None = None
        self._handles: list[RemovableHandle] = [
            model.get_submodule(name).register_forward_hook(_Tap(self, i)) for i, name in enumerate(names)
        ]
        if probe is not None:
            try:
                with as_trained(self), torch.no_grad():
                    self(*probe) if isinstance(probe, tuple) else self(probe)
            except Exception:
                self.strip()
                raise
            self._last = None

    @property
    def factor(self) -> float:
        """c(t), which multiplies all weights."""
        if self.decay is None:
            return 1.0
        return self.decay(self.step) if callable(self.decay) else max(0.0, 1 - self.step / self.decay)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Returns the model's own output."""
        if self.model is None:
            raise RuntimeError("the heads were stripped: use the model that strip() returned")
        if not self.training or self.factor == 0:
            return self.model(*args, **kwargs)
        self._running, self._last = {}, None
        try:
            output = self.model(*args, **kwargs)
            self._last = _Forward(output, self._running)
        finally:
            self._running = None
        return output

    def loss(self, output: Any, target: Any, loss: Callable[[Any, Any], Tensor]) -> Tensor:
        """Returns L(y, ŷ) + c Σ_k w_k L(y, g_k) of the last forward; L(y, ŷ) alone in eval mode or where c is 0.

        Arguments:
            output: what the last training forward gave, itself and not a copy.
            target: handed on to the loss.
            loss: ``(output, target) -> scalar``.

        Raises:
            ValueError: the output is not that of the last training forward; a layer did not run in it.
        """
        main, factor = loss(output, target), self.factor
        if not self.training or factor == 0:
            return main
        last, self._last = self._last, None
        if last is None or last.output is not output:
            raise ValueError(
                "the output is not that of the last training forward of the model with heads, or its loss was already "
                "taken: run the forward once for each loss, and pass on what it gave"
            )
        missing = next((name for i, name in enumerate(self.at) if i not in last.heads), None)
        if missing is not None:
            raise ValueError(f"layer {missing!r} did not run in the last forward: put the head on one that always runs")
        return main + sum(factor * w * loss(last.heads[i], target) for i, w in enumerate(self.weights))

    def advance(self, steps: int = 1) -> None:
        """Counts steps of training, by which the heads' weight decays."""
        self.step += steps

    def strip(self) -> nn.Module:
        """Returns the bare model, without the heads and their hooks.

        Raises:
            RuntimeError: they were stripped before.
        """
        if self.model is None:
            raise RuntimeError("the heads were already stripped: keep the model that the first strip() returned")
        for handle in self._handles:
            handle.remove()
        bare, self.model, self._last = self.model, None, None
        return bare

    def get_extra_state(self) -> Tensor:
        """Returns what the state dict keeps beside the parameters: the step."""
        return torch.tensor(self.step)

    def set_extra_state(self, state: Tensor) -> None:
        """Takes the step back from a state dict."""
        self.step = int(state)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_last": None}  # a graph is neither copied nor pickled


class _Tap:
    """The hook that runs a head on its layer's output, before anything can change that in place."""

    def __init__(self, owner: AuxiliaryHeads, index: int) -> None:
        self.owner, self.index = owner, index

    def __call__(self, layer: nn.Module, inputs: Any, output: Any) -> None:
        running = self.owner._running
        if running is None:
            return
        if self.index in running:
            raise ValueError(
                f"layer {self.owner.at[self.index]!r} ran twice in one forward, and its head is for one output: "
                "put the head on a layer that runs once"
            )
        running[self.index] = self.owner.heads[self.index](output)


def _check(
    model: nn.Module,
    names: list[str],
    weight: float | Mapping[str, float],
    decay: Decay | None,
    given: bool,
    outputs: int | None,
) -> None:
    """Raises ValueError for heads that cannot be put on the model."""
    for name in names:
        check_layer(model, name)
    if not names or len(set(names)) < len(names):
        raise ValueError(f"at is {names}: name at least one layer, and each only once")
    if isinstance(weight, Mapping) and set(weight) != set(names):
        raise ValueError(f"weights are for {sorted(weight)} and heads at {sorted(names)}: give each head its weight")
    if given and outputs is not None:
        raise ValueError("outputs= applies to heads that are made here: omit it, or pass only names")
    if not given and not is_whole(outputs):
        raise ValueError(
            f"outputs is {outputs}: give the number of outputs of the heads, or pass a head for each layer"
        )
    shares = weight.values() if isinstance(weight, Mapping) else [weight]
    if not all(is_within(share, 0) for share in shares):
        raise ValueError(f"weight is {weight}: give each head a number of at least 0")
    if decay is not None and not callable(decay) and not is_whole(decay):
        raise ValueError(f"decay is {decay}: pass the number of steps, at least 1, in which the weight falls to 0")
