"""A task: a model, its data, its loss and how it is judged; its guidance inputs, and how it is loaded."""

from thalweg.compare.task.building import build_model, unshared
from thalweg.compare.task.checks import examples, materialize, try_model, with_metric
from thalweg.compare.task.examples import Examples, HeldSplit, Split
from thalweg.compare.task.task import GuidanceInputs, Loss, Task
from thalweg.tensors.renamed import former_attributes

__all__ = [
    "Examples",
    "GuidanceInputs",
    "HeldSplit",
    "Loss",
    "Split",
    "Task",
    "build_model",
    "examples",
    "materialize",
    "try_model",
    "unshared",
    "with_metric",
]

__getattr__ = former_attributes(__name__, {"Guides": "GuidanceInputs"})
