"""FitNets: a thin deep student is first led to a layer of its teacher half-way, and then to its softened answers.

    stage 1:  ½ ‖h_T(x) − r(g_S(x))‖²                        mean over examples; r and the student up to g are trained
    stage 2:  H(y, p_S) + λ(t) H(p_T^τ, p_S^τ),  p^τ = softmax(a / τ)      the whole student

====== ===================== =========================================
symbol argument              meaning
====== ===================== =========================================
h_T    ``hint``              a layer of the teacher
g_S    ``guided``            the student's layer that is led to it
r      ``regressor``         from the one's shape to the other's
τ      ``temperature``       softens both answers
λ      ``weight``            of the softened answers, at start and end
====== ===================== =========================================

Source: Deep Learning, §8.7.4; Romero, Ballas, Kahou, Chassang, Gatta & Bengio 2014; Hinton, Vinyals & Dean 2015.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy

from thalweg.architecture.linear_start import draw_seed
from thalweg.pretraining.regressor import regressor_for
from thalweg.pretraining.stage_data import few_examples, tensors_of, with_tensors
from thalweg.stages import Around, Plan, Stage
from thalweg.stages.stage import loss_of
from thalweg.tensors.as_trained import eval_mode
from thalweg.tensors.parts import check_layer, watched
from thalweg.tensors.ranges import is_within

CHUNK = 1024  # examples that pass through the teacher at a time


class Guided(nn.Module):
    """A student and its regressors; it computes what the student does."""

    def __init__(self, student: nn.Module, regressors: Sequence[nn.Module]) -> None:
        super().__init__()
        self.student, self.regressors = student, nn.ModuleList(regressors)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Returns the student's own output."""
        return self.student(*args, **kwargs)


class HintTraining:
    """How a student learns from a teacher; :meth:`plan` says it in stages.

    The teacher runs in eval mode and without gradients, is not part of the plan's module and is left as it is.

    Arguments:
        teacher: a trained module, from a batch's inputs to logits, with classes on dimension 1.
        student: a module of the same inputs and outputs.
        hint: name of the teacher's layer, or of several.
        guided: name of the student's layer, or of as many.
        regressor: a module, or one for each pair; ``"auto"`` fits linear or convolutional ones to the shapes.
        temperature: τ.
        weight: λ, from the first step to the last of stage 2, linearly; 0 leaves the teacher's answers out.
        cache: bytes that the teacher's outputs may take over all examples, in each stage; 0 runs it at each step.
        generator: source of the regressors' weights, on the CPU; torch's global one by default.

    Raises:
        ValueError: layers that do not exist; as many hints as guided layers are not given; a student that shares
            memory with its teacher; a temperature or weight out of range.

    >>> from functools import partial
    >>> from thalweg.stages import Batches, supervised
    >>> teacher = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 3))
    >>> student = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3))
    >>> data = Batches(torch.randn(60, 4), torch.randint(3, (60,)), batch_size=20)
    >>> stage = Stage(objective=supervised(cross_entropy), data=data,
    ...               optimizer=partial(torch.optim.SGD, lr=0.1), steps=100, name="student")
    >>> print(HintTraining(teacher, student, hint="1", guided="3").plan(stage, steps=50))
    hints: 50 steps
    student: 100 steps

    Source: Deep Learning, §8.7.4; Romero et al. 2014, whose τ is 3 and λ falls from 4 to 1.
    """

    def __init__(
        self,
        teacher: nn.Module,
        student: nn.Module,
        hint: str | Sequence[str],
        guided: str | Sequence[str],
        regressor: nn.Module | Sequence[nn.Module] | Literal["auto"] = "auto",
        *,
        temperature: float = 3.0,
        weight: tuple[float, float] = (4.0, 1.0),
        cache: int = 2**30,
        generator: Generator | None = None,
    ) -> None:
        self.hint = [hint] if isinstance(hint, str) else list(hint)
        self.guided = [guided] if isinstance(guided, str) else list(guided)
        if not self.hint or len(self.hint) != len(self.guided):
            raise ValueError(
                f"{len(self.hint)} hints for {len(self.guided)} guided layers: name one hint for each guided layer"
            )
        for model, names, owner in ((teacher, self.hint, "the teacher"), (student, self.guided, "the student")):
            for name in names:
                check_layer(model, name, owner)
        if not (is_within(temperature, 0) and temperature > 0 and all(is_within(w, 0) for w in weight)):
            raise ValueError(
                f"temperature is {temperature} and weight {weight}: give a temperature above 0 and a weight of at "
                "least 0"
            )
        in_teacher = {t.untyped_storage().data_ptr(): name for name, t in _tensors(teacher)}
        shared = next((n for n, t in _tensors(student) if t.untyped_storage().data_ptr() in in_teacher), None)
        if shared is not None:
            raise ValueError(f"the student's {shared!r} shares memory with the teacher: pass copy.deepcopy(teacher)")
        self.regressors: list[nn.Module] | None = None
        if not isinstance(regressor, str):
            self.regressors = [regressor] if isinstance(regressor, nn.Module) else list(regressor)
            if len(self.regressors) != len(self.hint):
                raise ValueError(f"{len(self.regressors)} regressors for {len(self.hint)} hints: pass one for each")
        elif regressor != "auto":
            raise ValueError(f"unknown regressor {regressor!r}: pass auto or a module")
        self.teacher, self.student, self.generator = teacher, student, generator
        self.temperature, self.weight, self.cache = temperature, weight, cache

    def plan(self, stage: Stage, steps: int) -> Plan:
        """Returns the plan: a stage of hints, and then ``stage`` with the teacher's answers beside its objective.

        Arguments:
            stage: trains the student alone; its objective calls the model once on a batch's inputs, as
                :func:`~thalweg.stages.supervised` does.
            steps: of the stage of hints; 0 leaves it out, for distillation alone.

        Returns:
            A :class:`~thalweg.stages.Plan` for a module with ``student`` and ``regressors``; the student itself is
            trained.

        Raises:
            ValueError: layers that do not run, or that no regressor joins; answers of different shapes.
        """
        inputs = few_examples(stage.data, self.student)
        with eval_mode(self.teacher), eval_mode(self.student):
            hints, answer = outputs_at(self.teacher, self.hint, inputs, whole=True)
            guided, logits = outputs_at(self.student, self.guided, inputs, whole=True)
            if not isinstance(answer, Tensor) or not isinstance(logits, Tensor) or answer.shape != logits.shape:
                raise ValueError(
                    f"the teacher outputs {_shape(answer)} and the student {_shape(logits)}: give both the same outputs"
                )
            regressors = self.regressors or [
                regressor_for(g, h, draw_seed(self.generator)) for g, h in zip(guided, hints, strict=True)
            ]
            for r, g, h, name in zip(regressors, guided, hints, self.guided, strict=True):
                if (found := _shape(r(g))) != tuple(h.shape):
                    raise ValueError(f"the regressor of {name!r} gives {found}, and the hint is {tuple(h.shape)}")
        validate = stage.validate
        rates = {f"student.{name}": rate for name, rate in stage.rates.items()}
        trainable = None if stage.trainable is None else [f"student.{name}" for name in stage.trainable]
        taught = replace(
            stage,
            objective=self._answers(stage, stage.total_steps(stage.data)),
            data=self._given(stage.data, [answer], self._answer),
            trainable=["student"] if trainable is None else trainable,
            rates=rates,
            validate=None if validate is None else lambda both: validate(both.student),
        )
        if not steps:
            return Plan(Guided(self.student, regressors), [taught])
        led = replace(
            stage,
            name="hints",
            steps=steps,
            epochs=None,
            rates=rates,
            validate=None,
            early_stopping=None,
            objective=self._led,
            data=self._given(stage.data, hints, self._hints),
            trainable=None if trainable is None else [*trainable, "regressors"],
        )
        return Plan(Guided(self.student, regressors), [led, taught])

    def _led(self, both: Any, batch: Any, step: int) -> Tensor:
        """Returns Σ ½‖h_T − r(g_S)‖² over the hints, mean over the examples."""
        inputs, _, *hints = batch
        hints = hints or self._hints(inputs)
        guided, _ = outputs_at(both.student, self.guided, inputs)
        pairs = zip(hints, guided, both.regressors, strict=True)
        return torch.stack([(h - r(g)).square().sum() / (2 * len(h)) for h, g, r in pairs]).sum()

    def _answers(self, stage: Stage, total: int) -> Any:
        """Returns the objective H(y, p_S) + λ H(p_T^τ, p_S^τ)."""
        (start, end), tau = self.weight, self.temperature

        def objective(both: Any, batch: Any, step: int) -> Any:
            inputs, target, *answers = batch
            outputs: list[Any] = []
            with watched({"": both.student}, lambda _, output: outputs.append(output)):
                value = stage.objective(both.student, (inputs, target), step)
            if len(outputs) != 1:
                raise ValueError(
                    f"the objective ran the model {len(outputs)} times: run it once, on the inputs of a batch"
                )
            (answer,) = answers or self._answer(inputs)
            weight = start + (end - start) * min(1.0, step / max(1, total - 1))
            soft = cross_entropy(outputs[0] / tau, (answer / tau).softmax(dim=1))
            loss = loss_of(value) + weight * soft
            return (loss, *value[1:]) if isinstance(value, tuple) else loss

        return Around(stage.objective, objective)

    def _hints(self, inputs: Any) -> list[Tensor]:
        with eval_mode(self.teacher):
            return outputs_at(self.teacher, self.hint, inputs)[0]

    def _answer(self, inputs: Any) -> list[Tensor]:
        with eval_mode(self.teacher):
            return [self.teacher(inputs)]

    def _given(self, data: Any, few: Sequence[Tensor], run: Any) -> Any:
        """Returns the data with the teacher's outputs beside, found when the stage begins, if they fit."""
        tensors = tensors_of(data)
        size = sum(t[0].numel() * t.element_size() for t in few)
        if tensors is None or size * len(tensors[0]) > self.cache:
            return data

        def made(both: Any) -> Any:
            device = next(both.parameters()).device
            parts = [run(part.to(device)) for part in tensors[0].split(CHUNK)]
            outputs = [torch.cat(outs).to(tensors[0].device) for outs in zip(*parts, strict=True)]
            return with_tensors(data, (*tensors, *outputs))

        return made


class _Seen(Exception):
    """All layers that were asked for have run."""


def outputs_at(model: nn.Module, names: Sequence[str], inputs: Any, whole: bool = False) -> tuple[list[Tensor], Any]:
    """Returns what the layers give on the inputs, and the model's own output where it is run as a whole.

    Arguments:
        names: of modules, each of which runs.
        whole: False stops the model once all layers have run; the output is then None.

    Raises:
        ValueError: a layer that does not run, or gives no tensor.

    >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    >>> (hidden,), output = outputs_at(model, ["1"], torch.ones(5, 2))
    >>> tuple(hidden.shape), output
    ((5, 3), None)
    """
    found: dict[str, Any] = {}

    def keep(name: str, output: Any) -> None:
        found[name] = output
        if not whole and len(found) == len(set(names)):
            raise _Seen

    output = None
    with suppress(_Seen), watched({name: model.get_submodule(name) for name in names}, keep):
        output = model(inputs)
    for name in names:
        if not isinstance(found.get(name), Tensor):
            what = f"gives a {type(found[name]).__name__}" if name in found else "did not run"
            raise ValueError(f"layer {name!r} {what}: name a layer that runs and returns one tensor")
    return [found[name] for name in names], output


def _tensors(model: nn.Module) -> list[tuple[str, Tensor]]:
    named = [*model.named_parameters(), *model.named_buffers()]
    return [(name, tensor) for name, tensor in named if tensor.numel()]


def _shape(value: Any) -> Any:
    return tuple(value.shape) if isinstance(value, Tensor) else f"a {type(value).__name__}"
