"""What all engines share about a task on a device."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from thalweg.compare.execution.attributes import Attributes
from thalweg.compare.execution.divergence import shuffle
from thalweg.compare.strategy.variants import INITIALIZATIONS
from thalweg.compare.task import Examples, Split, Task, build_model
from thalweg.compare.task.evaluation import LOSS, evaluated, metric_in
from thalweg.compare.task.examples import HeldSplit, input_of, target_of
from thalweg.compare.task.grouping import Setting, matched
from thalweg.compare.user_errors import TaskError
from thalweg.initialization import initialize
from thalweg.optim.decay import Decay, is_weight
from thalweg.optim.roles import MATRICES, Role, parameter_roles
from thalweg.rules import Partnered, Rule
from thalweg.tensors import Layout, derive_seed, generator
from thalweg.tensors.draws import own_draws, seed_torch
from thalweg.tensors.places import Places
from thalweg.tensors.private import write_count

SOME = 4  # batches of which the usual loss of a step is the largest
USUAL = 16  # examples of which the usual loss is the mean
EVALUATION = 1  # seed of what an evaluation draws: the same each time


class TaskContext:
    """What all engines share about a task on a device: data, layout, starts, batches, evaluation.

    ``decay`` says to what all strategies apply weight decay; ``decayed`` ``(n,)`` is 1 for those parameters.
    ``settings`` are those that parameters have of their own, and ``setting_of`` ``(n,)`` says which of them each has.
    """

    def __init__(self, task: Task, data: Examples, device: torch.device, decay: Decay = "all") -> None:
        self.task, self.decay = task, decay
        self.device = device
        self.data = data.to(device)
        self._versions = self._versions_now()
        self.model = self.fresh_model("default", 0)
        self.layout = Layout.of_model(self.model)
        self.kept = Attributes(self.model)
        self.sign = -1.0 if task.direction == "max" else 1.0
        named = dict(self.model.named_parameters())
        has_decay = {name: torch.full_like(named[name], decay == "all" or is_weight(named[name])) for name in named}
        self.decayed = self.layout.flatten({name: has_decay[name].detach() for name in self.layout.names})
        self.settings, self.setting_of = self._settings(named)
        self._starts: dict[tuple[str, int], Tensor] = {}
        self._cache: dict[tuple[Any, ...], Any] = {}

    def _settings(self, named: Mapping[str, nn.Parameter]) -> tuple[tuple[Setting, ...], Tensor]:
        """Returns the different settings, and which of them each of the flat parameters ``(n,)`` has."""
        own = self.task.grouping.settings(self.model)
        distinct = list(dict.fromkeys(own[id(named[name])] for name in self.layout.names))
        numbers = [
            torch.full((named[name].numel(),), distinct.index(own[id(named[name])])) for name in self.layout.names
        ]
        return tuple(distinct), torch.cat(numbers).to(self.device)

    def fresh_model(self, scheme: str, seed: int) -> nn.Module:
        """Returns the model as initialized by the scheme under the seed, drawn on the CPU, on the device."""
        with torch.random.fork_rng(devices=[]):
            seed_torch(derive_seed(seed, "model"))
            model = build_model(self.task)
        if scheme != "default" or (isinstance(self.task.model, nn.Module) and not self.task.is_given):
            batch = None
            if self.task.step is None:
                batch = input_of(self.data.train.head(self.task.batch_size)).to("cpu")
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
        """Returns rows ``(stop - start, …)`` that name the minibatches: the same for every strategy."""
        k = self.task.accumulate
        rows = self.data.train.rows(seed, k * start, k * stop, self.task.batch_size)
        return rows if k == 1 else rows.unflatten(0, (stop - start, k))

    @property
    def roles(self) -> dict[str, Role]:
        """What each trained parameter is to the model, as a training step shows it, by name."""
        found: dict[str, Role] = self.cached(("roles",), self._roles)
        return found

    def _roles(self) -> dict[str, Role]:
        def run(model: nn.Module) -> None:
            with own_draws(0), torch.enable_grad():
                self.task.loss_and_output(model.train(), self.data.train.head(self.task.batch_size))

        model, named = self.fresh_model("default", 0), dict[str, str]()
        names = {id(p): name for name, p in model.named_parameters()}
        for pattern, role in self.task.roles.items():
            named |= {names[key]: role for key, _ in matched(pattern, model, "roles")}
        found = parameter_roles(model, run, named)
        return {name: found[name] for name in self.layout.names}

    def places(self, rule: Rule) -> Places:
        """Returns where the flat parameters have matrices, as far as the rule takes them as such."""
        if not isinstance(rule, Partnered):
            return Places.of(self.layout, ())
        return Places.of(self.layout, [name for name, role in self.roles.items() if role in MATRICES])

    def parts(self, rows: Tensor) -> Tensor:
        """Returns the rows ``(k, …)`` of the minibatches whose gradients make one step."""
        return rows if self.task.accumulate > 1 else rows[None]

    @property
    def steps_per_epoch(self) -> float:
        """The number of minibatches of an epoch; infinite for a stream."""
        return self.data.train.steps_per_epoch(self.task.batch_size) / self.task.accumulate

    @property
    def pairs(self) -> HeldSplit:
        """The training examples of a task of pairs, in memory, which guidance takes.

        Raises:
            TaskError: they are something else.
        """
        if self.task.step is not None or not isinstance(self.data.train, HeldSplit):
            raise TaskError(
                "guided strategies take pairs (input, target) in memory: give loss in place of step, and "
                "Task(resident=True), or compare other strategies"
            )
        if changed := self.task.stepping:
            raise TaskError(
                f"guided strategies train without {', '.join(changed)}: omit it, or compare other strategies"
            )
        return self.data.train

    def unsaved(self) -> list[str]:
        """Returns the names of what the model changes in a step and no trial can save."""
        return list(self.cached(("unsaved",), self._unsaved))

    def _unsaved(self) -> list[str]:
        model = self.fresh_model("default", 0).train()
        with own_draws(0):
            for row in self.parts(self.batches(0, 0, 1)[0]):
                self.task.loss_and_output(model, self.data.train.batch(row))
        return self.kept.unsaved(model)

    def is_random(self) -> bool:
        """Returns whether a training step draws random numbers, as dropout does."""
        return bool(self.cached(("is random",), self._draws))

    def _draws(self) -> bool:
        model = self.fresh_model("default", 0).train()
        with torch.random.fork_rng():
            before = self._generator_state()
            with torch.set_grad_enabled(self.task.step is not None):  # a step may differentiate
                self.task.loss_and_output(model, self.data.train.head(self.task.batch_size))
            return not torch.equal(before, self._generator_state())

    def _generator_state(self) -> Tensor:
        return torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else torch.get_rng_state()

    def usual_loss(self) -> float:
        """Returns the mean |loss| of single outputs of the untrained model by other examples' targets, 0 without one.

        Of a task with a step of its own it is the largest loss of a few batches, also after the weights are shuffled.
        A batch's loss may be about zero by chance, or since the model has learned its targets; this one is not.
        """
        return float(self.cached(("usual loss",), self._usual_loss))

    @torch.no_grad()
    def _usual_loss(self) -> float:
        loss = self.task.loss
        if loss is None:
            model = self.fresh_model("default", 0).train()
            batches = [self.data.train.batch(row) for rows in self.batches(0, 0, SOME) for row in self.parts(rows)]
            with own_draws(0), torch.enable_grad():  # a step may differentiate
                found = [abs(float(self.task.evaluation_loss(model, batch).detach())) for batch in batches]
                shuffle(model)
                found += [abs(float(self.task.evaluation_loss(model, batch).detach())) for batch in batches]
            return max(filter(math.isfinite, found), default=0.0)
        model, some = self.fresh_model("default", 0).eval(), self.data.train.head(USUAL)
        try:
            output, target = model(input_of(some)), target_of(some).roll(1, 0)
            count = min(USUAL, len(target))
            found = [abs(float(loss(output[i : i + 1], target[i : i + 1]))) for i in range(count)]
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
        model.eval()
        if self.task.step is None:
            loss, metric = split.evaluate(self._outputs(model), self.score, chunk=4096 if split.tensors() else None)
            return float(loss), float(metric)
        with own_draws(EVALUATION):
            values = evaluated(self.task, model, split.chunks())
        judged = values[metric_in(self.task, values)]
        return values.get(LOSS, judged), judged

    def _outputs(self, model: nn.Module) -> Callable[[Any], Any]:
        """Returns what gives the model's outputs in the task's precision, widened to be scored."""
        if self.task.precision == "fp32":
            return model

        def outputs(x: Any) -> Any:
            with self.task.autocast(x):
                return model(x).float()

        return outputs

    def score(self, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Returns (loss, metric) of one model's output."""
        assert self.task.loss is not None
        return self.task.loss(output, target), self.task.score(output, target)
