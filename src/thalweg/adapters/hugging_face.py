"""A model of transformers and what its Trainer is given, as a task."""

import inspect
import math
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, Subset

from thalweg.adapters.metric_names import bare, is_higher_better
from thalweg.adapters.training_arguments import options_of, reading_of
from thalweg.compare.task import Task, build_model
from thalweg.compare.task.evaluation import LOSS
from thalweg.compare.task.nested import size_of
from thalweg.compare.user_errors import TaskError, user_errors
from thalweg.extras import needs
from thalweg.tensors.draws import own_draws

EXTRA, WHAT = "transformers", "thalweg.adapters.transformers"
PADDING = -100  # of outputs that differ in length, as the Trainer pads them


def transformers(
    model_init: Callable[..., nn.Module] | nn.Module,
    train_dataset: Any,
    eval_dataset: Any,
    test_dataset: Any = None,
    data_collator: Callable[[list[Any]], Any] | None = None,
    compute_metrics: Callable[[Any], Mapping[str, float]] | None = None,
    args: Any = None,
    *,
    metric: str | None = None,
    higher_is_better: bool | None = None,
    preprocess_logits_for_metrics: Callable[[Any, Any], Any] | None = None,
    name: str = "transformers",
    **options: Any,
) -> Task:
    """Returns the task of a model of transformers, or of any that returns its loss, as its Trainer is given it.

    ``compute_metrics`` gets an ``EvalPrediction`` over the whole part of the data; without it, the mean of the loss is
    measured. From the arguments come batch sizes, accumulation, clipping, precision, length of the run, workers, the
    names of the labels, and the metric by which the best model is chosen. Optimizer, learning rate and its schedule are
    a strategy's; a warning says what else is not carried over.

    Arguments:
        model_init: a function that builds the model, as the Trainer's, or a model, with whose weights all runs begin.
        train_dataset, eval_dataset: examples, which are dictionaries.
        test_dataset: the test data; by default every second example of ``eval_dataset``, which then does not validate.
        data_collator: makes a batch of a list of examples; by default ``default_data_collator``.
        compute_metrics: ``(EvalPrediction) -> {name: number}``.
        args: the ``TrainingArguments``.
        metric: the name of the metric; by default that of ``metric_for_best_model``, else the first that is computed.
        higher_is_better: direction of the metric, where neither the arguments nor its name tell.
        preprocess_logits_for_metrics: ``(logits, labels) -> predictions`` of a batch.
        name: the name of the task in reports.
        options: further arguments of :class:`thalweg.Task`.

    Raises:
        TaskError: what the arguments ask for changes the loss, or the data cannot be divided.
        MissingExtraError: transformers is not installed.

    Example::

        def task():
            build = partial(BertForSequenceClassification, config)
            return thalweg.adapters.transformers(build, train, valid, test, compute_metrics=accuracy, args=arguments)
    """
    with needs(EXTRA, WHAT):
        from transformers import EvalPrediction, default_data_collator
    taken, best = options_of(args)
    source = _source(model_init)
    with own_draws(0):
        model = build_model(Task(source, [], [], [], step=_loss))
    labels = list(getattr(args, "label_names", None) or _label_names(model))
    keeps = _arguments(model) | set(labels) if getattr(args, "remove_unused_columns", True) else None
    collate = _Collate(data_collator or default_data_collator, keeps)
    valid, test = (eval_dataset, test_dataset) if test_dataset is not None else _halves(eval_dataset)
    reading, batch_size = reading_of(args, "train"), options.pop("batch_size", None) or taken.pop("batch_size", 64)
    shuffle = None if isinstance(train_dataset, IterableDataset) else True
    train = DataLoader(train_dataset, batch_size, shuffle, collate_fn=collate, **reading)
    valid, test = (DataLoader(part, collate_fn=collate, **reading_of(args, "eval")) for part in (valid, test))
    if "epochs" in taken:
        taken["steps"] = _steps(train_dataset, batch_size * taken.get("accumulate", 1), taken.pop("epochs"))
    evaluate = None
    if compute_metrics is not None:
        computed = _Computed(compute_metrics, preprocess_logits_for_metrics, labels, EvalPrediction, args)
        evaluate, named = computed.evaluate, bare(metric or best.get("metric") or "")
        name_of = named or computed.first(model, valid)
        better = best.get("higher_is_better") if higher_is_better is None and metric is None else higher_is_better
        better = is_higher_better(name_of) if better is None else better
        taken |= {"metric": name_of, "higher_is_better": better}
    elif metric not in (None, LOSS, f"eval_{LOSS}"):
        raise TaskError(f"nothing computes {metric!r}: give compute_metrics, or omit metric")
    taken |= options
    return Task(source, train, valid, test, step=_loss, evaluate=evaluate, name=name, **taken)


def _loss(model: nn.Module, batch: Any) -> Tensor:
    return _loss_of(model(**batch))


def _loss_of(outputs: Any) -> Tensor:
    """Returns the loss of a model's outputs.

    Raises:
        TaskError: there is none.
    """
    if isinstance(outputs, Mapping) and not isinstance(outputs.get(LOSS), Tensor):
        raise TaskError(
            f"the model returns {', '.join(outputs)}, and no loss: give examples with labels, or a data_collator that "
            "makes them"
        )
    loss: Tensor = outputs[LOSS] if isinstance(outputs, Mapping) else outputs[0]
    return loss


class _Collate:
    """A ``data_collator`` that is given what the model takes, and whose batches are dictionaries."""

    def __init__(self, collator: Callable[[list[Any]], Any], keeps: set[str] | None) -> None:
        self.collator, self.keeps = collator, keeps

    def __call__(self, examples: list[Any]) -> Any:
        if self.keeps is not None and isinstance(examples[0], Mapping):
            kept = {*self.keeps, "label", "label_ids"}  # names that collators change to labels
            examples = [{key: value for key, value in one.items() if key in kept} for one in examples]
        batch = self.collator(examples)
        return dict(batch) if isinstance(batch, Mapping) else batch


class _Computed:
    """What ``compute_metrics`` gives for a part of the data, and the mean of the loss."""

    def __init__(
        self, compute: Callable[[Any], Mapping[str, float]], before: Any, labels: list[str], prediction: Any, args: Any
    ) -> None:
        self.compute, self.before, self.labels, self.prediction = compute, before, labels, prediction
        self.included = [*(getattr(args, "include_for_metrics", None) or [])]

    def evaluate(self, model: nn.Module, batches: Iterable[Any]) -> dict[str, float]:
        """Returns the metrics by their names without that of the part of the data."""
        ignored = {LOSS, *(getattr(getattr(model, "config", None), "keys_to_ignore_at_inference", None) or [])}
        predictions, labels, inputs, losses, sizes = [], [], [], [], []
        for batch in batches:
            outputs = model(**batch)
            losses.append(_loss_of(outputs).detach().float().cpu().reshape(()))
            sizes.append(max(1, size_of(batch)))
            if isinstance(outputs, Mapping):
                logits: Any = tuple(value for key, value in outputs.items() if key not in ignored)
            else:
                logits = tuple(outputs[1:])
            known: Any = tuple(batch.get(key) for key in self.labels)
            logits, known = _single(logits), _single(known)
            predictions.append(_kept(logits if self.before is None else self.before(logits, known)))
            labels.append(_kept(known))
            if "inputs" in self.included:
                inputs.append(_kept(batch.get(getattr(model, "main_input_name", "input_ids"))))
        given: dict[str, Any] = {
            "predictions": _as_array(_joined(predictions)),
            "label_ids": _as_array(_joined(labels)),
        }
        if inputs:
            given["inputs"] = _as_array(_joined(inputs))
        repeated = torch.repeat_interleave(torch.stack(losses), torch.tensor(sizes))
        if LOSS in self.included:
            given["losses"] = repeated.numpy()
        with user_errors("compute_metrics"):
            found = self.compute(self.prediction(**given))
        if not isinstance(found, Mapping):
            raise TaskError(f"compute_metrics gives a {type(found).__name__}: return a dictionary of numbers")
        return {bare(key): value for key, value in found.items()} | {LOSS: float(repeated.double().mean())}

    def first(self, model: nn.Module, loader: DataLoader[Any]) -> str:
        """Returns the name of the first metric that is computed."""
        with user_errors("the evaluation of the untrained model"), own_draws(0), torch.no_grad():
            return next(iter(self.evaluate(model.eval(), [next(iter(loader))])))


def _source(given: Callable[..., nn.Module] | nn.Module) -> Callable[[], nn.Module] | nn.Module:
    """Returns the model, or the function that builds it, which may take the Trainer's trial."""
    if isinstance(given, nn.Module) or not callable(given):
        return given
    needed = [p for p in inspect.signature(given).parameters.values() if p.default is p.empty]
    takes_trial = any(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in needed)
    return (lambda: given(None)) if takes_trial else given


def _arguments(model: nn.Module) -> set[str]:
    return set(inspect.signature(model.forward).parameters)


def _label_names(model: nn.Module) -> list[str]:
    """Returns the arguments of a model that are labels, by the rule of the Trainer."""
    more = ("start_positions", "end_positions") if "QuestionAnswering" in type(model).__name__ else ()
    return [name for name in inspect.signature(model.forward).parameters if "label" in name or name in more]


def _halves(data: Any) -> tuple[Any, Any]:
    """Returns validation and test data of one set of examples.

    Raises:
        TaskError: it has no length, or fewer than two examples.
    """
    if not hasattr(data, "__len__") or len(data) < 2:
        raise TaskError("the evaluation data cannot be divided into validation and test data: give test_dataset")
    warnings.warn(
        "there is no test_dataset: every second example of eval_dataset tests the final runs, and does not validate",
        stacklevel=3,
    )
    return Subset(data, range(0, len(data), 2)), Subset(data, range(1, len(data), 2))


def _steps(data: Any, batch_size: int, epochs: float) -> int:
    if not hasattr(data, "__len__"):
        raise TaskError("the training data is a stream, which has no epochs: give max_steps in the arguments")
    return max(1, math.ceil(epochs * max(1, len(data) // batch_size)))


def _single(values: tuple[Any, ...]) -> Any:
    return values[0] if len(values) == 1 else values


def _kept(value: Any) -> Any:
    """Returns outputs without their graphs, in memory of the processor."""
    if isinstance(value, Tensor):
        return (value.float() if value.dtype in (torch.bfloat16, torch.float16) else value).detach().cpu()
    if isinstance(value, Mapping):
        return {key: _kept(one) for key, one in value.items()}
    return tuple(map(_kept, value)) if isinstance(value, (list, tuple)) else value


def _joined(parts: list[Any]) -> Any:
    """Returns the outputs of all batches as those of one, padded where they differ in length."""
    first = parts[0]
    if isinstance(first, Mapping):
        return {key: _joined([part[key] for part in parts]) for key in first}
    if isinstance(first, tuple):
        return tuple(map(_joined, map(list, zip(*parts, strict=True))))
    if not isinstance(first, Tensor):
        return None
    if first.dim() == 0:
        return torch.stack(parts)
    longest = [max(sizes) for sizes in zip(*(part.shape[1:] for part in parts), strict=True)]
    padded = []
    for part in parts:
        whole = part.new_full((len(part), *longest), PADDING)
        whole[tuple(slice(size) for size in part.shape)] = part
        padded.append(whole)
    return torch.cat(padded)


def _as_array(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.numpy()
    if isinstance(value, Mapping):
        return {key: _as_array(one) for key, one in value.items()}
    return tuple(map(_as_array, value)) if isinstance(value, tuple) else value
