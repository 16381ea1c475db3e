"""What families that draw have in common: a generator whose state is theirs."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Generator


class Drawing:
    """Holds the generator, torch's global one where it is None, and gives its state to checkpoints."""

    def __init__(self, generator: Generator | None) -> None:
        self.generator = generator

    @property
    def device(self) -> torch.device:
        """Where is drawn."""
        return torch.device("cpu") if self.generator is None else self.generator.device

    def state_dict(self) -> dict[str, Any]:
        """Returns the state of the generator, None for the global one."""
        return {"generator": None if self.generator is None else self.generator.get_state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes a state on.

        Raises:
            ValueError: the state is that of no generator, or there is none here to take it on.
        """
        if (state["generator"] is None) != (self.generator is None):
            raise ValueError(
                "the state and this family differ in generator=: pass one exactly if one was passed when it was saved"
            )
        if self.generator is not None:
            self.generator.set_state(state["generator"])
