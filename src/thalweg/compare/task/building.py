"""A task's models as runs have them: built, or copied, each with parameters of its own."""

import copy
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from thalweg.compare.task.examples import input_of
from thalweg.compare.task.nested import form
from thalweg.compare.task.task import Task
from thalweg.compare.user_errors import TaskError, user_errors


def unshared(task: Task) -> Task:
    """Returns the task with a module in place of each function that gives the same module, or parameters, twice.

    So trials do not train each other's model. A module is copied for each trial.
    """

    def settled(source: Callable[[], nn.Module] | nn.Module) -> Callable[[], nn.Module] | nn.Module:
        if isinstance(source, nn.Module):
            return source
        with torch.random.fork_rng(devices=[]):
            first = build_model(replace(task, model=source))
            kept = copy.deepcopy(first)
            second = build_model(replace(task, model=source))
        return kept if {*map(id, first.parameters())} & {*map(id, second.parameters())} else source

    others = {name: settled(source) for name, source in task.architectures.items()}
    return replace(task, model=settled(task.model), architectures=others)


def build_model(task: Task) -> nn.Module:
    """Returns a new model of the task.

    Raises:
        TaskError: the factory raises or gives no module.
    """
    if isinstance(task.model, nn.Module):
        with user_errors("copying the task's model", "give a function that builds it"):
            model = copy.deepcopy(task.model)
        return _finished(model, task)
    with user_errors("the task's model()", "correct the function that builds the model"):
        model = task.model()
    if not isinstance(model, nn.Module):
        raise TaskError(f"the task's model() gives a {type(model).__name__}: return a torch.nn.Module")
    return _finished(model, task)


def _finished(model: nn.Module, task: Task) -> nn.Module:
    """Returns the model with its lazy parameters made, and those frozen that are not to be trained."""
    model = _shaped(model, task)
    task.grouping.freeze(model)
    return model


def _shaped(model: nn.Module, task: Task) -> nn.Module:
    """Returns the model with its lazy parameters made, as the first examples have them."""
    if not _lazy(model):
        return model
    draws = torch.get_rng_state()  # so that parameters do not depend on what reading draws
    batch = task.split("train").head(task.batch_size)
    torch.set_rng_state(draws)
    training = model.training
    with user_errors(f"the model, on a batch of {form(batch)},"), torch.no_grad():
        model.eval()
        task.step_loss(model, batch) if task.loss is None else model(input_of(batch))
    if left := _lazy(model):
        raise TaskError(
            f"{left[0]} has no shape after a batch has passed through the model: give the sizes to its module"
        )
    return model.train(training)


def _lazy(model: nn.Module) -> list[str]:
    named = (*model.named_parameters(), *model.named_buffers())
    return [name for name, tensor in named if is_lazy(tensor)]
