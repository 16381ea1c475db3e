"""Whether all is as it was at the last step but for the gradients: what they hold, and where they lie."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import repeat
from operator import attrgetter, ge, is_, itemgetter
from typing import Any

from torch import Tensor, UntypedStorage

from thalweg.optim.entries import Work
from thalweg.optim.points import MODE
from thalweg.optim.settings import check_options
from thalweg.rules.rule import Rule
from thalweg.tensors.form import KnownForms, extent

_CONSTANT = (float, int, bool, str, tuple, type(None), Tensor)  # what holds the same as long as it is the same
_GRADIENT = attrgetter("grad")
_OPTIONS = itemgetter("engine", "maximize", "decay", "skip_nonfinite", "capturable", "differentiable")


class Steady:
    """What an optimizer's step found: groups, parameters, state, means, their forms and their addresses.

    On a GPU memory cannot shrink where it is, so that what lies where it lay, with the form that it had, is all there.

    Arguments:
        optimizer: it, after the step.
        work: what it stepped, all by kernels.
    """

    def __init__(self, optimizer: Any, work: Work) -> None:
        self._average = optimizer.average
        self._means = list(self._average.means.values()) if self._average else []
        self._state, self._states = optimizer.state, list(optimizer.state.values())
        self._groups = [(group, list(group["params"]), _options(group), rule) for group, rule, _ in work]
        self._settings = [list(group.values()) for group, _, _ in work]
        self._constant = all(type(value) in _CONSTANT for values in self._settings for value in values[1:])
        self.hypers = [optimizer.hyper_of(group) for group, _, _ in work]
        entries = [e for _, _, own in work for e in own]
        stepped = {id(e.p) for e in entries}
        self._params = [e.p for e in entries]
        self._others = [p for _, params, _, _ in self._groups for p in params if id(p) not in stepped]
        places = [(e.state, name) for _, rule, own in work for e in own for name in _names(rule, e.state)]
        self._places = [state for state, _ in places], [name for _, name in places]
        self._held = list(map(dict.get, *self._places))
        buffers = [e.state[name] for _, rule, own in work for e in own for name in rule.buffers]
        self._fixed = [*self._params, *(e.mean for e in entries if e.mean is not None), *buffers]
        self._addresses = list(map(Tensor.data_ptr, self._fixed))
        grads = [e.grad for e in entries]
        self._ends = [grad.storage_offset() * grad.itemsize + extent(grad) for grad in grads]
        self._begins = list(map(Tensor.storage_offset, grads))
        self._forms = KnownForms()
        self._forms.note([*self._fixed, *grads])

    def gradients(self, optimizer: Any) -> Sequence[Tensor] | None:
        """Returns the gradients of the parameters where all is as it was; else None.

        Most of it is done by functions that C runs over lists, since this is what a small model's step waits for.

        Raises:
            ValueError: an option that there is not.
        """
        average = optimizer.average
        if optimizer.state is not self._state or average is not self._average or not self._same_groups(optimizer):
            return None
        if not _same(list(self._state.values()), self._states) or not _same(map(dict.get, *self._places), self._held):
            return None
        if average is not None and not _same(list(average.means.values()), self._means):
            return None
        if self._others and any(p.grad is not None for p in self._others):
            return None
        grads: list[Any] = list(map(_GRADIENT, self._params))
        if any(map(is_, grads, repeat(None))) or list(map(Tensor.data_ptr, self._fixed)) != self._addresses:
            return None
        if not self._forms.same_but_for_storages([*self._fixed, *grads]):
            return None
        if list(map(Tensor.storage_offset, grads)) != self._begins:
            return None
        sizes = map(UntypedStorage.nbytes, map(Tensor.untyped_storage, grads))
        return grads if all(map(ge, sizes, self._ends)) else None

    def _same_groups(self, optimizer: Any) -> bool:
        """Says whether the groups have the same parameters and rules; reads hyperparameters anew that have changed."""
        groups = optimizer.param_groups
        if len(groups) != len(self._groups):
            return False
        for i, (given, (group, params, options, rule)) in enumerate(zip(groups, self._groups, strict=True)):
            if given is not group or not _same(given["params"], params):
                return False
            values = list(given.values())
            if self._constant and _same(values, self._settings[i]):
                continue
            check_options(given)
            if _options(given) != options or optimizer.form_of(given) != rule:
                return False
            hyper = optimizer.hyper_of(given)
            if _kinds(hyper) != _kinds(self.hypers[i]):
                return False
            self._settings[i], self.hypers[i] = values, hyper
        return True


def _same(given: Iterable[Any], known: Sequence[Any]) -> bool:
    """Says whether both hold the same objects; of an iterator it is known that they are as many."""
    return (not isinstance(given, list) or len(given) == len(known)) and all(map(is_, given, known))


def _options(group: Any) -> tuple[Any, ...]:
    decay = group["weight_decay"]
    none = isinstance(decay, (int, float)) and decay == 0
    return *_OPTIONS(group), group.get(MODE, True), group["clip_norm"] is None, none


def _kinds(hyper: Mapping[str, Any]) -> list[Any]:
    return [(v.dtype, v.device) if isinstance(v, Tensor) else None for v in hyper.values()]


def _names(rule: Rule, state: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns the names of what a kernel reads of the state, or could."""
    return *rule.scalar_state, *rule.buffers, "step", *(["skipped"] if "skipped" in state else [])
