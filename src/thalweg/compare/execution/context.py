"""What all engines share about a task on a device."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from thalweg.compare.strategy.variants import INITIALIZATIONS
from thalweg.compare.task import Examples, Split, Task, build_model
from thalweg.compare.user_errors import TaskError
from thalweg.initialization import initialize
from thalweg.optim.decay import Decay, is_weight
from thalweg.tensors import Layout, derive_seed, generator
from thalweg.tensors.private import write_count


class TaskContext:
    """What all engines share about a task on a device: data, layout, starts, batches, evaluation.

    ``decay`` says to what all strategies apply weight decay; ``decayed`` ``(n,)`` is 1 for those parameters.
    """

    def __init__(self, task: Task, data: Examples, device: torch.device, decay: Decay = "all") -> None:
        self.task, self.decay = task, decay
        self.device = device
        self.data = data.map(lambda tensor: tensor.to(device))
        self._versions = self._versions_now()
        self.model = self.fresh_model("default", 0)
        self.layout = Layout.of_model(self.model)
        self.sign = -1.0 if task.direction == "max" else 1.0
        named = dict(self.model.named_parameters())
        has_decay = {name: torch.full_like(named[name], decay == "all" or is_weight(named[name])) for name in named}
        self.decayed = self.layout.flatten({name: has_decay[name].detach() for name in self.layout.names})
        self._starts: dict[tuple[str, int], Tensor] = {}
        self._orders: dict[int, _Order] = {}
        self._cache: dict[tuple[Any, ...], Any] = {}

    def fresh_model(self, scheme: str, seed: int) -> nn.Module:
        """Returns the model as initialized by the scheme under the seed, drawn on the CPU, on the device."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(seed, "model"))
            model = build_model(self.task)
        if scheme != "default" or (isinstance(self.task.model, nn.Module) and not self.task.is_given):
            batch = self.data.train.first(self.task.batch_size).input.to("cpu")
            name, gain = INITIALIZATIONS.get(scheme, (scheme, None))
            initialize(model, name, generator(seed, "initialization"), gain=gain, batch=batch)
        return model.to(self.device)

    def start(self, scheme: str, seed: int) -> Tensor:
        """Returns the flat initial parameters ``(n,)``: the same for every strategy of that scheme and seed."""
        key = (scheme, seed)
        if key not in self._starts:
            named = dict(self.fresh_model(scheme, seed).named_parameters())
            self._starts[key] = self.layout.flatten({name: named[name].detach() for name in self.layout.names})
        return self._starts[key]

    def cached(self, key: tuple[Any, ...], make: Callable[[], Any]) -> Any:
        """Returns the value cached under a key, which is made where there is none yet."""
        if key not in self._cache:
            self._cache[key] = make()
        return self._cache[key]

    def cache(self, key: tuple[Any, ...], value: Any, most: int) -> None:
        """Caches a value under a key; of keys of that kind only the ``most`` last used stay."""
        self._cache.pop(key, None)
        self._cache[key] = value
        alike = [other for other in self._cache if other[0] == key[0]]
        for other in alike[: max(0, len(alike) - most)]:
            del self._cache[other]

    def batches(self, seed: int, start: int, stop: int) -> Tensor:
        """Returns row numbers ``(stop - start, batch)`` of the minibatches: the same for every strategy."""
        if seed not in self._orders:
            self._orders[seed] = _Order(seed, len(self.data.train), self.task.batch_size)
        return self._orders[seed].rows(start, stop).to(self.device)

    def usual_loss(self) -> float:
        """Returns the mean |loss| of single outputs of the untrained model by other examples' targets, 0 without one.

        A batch's loss may be about zero by chance, or since the model has learned its targets; this one is not.
        """
        return float(self.cached(("usual loss",), self._usual_loss))

    @torch.no_grad()
    def _usual_loss(self) -> float:
        model, some = self.fresh_model("default", 0).eval(), self.data.train.first(16)
        count = len(some)
        try:
            output, target = model(some.input), some.target.roll(1, 0)
            found = [abs(float(self.task.loss(output[i : i + 1], target[i : i + 1]))) for i in range(count)]
        except Exception:  # a loss that takes whole batches, say
            return 0.0
        return sum(found) / count if all(map(math.isfinite, found)) else 0.0

    def check_data(self) -> None:
        """Raises TaskError where the data are no longer those that all trials are to be given."""
        if self._versions_now() != self._versions:
            raise TaskError(
                "the model, the loss or the metric has modified the data that all trials share: do not modify "
                "inputs in place (write x = x / 255 instead of x /= 255), and start the study again"
            )

    def _versions_now(self) -> list[int]:
        return [write_count(tensor) for tensor in self.data.tensors()]

    def evaluate(self, model: nn.Module, split: Split) -> tuple[float, float]:
        """Returns (loss, metric) of the model in eval mode, over all examples of a part of the data."""
        loss, metric = split.evaluate(model.eval(), self.score, chunk=4096)
        return float(loss), float(metric)

    def score(self, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Returns (loss, metric) of one model's output."""
        return self.task.loss(output, target), self.task.score(output, target)


class _Order:
    """Row numbers of the minibatches of one seed: a new permutation each epoch, the short last batch dropped."""

    def __init__(self, seed: int, rows: int, batch: int) -> None:
        self.seed, self.count, self.batch = seed, rows, batch
        self.per_epoch = rows // batch
        self.epochs: dict[int, Tensor] = {}

    def epoch(self, number: int) -> Tensor:
        if number not in self.epochs:
            if len(self.epochs) > 64:
                self.epochs.clear()
            order = torch.randperm(self.count, generator=generator(self.seed, "order", number))
            self.epochs[number] = order[: self.per_epoch * self.batch].view(self.per_epoch, self.batch)
        return self.epochs[number]

    def rows(self, start: int, stop: int) -> Tensor:
        pieces = []
        while start < stop:
            number, offset = divmod(start, self.per_epoch)
            piece = self.epoch(number)[offset : offset + stop - start]
            pieces.append(piece)
            start += len(piece)
        return torch.cat(pieces)
