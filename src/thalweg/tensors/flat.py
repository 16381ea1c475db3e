"""One flat vector seen as named parameters, with or without leading lane dimensions."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Layout:
    """Where each named parameter lies in a flat vector.

    A flat tensor has shape ``(..., size)``: no leading dimension for one model, one for lanes. The same
    layout serves both, so ``flatten`` and ``unflatten`` are written once.

    >>> layout = Layout.of({"w": torch.zeros(2, 3), "b": torch.zeros(2)})
    >>> layout.size
    8
    >>> {name: tuple(view.shape) for name, view in layout.unflatten(torch.zeros(5, 8)).items()}
    {'w': (5, 2, 3), 'b': (5, 2)}
    """

    names: tuple[str, ...]
    shapes: tuple[torch.Size, ...]

    @classmethod
    def of(cls, parameters: Mapping[str, Tensor]) -> "Layout":
        """Returns the layout of the parameters in their order."""
        return cls(tuple(parameters), tuple(p.shape for p in parameters.values()))

    @classmethod
    def of_model(cls, model: nn.Module) -> "Layout":
        """Returns the layout of the model's trainable parameters; shared ones stand once."""
        return cls.of({name: p for name, p in model.named_parameters() if p.requires_grad})

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of elements of each parameter."""
        return tuple(shape.numel() for shape in self.shapes)

    @property
    def size(self) -> int:
        """Number of elements in all."""
        return sum(self.sizes)

    def flatten(self, parameters: Mapping[str, Tensor]) -> Tensor:
        """Returns a new flat tensor ``(..., size)`` with the parameters' values copied in."""
        lead = []
        for n, s in zip(self.names, self.shapes, strict=True):
            shape = parameters[n].shape
            if shape[len(shape) - len(s) :] != s:
                raise ValueError(f"{n} is {tuple(shape)}, where the layout has {tuple(s)}")
            lead.append(shape[: len(shape) - len(s)])
        return torch.cat([parameters[n].reshape(*b, -1) for n, b in zip(self.names, lead, strict=True)], dim=-1)

    def unflatten(self, flat: Tensor) -> dict[str, Tensor]:
        """Returns views of the flat tensor ``(..., size)`` under the parameters' names and shapes."""
        if flat.shape[-1] != self.size:
            raise ValueError(f"the vector is {tuple(flat.shape)}, where the layout has {self.size} numbers")
        ends = accumulate(self.sizes)
        return {
            name: flat[..., end - size : end].view((*flat.shape[:-1], *shape))
            for name, shape, size, end in zip(self.names, self.shapes, self.sizes, ends, strict=True)
        }
