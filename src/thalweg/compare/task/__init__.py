"""A task: a model, its data, its loss and how it is judged; the guides that it gives, and how it is loaded."""

from thalweg.compare.task.checks import examples, materialize, try_model
from thalweg.compare.task.examples import Examples, Split
from thalweg.compare.task.task import Guides, Loss, Task, build_model

__all__ = ["Examples", "Guides", "Loss", "Split", "Task", "build_model", "examples", "materialize", "try_model"]
