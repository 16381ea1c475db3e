"""The state of an optimizer with a rule, as it is saved, loaded, copied and pickled."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from thalweg.averaging import Average
from thalweg.optim.entries import HALF, Group, scalar_dtype, state_dtype
from thalweg.optim.points import Points
from thalweg.optim.settings import OPTIONS, check_settings


class Stored(Points):
    """An optimizer whose state keeps its types through files and copies.

    Attributes:
        average: of the parameters, which has its own state.
        betas: how many numbers the setting of that name is, where there is one.
    """

    average: Average | None = None
    betas = 2

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Loads a state, this library's or torch's; float32 state of half-precision parameters stays float32."""
        made: dict[str, Any] = {}  # by the hooks that are there: it is theirs to reorder, rename and drop parameters

        def restore(_: Optimizer) -> None:
            given = [i for group in made["param_groups"] for i in group["params"]]
            own = [(p, group) for group in self.param_groups for p in group["params"]]
            for index, (p, group) in zip(given, own, strict=True):
                self._restore(p, group, made["state"].get(index, {}))

        last = self.register_load_state_dict_pre_hook(lambda _, given: made.update(given))
        first = self.register_load_state_dict_post_hook(restore, prepend=True)
        try:
            super().load_state_dict(state_dict)
        finally:
            last.remove()
            first.remove()

    def _restore(self, p: Tensor, group: Group, given: Mapping[str, Any]) -> None:
        """Gives the parameter's loaded state the types that were saved, where torch has cast them."""
        rule = self.form_of(group)
        held = (*rule.buffers, *rule.factor_names)
        for name, value in given.items():
            if name in rule.scalar_state:
                where = p.device if group["capturable"] else "cpu"
                self.state[p][name] = torch.as_tensor(value).to(where, scalar_dtype(name), copy=True)
            elif name in held and isinstance(value, Tensor) and (p.dtype in HALF or value.is_sparse):
                dense = value.to_dense() if value.is_sparse else value
                self.state[p][name] = dense.to(p.device, state_dtype(p), copy=True)

    def __getstate__(self) -> dict[str, Any]:
        own = ("average", "gradient_norm", "rule")  # and nothing that schedulers and scalers hang on an optimizer
        return {**super().__getstate__(), **{name: vars(self)[name] for name in own if name in vars(self)}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for group in state["param_groups"]:  # of a copy, or of what is loaded, which is refused before it is taken on
            check_settings(group, self.betas)
        super().__setstate__(state)
        for group in self.param_groups:
            for key, value in {**OPTIONS, **self.defaults}.items():
                group.setdefault(key, value)
        for entries in self.state.values():
            if "step" in entries and not isinstance(entries["step"], Tensor):
                entries["step"] = torch.tensor(float(entries["step"]), dtype=scalar_dtype())
