"""An average of a model's parameters, kept beside them and put in their place to evaluate."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any, Literal

import torch
from torch import Generator, Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from thalweg.averaging.averaging import Averaging
from thalweg.averaging.rounding import lerp_rounded_
from thalweg.averaging.source import Source
from thalweg.tensors.form import KnownForms, form, is_allocated, overlaps
from thalweg.tensors.private import foreach_lerp_
from thalweg.tensors.ranges import is_whole
from thalweg.tensors.vector import local

_STANDING: set[int] = set()  # ids of the parameters that hold an average at the moment


class Average:
    """The average of a model's parameters, θ̄ ← θ̄ + w_t (θ − θ̄) at each :meth:`update`.

    For several averages of one model make several. Parameters keep their storage, so that compiled models and those
    wrapped for distributed training work as they are; names are those within the wrapper. Where the parameters are
    equal on all ranks, so is their average. Frozen parameters are left out.

    Batch-norm statistics belong to the parameters under which they were taken. ``buffers="average"`` is near enough
    for an :class:`~thalweg.averaging.EMA`; else take them anew over the training data once the average stands:

        with average.applied():
            estimate_population_statistics(model, loader)  # of thalweg.normalization
            evaluate(model)

    Arguments:
        model: a module, whose trainable parameters are averaged; or an iterable of tensors or of ``(name, tensor)``
            pairs, all of which are.
        averaging: :class:`~thalweg.averaging.Polyak` or :class:`~thalweg.averaging.EMA`.
        buffers: what stands in the model's persistent buffers together with the average: ``"keep"``, what they hold
            at that time; ``"copy"``, what they held at the last update; ``"average"``, their average, but for integers,
            which are copied.
        device: where the average is kept, by default with each parameter; an update across devices waits for a copy.
        dtype: ``torch.float32``, ``torch.float64``, or ``torch.bfloat16``, which is rounded by chance so that small
            increments are not lost, and takes many times as long; by default each parameter's own, and
            float32 for half precision. Complex parameters keep theirs.
        generator: of chance in rounding to bfloat16, on any device; by default one with seed 0.

    Attributes:
        means: the average, under the names of parameters and averaged buffers, in the type that it is kept in.
        step: number of updates; a Python int, so that weights are worked out in double precision on the host and no
            update waits for a device.

    Raises:
        ValueError: nothing to average, two tensors of one name, a parameter on the meta device, an unknown choice.

    >>> from thalweg.averaging import Polyak
    >>> model = nn.Linear(1, 1, bias=False)
    >>> average = Average(model, Polyak())
    >>> for value in (1.0, 2.0, 6.0):
    ...     _ = nn.init.constant_(model.weight, value)  # in place of an optimizer's step
    ...     average.update()
    >>> with average.applied():
    ...     print(model(torch.ones(1)).item())
    3.0
    >>> model(torch.ones(1)).item()
    6.0

    Source: Deep Learning, §8.7.3.
    """

    def __init__(
        self,
        model: nn.Module | Iterable[Tensor | tuple[str, Tensor]],
        averaging: Averaging,
        *,
        buffers: Literal["keep", "copy", "average"] = "keep",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        generator: Generator | None = None,
    ) -> None:
        if buffers not in ("keep", "copy", "average"):
            raise ValueError(f"unknown value {buffers!r} of buffers: choose keep, copy or average")
        if dtype not in (None, torch.bfloat16, torch.float32, torch.float64):
            raise ValueError(f"an average is not kept in {dtype}: choose torch.bfloat16, float32 or float64")
        self.averaging = averaging
        self.step = 0
        self._source = Source(model)
        self._names = {id(p): name for name, p in self._source.params.items()}
        held = {} if buffers == "keep" else self._source.buffers()
        averaged = {n: b for n, b in held.items() if buffers == "average" and (b.is_floating_point() or b.is_complex())}
        self._averaged_buffers = list(averaged)
        self.means = {
            name: t.detach().resolve_conj().resolve_neg().to(device or t.device, _kept_in(t, dtype), copy=True)
            for name, t in (self._source.params | averaged).items()
        }
        self._copies = {n: b.detach().to(device or b.device, copy=True) for n, b in held.items() if n not in averaged}
        self._forms = KnownForms()
        self._generator: Generator | None = None
        if dtype == torch.bfloat16:
            self._generator = generator or Generator(next(iter(self.means.values())).device).manual_seed(0)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._names = {id(p): name for name, p in self._source.params.items()}  # a copy has parameters of its own

    @torch.no_grad()
    def update(self, done: Iterable[Tensor] = ()) -> None:
        """Takes the parameters as they are now into the average; call it after each step of the optimizer.

        Arguments:
            done: parameters whose means, from :meth:`mean_of`, have the point already.

        Raises:
            RuntimeError: within :meth:`applied`; parameters were added, replaced, unfrozen or resized since.
        """
        self.check("update")
        buffers = self._source.buffers()
        values = [*self._source.params.values(), *(buffers[name] for name in self._averaged_buffers)]
        weight = self.weight
        means, points = [], []
        known = {id(p) for p in done}
        for held, given in zip(self.means.values(), values, strict=True):
            if id(given) in known:
                continue
            mean, value = local(held), local(given)  # a shard has an average of its own
            if mean.dtype == torch.bfloat16:
                assert self._generator is not None
                lerp_rounded_(mean, value, weight, self._generator)
            else:
                means.append(mean)
                points.append(value if value.dtype == mean.dtype and value.device == mean.device else value.to(mean))
        if means:
            foreach_lerp_(means, points, weight)
        for name, copy in self._copies.items():
            copy.copy_(buffers[name])
        self.step += 1

    @property
    def weight(self) -> float:
        """w_t of the next update."""
        return float(self.averaging.weight(self.step + 1))

    def averages(self, param: Tensor) -> bool:
        """Says whether the tensor is one of the parameters that are averaged."""
        return id(param) in self._names

    def mean_of(self, param: Tensor) -> Tensor | None:
        """Returns a parameter's mean for a pass that takes the next point into it itself, as ``update(done=)`` is told.

        None where the parameter is not averaged, or its mean lies elsewhere or is rounded by chance.
        """
        name = self._names.get(id(param))
        mean = None if name is None else self.means[name]
        return mean if mean is not None and mean.dtype != torch.bfloat16 and mean.device == param.device else None

    def follow(self, optimizer: Optimizer) -> RemovableHandle:
        """Updates after each step of the optimizer; returns a handle whose ``remove()`` ends that.

        Where a gradient scaler skips a step there is no update. A model that several optimizers step: follow the last.
        """
        return optimizer.register_step_post_hook(lambda *_: self.update())

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Runs its body with the averaged values in the model's parameters, and puts all back, whatever happens.

        Parameters, their gradients (None within) and all buffers come back bit for bit; it takes the memory of a
        second set of parameters meanwhile.

        Raises:
            RuntimeError: within :meth:`applied` of this or another average of these parameters; parameters were
                added, replaced or unfrozen since; at the end, they were changed within, as a step or
                ``load_state_dict`` does.
        """
        self.check("applied")
        with self._source.kept():
            _STANDING.update(self._names)
            try:
                with torch.no_grad():
                    for name, target in (self._source.params | self._source.buffers()).items():
                        if (value := self._held(name)) is not None:
                            target.copy_(value)
                versions = [_version(p) for p in self._source.params.values()]
                yield
                if versions != [_version(p) for p in self._source.params.values()]:
                    raise RuntimeError(
                        "parameters were changed within applied(), and the change is undone: train and load outside it"
                    )
            finally:
                _STANDING.difference_update(self._names)

    def values(self) -> dict[str, Any]:
        """Returns what the model's ``state_dict`` is with the average in it, copied: a model loads it as its own.

        Averages are in the type that they are kept in; tied parameters stand under each of their names.
        """
        self._check_forms()
        own = {id(t): self._held(name) for name, t in (self._source.params | self._source.buffers()).items()}
        chosen = {}
        for key, value in self._source.state().items():
            held = own.get(id(value))
            chosen[key] = value if held is None else held
        return {key: v.detach().clone() if isinstance(v, Tensor) else v for key, v in chosen.items()}

    def state_dict(self) -> dict[str, Any]:
        """Returns the state from which a resumed run goes on bit for bit; tensors are shared, as in torch's own.

        ``torch.load(weights_only=True)`` reads it.
        """
        return {
            "averaging": {"name": type(self.averaging).__name__, **asdict(self.averaging)},
            "step": self.step,
            "means": dict(self.means),
            "copies": dict(self._copies),
            "generator": None if self._generator is None else self._generator.get_state(),
        }

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes a state on.

        Raises:
            ValueError: a state of another model, averaging or type, with the first difference named; nothing is
                changed then.
        """
        own = self.state_dict()
        if set(state) != set(own):
            raise ValueError(f"this is not the state of an average: it has {sorted(state)}, not {sorted(own)}")
        if state["averaging"] != own["averaging"]:
            raise ValueError(f"the state is of {state['averaging']}, the average is {own['averaging']}")
        if not is_whole(state["step"], 0):
            raise ValueError(f"the state's step is {state['step']!r}, not a number of updates")
        for part in ("means", "copies"):
            _same_form(own[part], state[part])
        if self._generator is not None:
            self._generator.set_state(state["generator"])
        for part in ("means", "copies"):
            for name, target in own[part].items():
                target.copy_(state[part][name])
        self.step = state["step"]

    def _held(self, name: str) -> Tensor | None:
        return self.means.get(name, self._copies.get(name))

    def check(self, verb: str) -> None:
        """Raises RuntimeError within :meth:`applied`, or if parameters were added, replaced, unfrozen or resized."""
        if not _STANDING.isdisjoint(self._names):
            raise RuntimeError(
                f"{verb}() was called within applied(), while the average is in place: leave applied() first"
            )
        self._check_forms()

    def _check_forms(self) -> None:
        """Raises RuntimeError where the model's parameters or buffers are no longer what the average is of."""
        self._source.check()
        held = self.means | self._copies
        values = self._source.params | (self._source.buffers() if len(held) > len(self._names) else {})
        if self._forms.same([*held.values(), *(values[name] for name in held)]):
            return
        for name, mean in held.items():
            value = values[name]
            sound = all(isinstance(t, Tensor) and is_allocated(t) for t in (mean, value)) and not overlaps(mean)
            if not sound or mean.shape != value.shape:
                raise RuntimeError(
                    f"{name!r} is {form(value)}, its average {form(mean)}: make a new average of the current model"
                )
        self._forms.note([*held.values(), *(values[name] for name in held)])


def _kept_in(tensor: Tensor, dtype: torch.dtype | None) -> torch.dtype:
    if tensor.is_complex():
        return tensor.dtype
    return dtype or (torch.float32 if tensor.dtype.itemsize < 4 else tensor.dtype)


def _same_form(own: Mapping[str, Tensor], given: Mapping[str, Any]) -> None:
    for name in [*own, *given]:
        here, there = (_form(part[name]) if name in part else None for part in (own, given))
        if here != there:
            raise ValueError(f"the state is of another model: it has {there or 'no'} {name!r}, not {here or 'none'}")


def _form(tensor: Any) -> str:
    if not isinstance(tensor, Tensor) or not is_allocated(tensor):
        return form(tensor)
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


def _version(tensor: Tensor) -> int:
    """Returns how often a tensor was changed in place; 0 of one made in inference mode, which does not count."""
    return 0 if tensor.is_inference() else tensor._version
