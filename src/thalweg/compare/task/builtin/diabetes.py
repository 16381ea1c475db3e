"""Progression of diabetes, 442 patients of 10 measurements, split 264 / 89 / 89."""

from torch import nn

from thalweg.compare.task.builtin.splits import split, standardized
from thalweg.compare.task.task import Task
from thalweg.extras import needs


def _perceptron() -> nn.Module:
    return nn.Sequential(nn.Linear(10, 32), nn.Tanh(), nn.Linear(32, 1))


def diabetes() -> Task:
    """Progression of diabetes, 10-32-1 tanh network: regression"""
    with needs("compare", "this task"):
        from sklearn.datasets import load_diabetes

    x, y = load_diabetes(return_X_y=True)
    parts = split(standardized(x, 264), standardized(y[:, None], 264), 264, 89)
    return Task(
        _perceptron, *parts, loss=nn.functional.mse_loss, metric="r2", batch_size=32, name="diabetes", steps=500
    )
