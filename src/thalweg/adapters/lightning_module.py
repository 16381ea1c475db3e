"""A LightningModule and its data as a task."""

import copy
import inspect
import warnings
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from thalweg.adapters.lightning_log import EpochLog, as_loss, check_alone, reset_metrics
from thalweg.adapters.metric_names import bare, is_higher_better
from thalweg.compare.task import Task
from thalweg.compare.task.nested import size_of
from thalweg.compare.user_errors import TaskError, user_errors
from thalweg.tensors.draws import own_draws

PACKAGES = ("lightning", "pytorch_lightning")
NOT_RUN = (  # hooks of a module's own that would change what is trained
    "backward",
    "configure_gradient_clipping",
    "on_after_backward",
    "on_before_backward",
    "on_before_optimizer_step",
    "on_before_zero_grad",
    "on_train_batch_end",
    "on_train_batch_start",
    "on_train_epoch_end",
    "on_train_epoch_start",
    "on_train_start",
    "optimizer_step",
    "optimizer_zero_grad",
)


class OfTest(NamedTuple):
    """A batch of the test data, which ``test_step`` evaluates."""

    batch: Any


def lightning(
    module: Callable[[], nn.Module] | nn.Module,
    datamodule: Any,
    *,
    metric: str | None = None,
    higher_is_better: bool | None = None,
    name: str = "lightning",
    **options: Any,
) -> Task:
    """Returns the task of a LightningModule, of the package ``lightning`` or ``pytorch_lightning``, without a Trainer.

    The loss is that of its ``training_step``. What its ``validation_step`` and ``test_step`` log, and the hooks at the
    beginning and the end of their epochs, is what is measured, as Lightning computes it over an epoch; without a
    ``validation_step`` it is the mean loss. ``test_step`` has to log the metric that ``validation_step`` logs, where
    ``val_acc`` and ``test_acc`` are one metric, ``acc``; without it, ``validation_step`` evaluates the test data. A
    ``batch_idx`` is 0 in training. The optimizer is a strategy's, also the module's own: see
    :func:`lightning_strategy`.

    Arguments:
        module: a function that builds the module, such as its class, or a module, whose weights all runs begin with.
        datamodule: a LightningDataModule, or what has its ``train_dataloader``, ``val_dataloader`` and
            ``test_dataloader``; ``prepare_data()`` and ``setup()`` are called first.
        metric: the name that is logged of the metric; by default the first that ``validation_step`` logs.
        higher_is_better: direction of the metric, where neither its name nor the metric of torchmetrics tells.
        name: the name of the task in reports.
        options: further arguments of :class:`thalweg.Task`, such as ``steps``, or ``precision``, ``accumulate`` and
            ``clip_norm``, which are arguments of the Trainer.

    Raises:
        TaskError: the module optimizes by hand, a loader is missing, or the metric is not logged.

    Example::

        def task():
            return thalweg.adapters.lightning(Classifier, Images(), metric="val_acc", clip_norm=1.0)
    """
    with own_draws(0):  # so that a random split is the same each time
        loaders = _loaders(datamodule)
    steps = _Steps(datamodule)
    source = _attached(module)
    with own_draws(0):
        tried = source() if callable(module) and not isinstance(module, nn.Module) else copy.deepcopy(source)
    assert isinstance(tried, nn.Module)
    _check(tried)
    train, valid, test = loaders
    judged: dict[str, Any] = {}
    if owns(tried, "validation_step"):
        judged = {"evaluate": steps.evaluate, **_metric(tried, steps, loaders, metric, higher_is_better)}
        test = _marked(test) if owns(tried, "test_step") else test
    elif metric is not None:
        raise TaskError(f"the module has no validation_step that logs {metric!r}: write one, or omit metric")
    return Task(source, train, valid, test, step=steps.loss, name=name, **judged, **options)


class _Steps:
    """The steps of a module, as a task calls them."""

    def __init__(self, datamodule: Any) -> None:
        self.datamodule = datamodule

    def loss(self, model: Any, batch: Any) -> Tensor:
        """Returns the loss of ``training_step``."""
        loss = as_loss(_called(model.training_step, self._transferred(model, batch), 0))
        if reset_metrics(model):  # which an epoch of training would otherwise add up
            check_alone(loss)
        return loss

    def evaluate(self, model: Any, batches: Iterable[Any]) -> dict[str, float]:
        """Returns what ``validation_step`` or, for test data, ``test_step`` logs."""
        log, part = EpochLog.of(model), ""
        reset_metrics(model)
        log.open()
        for number, batch in enumerate(batches):
            if not part:
                part = "test" if isinstance(batch, OfTest) else "validation"
                _hooks(model, part, "start", "epoch_start")
            batch = self._transferred(model, batch.batch if isinstance(batch, OfTest) else batch)
            log.size = max(1, size_of(batch))
            _called(getattr(model, f"on_{part}_batch_start"), batch, number, 0)
            outputs = _called(getattr(model, f"{part}_step"), batch, number)
            _called(getattr(model, f"on_{part}_batch_end"), outputs, batch, number, 0)
        log.size = 1
        _hooks(model, part or "validation", "epoch_end", "end")
        values: dict[str, float] = {}
        for name, value in log.close().items():
            values.setdefault(bare(name), value)
        reset_metrics(model)
        return values

    def _transferred(self, model: Any, batch: Any) -> Any:
        """Returns the batch as the hooks around its transfer to the device change it."""
        for hook in ("on_before_batch_transfer", "on_after_batch_transfer"):
            owner = self.datamodule if owns(self.datamodule, hook) else model
            if owns(owner, hook):
                batch = getattr(owner, hook)(batch, 0)
        return batch


def owns(thing: Any, name: str) -> bool:
    """Says whether an attribute is the user's, and not one that Lightning has for all."""
    for kind in type(thing).__mro__:
        if name in vars(kind):
            return kind.__module__.partition(".")[0] not in PACKAGES
    return False


def _attached(module: Callable[[], nn.Module] | nn.Module) -> Callable[[], nn.Module] | nn.Module:
    """Returns the module, or the function that builds it, with a log."""
    if isinstance(module, nn.Module):
        with user_errors("copying the module", "give a function that builds it"):
            return EpochLog().attach(copy.deepcopy(module))
    if not callable(module):
        raise TaskError(
            f"the module is a {type(module).__name__}: give a LightningModule, or a function that builds it"
        )

    def build() -> nn.Module:
        with user_errors("building the module"):
            built: Any = module()
            if not isinstance(built, nn.Module):
                raise TaskError(f"the function gives a {type(built).__name__}: return a LightningModule")
            for hook, words in (("configure_model", ()), ("setup", ("fit",))):
                if owns(built, hook):
                    getattr(built, hook)(*words)
        return EpochLog().attach(built)

    return build


def _check(module: nn.Module) -> None:
    """Raises TaskError where a module cannot be trained as a task; warns of what is not run."""
    if not _is_of_lightning(module) or not owns(module, "training_step"):
        raise TaskError(f"{type(module).__name__} has no training_step of Lightning's: give a LightningModule with one")
    if not getattr(module, "automatic_optimization", True):
        raise TaskError(
            f"{type(module).__name__} optimizes by hand (automatic_optimization is False): write a training loop, a "
            "function of a thalweg.Run"
        )
    if ignored := [hook for hook in NOT_RUN if owns(module, hook)]:
        warnings.warn(f"not run, since there is no Trainer: {', '.join(ignored)}", stacklevel=3)


def _loaders(datamodule: Any) -> list[Any]:
    """Returns the loaders of training, validation and test data."""
    name = type(datamodule).__name__
    with user_errors(f"{name}.prepare_data() or setup()"):
        for hook, words in (("prepare_data", ()), ("setup", ("fit",)), ("setup", ("test",))):
            if callable(prepare := getattr(datamodule, hook, None)):
                prepare(*words)
    found = []
    for part in ("train", "val", "test"):
        method = f"{part}_dataloader"
        if not callable(getattr(datamodule, method, None)) or (
            _is_of_lightning(datamodule) and not owns(datamodule, method)
        ):
            why = ": final runs are tested on data by which nothing was chosen" if part == "test" else ""
            raise TaskError(f"{name} has no {method}(){why or ': write it'}")
        with user_errors(f"{name}.{method}()"):
            loader = getattr(datamodule, method)()
        if isinstance(loader, (list, tuple, dict)) and len(loader) == 1:
            (loader,) = loader.values() if isinstance(loader, dict) else loader
        if isinstance(loader, (list, tuple, dict)) or not hasattr(loader, "__iter__"):
            raise TaskError(f"{name}.{method}() gives a {type(loader).__name__}: return one DataLoader")
        found.append(loader if isinstance(loader, DataLoader) else _Source(loader))
    return found


def _is_of_lightning(thing: Any) -> bool:
    return any(kind.__module__.partition(".")[0] in PACKAGES for kind in type(thing).__mro__)


class _Source:
    """An iterable of batches that is no DataLoader, as a function of the seed."""

    def __init__(self, batches: Iterable[Any], mark: Callable[[Any], Any] = lambda batch: batch) -> None:
        self.batches, self.mark = batches, mark

    def __call__(self, seed: int) -> Iterable[Any]:
        return map(self.mark, self.batches)


class _Marking:
    """A ``collate_fn`` whose batches are known as those of the test data."""

    def __init__(self, collate: Callable[[list[Any]], Any]) -> None:
        self.collate = collate

    def __call__(self, examples: list[Any]) -> OfTest:
        return OfTest(self.collate(examples))


def _marked(loader: Any) -> Any:
    """Returns the loader with each batch as one of the test data."""
    if isinstance(loader, _Source):
        return _Source(loader.batches, OfTest)
    marked = copy.copy(loader)
    marked.collate_fn = _Marking(loader.collate_fn)
    return marked


def _metric(
    module: nn.Module, steps: _Steps, loaders: list[Any], asked: str | None, higher_is_better: bool | None
) -> dict[str, Any]:
    """Returns name and direction of the metric, as one batch of validation and of test data logs it.

    Raises:
        TaskError: nothing is logged, or the metric is not.
    """
    name = bare(asked) if asked else ""
    module.eval()
    parts = [("validation_step", _first(loaders[1]))]
    if owns(module, "test_step"):
        parts.append(("test_step", OfTest(_first(loaders[2]))))
    better = higher_is_better
    for step, batch in parts:
        with user_errors(f"{type(module).__name__}.{step}"), own_draws(0), torch.no_grad():
            values = steps.evaluate(module, [batch])
        if not values:
            raise TaskError(f"{step} logs nothing: log the metric with self.log(name, value)")
        name = name or next(iter(values))
        if name not in values:
            raise TaskError(f"{step} logs {', '.join(values)}, and no {name!r}: log it, or name another one as metric")
        if better is None:
            told = {bare(logged): way for logged, way in EpochLog.of(module).directions.items()}
            better = told.get(name, is_higher_better(name))
    return {"metric": name, "higher_is_better": better}


def _first(loader: Any) -> Any:
    with user_errors("reading the first batch"):
        for batch in loader.batches if isinstance(loader, _Source) else loader:
            return batch
    raise TaskError("a loader yields no batch: give at least one")


def _hooks(model: Any, part: str, *names: str) -> None:
    for name in names:
        getattr(model, f"on_{part}_{name}")()


def _called(method: Callable[..., Any], *given: Any) -> Any:
    """Returns what a method returns, which may take fewer arguments, as Lightning's may."""
    parameters = list(inspect.signature(method).parameters.values())
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return method(*given)
    most = sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)
    return method(*given[:most])
