"""The state of a trial between two rungs: written by every engine, and read by any that goes on with the trial."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from thalweg.averaging import Average
from thalweg.compare.execution.attributes import Attributes, put_attributes
from thalweg.compare.execution.kernel_layout import Slot
from thalweg.compare.execution.plain import packed, unpacked
from thalweg.tensors import Layout
from thalweg.tensors.form import taken

POSITION = ("spent", "round", "saved", "cost", "form", "scale", "growth")


@dataclass(frozen=True)
class TrialState:
    """All that the rest of a trial depends on beside its job: what is drawn follows from the job's seed and the step.

    Of a trial whose rule steps a flat vector ``params`` is that vector, and of every other a mapping by name. Whatever
    is not there is as it is at the start of a trial.

    Arguments:
        params: parameters ``(n,)``; or parameters and buffers by their names in ``state_dict()``.
        buffers: of the model, by name, beside flat parameters.
        optimizer: its state: a rule's by slot ``(n,)``, with the average of the parameters; that of optimizers by
            number, beside the ``tree`` of their state dicts.
        average: averages of the buffers by name; or the parts of an :class:`~thalweg.averaging.Average`.
        attributes: what the model keeps beside parameters and buffers, packed; see :mod:`.attributes`.
        position: gradient evaluations and steps of a trial that need not spend one evaluation a step, and how its
            optimizer steps; the scale of a loss in float16, and the steps since it changed.
    """

    params: Tensor | Mapping[str, Tensor] = field(default_factory=dict)
    buffers: Mapping[str, Tensor] = field(default_factory=dict)
    optimizer: Mapping[str, Tensor] = field(default_factory=dict)
    average: Mapping[str, Tensor] = field(default_factory=dict)
    position: Mapping[str, Tensor] = field(default_factory=dict)
    attributes: Mapping[str, Tensor] = field(default_factory=dict)

    @classmethod
    def of_model(cls, model: nn.Module, layout: Layout, kept: Attributes) -> "TrialState":
        """Returns the state of a trial whose own steps begin where the model is."""
        named = dict(model.named_parameters())
        flat = layout.flatten({name: named[name].detach() for name in layout.names})
        return cls(flat, dict(model.named_buffers()), attributes=attributes_of(model, kept))

    def encode(self) -> dict[str, Tensor]:
        """Returns the state as it is stored and sent: tensors on the CPU."""
        if isinstance(self.params, Tensor):
            parts = {"": {"params": self.params, **self.optimizer}, "buffer.": self.buffers}
            parts["average.buffer."] = self.average
        else:
            parts = {"model.": self.params, "state.": self.optimizer, "": {**self.average, **self.position}}
        parts["attribute."] = self.attributes
        return {p + name: held.detach().cpu().clone() for p, part in parts.items() for name, held in part.items()}

    @classmethod
    def decode(cls, held: Mapping[str, Tensor] | None) -> "TrialState":
        """Returns what :meth:`encode` gave; of None, the start of a trial.

        >>> state = TrialState(torch.ones(2), optimizer={"exp_avg": torch.zeros(2)})
        >>> TrialState.decode(state.encode()).optimizer
        {'exp_avg': tensor([0., 0.])}
        """

        if held is None:
            return cls()
        if "params" in held:
            slots = {key: held[key] for key in held if key != "params" and "." not in key}
            buffers, means = _under("buffer", held), _under("average.buffer", held)
            return cls(held["params"], buffers, slots, means, attributes=_under("attribute", held))
        position = {key: held[key] for key in POSITION if key in held}
        average = {key: held[key] for key in held if key == "step" or key.startswith(("means.", "copies."))}
        return cls(_under("model", held), {}, _under("state", held), average, position, _under("attribute", held))

    def put(self, model: nn.Module, layout: Layout) -> None:
        """Puts parameters, buffers and attributes into the model.

        Raises:
            ValueError: they are of another model.
        """
        if self.attributes:
            device = next((p.device for p in model.parameters()), None)
            put_attributes(model, unpacked(self.attributes, device))
        if not isinstance(self.params, Tensor):
            if self.params:
                model.load_state_dict(self.params)
            return
        named = dict(model.named_parameters())
        with torch.no_grad():
            for name, value in layout.unflatten(self.flat(self.params.new_empty(layout.size))).items():
                named[name].copy_(value)
            for name, buffer in model.named_buffers():
                buffer.copy_(self.buffer(name, buffer))

    def flat(self, like: Tensor) -> Tensor:
        """Returns the flat parameters ``(n,)`` in ``like``'s type and device."""
        assert isinstance(self.params, Tensor)
        return taken({"params": self.params}, "params", like)

    def buffer(self, name: str, fresh: Tensor) -> Tensor:
        """Returns a buffer, the fresh model's where there is none."""
        return taken(self.buffers, name, fresh) if name in self.buffers else fresh

    def buffer_mean(self, name: str, now: Tensor) -> Tensor:
        """Returns the average of a buffer, which starts as the buffer is now."""
        return taken(self.average, name, now) if name in self.average else now

    def slot(self, name: str, slot: Slot, params: Tensor) -> Tensor:
        """Returns the state of a rule in one slot ``(m,)``; a fresh one where there is none."""
        fresh = slot.begun(params)
        return taken(self.optimizer, name, fresh) if name in self.optimizer else fresh

    def put_average(self, average: Average) -> None:
        """Puts back what :func:`average_of` returned; one that has just begun stays as it is."""
        if self.average:
            parts = {part: _under(part, self.average) for part in ("means", "copies")}
            average.load_state_dict(average.state_dict() | parts | {"step": int(self.average["step"])})


def _under(part: str, held: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(f"{part}."): value for key, value in held.items() if key.startswith(f"{part}.")}


def attributes_of(model: nn.Module, kept: Attributes) -> dict[str, Tensor]:
    """Returns what the model keeps beside parameters and buffers as flat names to tensors, as far as it has changed."""
    changed = kept.changed(model)
    return packed(changed, "the model") if changed else {}


def average_of(average: Average | None) -> dict[str, Tensor]:
    """Returns the state of an average as flat names to tensors."""
    if average is None:
        return {}
    state = average.state_dict()
    flat = {f"{part}.{name}": held for part in ("means", "copies") for name, held in state[part].items()}
    return flat | {"step": torch.tensor(state["step"])}
