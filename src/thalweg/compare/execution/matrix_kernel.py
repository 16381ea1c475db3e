"""The kernel of a rule for matrices with its partner: matrices of one shape, of all lanes, are one stack."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from thalweg.averaging import averaged
from thalweg.compare.execution.kernel_layout import AVERAGE, Slot, columns_of, spread
from thalweg.rules.matrix_rule import OF_MATRIX, REFRESH, Partnered
from thalweg.rules.rule import apply, spared
from thalweg.tensors.compiling import compiled
from thalweg.tensors.places import Places

OF_MATRICES = "matrix_"  # begins the names of a matrix rule's slots beside its partner's


def partnered_slots(rule: Partnered, places: Places) -> dict[str, Slot]:
    """Returns the slots of the partner's state, and of that of the matrices, stack after stack."""
    found = {name: Slot(initial, places.rest_size) for name, initial in rule.buffers.items()}
    for forms, stack in zip(_forms(rule, places), places.stacks, strict=True):
        for name, (rows, columns) in forms.items():
            before = found.get(OF_MATRICES + name, Slot(rule.matrix.buffers.get(name, 0.0), 0))
            size = (before.size or 0) + len(stack.starts) * rows * columns
            found[OF_MATRICES + name] = before._replace(size=size)
    return found


def _forms(rule: Partnered, places: Places) -> list[dict[str, tuple[int, int]]]:
    """Returns the form of each state of a matrix, stack by stack."""
    shapes = [(stack.rows, stack.columns) for stack in places.stacks]
    return [{**dict.fromkeys(rule.matrix.buffers, shape), **rule.matrix.factors(*shape)} for shape in shapes]


class MatrixKernel:
    """Steps rows ``(K, n)`` in place, as :func:`thalweg.compare.execution.kernels.update_kernel` says.

    What is due seldom is not compiled, and done for the rows for which it is due; the host reads which those are.
    """

    def __init__(
        self,
        rule: Partnered,
        names: Sequence[str],
        decayed: Tensor,
        places: Places,
        compile_: bool,
        setting_of: Tensor | None = None,
    ) -> None:
        self.rule, self.places, self.decayed = rule, places, places.others(decayed)
        self.slots, self.forms = tuple(partnered_slots(rule, places)), _forms(rule, places)
        columns = columns_of(names)
        self.due = columns.get(OF_MATRIX + REFRESH, [None])[0]
        rest = None if setting_of is None else places.others(setting_of)
        others = {name: own for name, own in columns.items() if not name.startswith(OF_MATRIX)}
        self._of_rest = spread(others, self.decayed, rest, compile_)
        numbers = [0] * places.size if setting_of is None else setting_of.tolist()
        matrices = {n.removeprefix(OF_MATRIX): own for n, own in columns.items() if n.startswith(OF_MATRIX)}
        self._of_stacks = [
            {name: [own[min(numbers[at], len(own) - 1)] for at in stack.starts] for name, own in matrices.items()}
            for stack in places.stacks
        ]

        def step(params: Tensor, grads: Tensor, buffers: Sequence[Tensor], coefficients: Tensor) -> None:
            self._stepped(params, grads, buffers, coefficients)

        self._step = compiled(step, decayed.device, unguarded=True) if compile_ else step

    def __call__(self, params: Tensor, grads: Tensor, buffers: Sequence[Tensor], coefficients: Tensor) -> None:
        """Takes one step of every row."""
        if self.due is not None:
            self._refresh(grads, buffers, coefficients, coefficients[:, self.due].tolist())
        self._step(params, grads, buffers, coefficients)

    def _refresh(self, grads: Tensor, buffers: Sequence[Tensor], coefficients: Tensor, due: Sequence[float]) -> None:
        """Does what comes before a step: the gathering of all rows, and refreshes of those that are due."""
        stacks, _ = self.places.parts(grads)
        for i, (grad, state) in enumerate(zip(stacks, self._states(buffers), strict=True)):
            own = self._of_stack(i, coefficients)
            _write(state, self.rule.matrix.gather(grad, state, own))
            for which in sorted({int(number) for number in due if number >= 1}):
                rows = [row for row, number in enumerate(due) if number == which]
                if len(rows) == len(due):
                    _write(state, self.rule.matrix.refresh(which, state, own))
                else:
                    part = {name: held[rows] for name, held in state.items()}
                    theirs = {name: value[rows] for name, value in own.items()}
                    for name, value in self.rule.matrix.refresh(which, part, theirs).items():
                        if value is not part[name]:
                            state[name][rows] = value

    def _stepped(self, params: Tensor, grads: Tensor, buffers: Sequence[Tensor], coefficients: Tensor) -> None:
        rule, new = self.rule, []
        stacks, rest = self.places.parts(params)
        directions, others = self.places.parts(grads)
        for i, state in enumerate(self._states(buffers)):
            after, held = apply(rule.matrix, stacks[i], directions[i], state, self._of_stack(i, coefficients))
            _write(state, held)
            new.append(after)
        c = self._of_rest(coefficients)
        c["decay"] = spared(rule, c["decay"], self.decayed)
        state = dict(zip(rule.buffers, buffers, strict=False))
        rest, held = apply(rule, rest, others, state, c)
        _write(state, held)
        flat = self.places.whole(new, rest)
        params.copy_(flat)
        if AVERAGE in c:
            buffers[-1].copy_(averaged(buffers[-1], flat, c[AVERAGE]))

    def _of_stack(self, stack: int, coefficients: Tensor) -> dict[str, Tensor]:
        """Returns the coefficients of a stack's matrices ``(K, 1, 1, 1)``; ``(K, count, 1, 1)`` where they differ."""
        found = {}
        for name, places in self._of_stacks[stack].items():
            own = places if len(set(places)) > 1 else places[:1]
            found[name] = torch.stack([coefficients[:, place] for place in own], 1)[:, :, None, None]
        return found

    def _states(self, buffers: Sequence[Tensor]) -> list[dict[str, Tensor]]:
        """Returns the state of each stack, as views of the slots."""
        found: list[dict[str, Tensor]] = [{} for _ in self.forms]
        for slot, held in zip(self.slots, buffers, strict=False):
            if slot.startswith(OF_MATRICES):
                name = slot.removeprefix(OF_MATRICES)
                for state, part in zip(found, self.places.split(held, self.forms, name), strict=True):
                    if part is not None:
                        state[name] = part
        return found


def _write(state: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    """Writes values into the state in place, where they are others."""
    for name, value in values.items():
        if value is not state[name]:
            state[name].copy_(value)
