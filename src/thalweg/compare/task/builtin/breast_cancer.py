"""Wisconsin breast cancer, 569 cases of 30 measurements, split 341 / 114 / 114."""

from torch import nn

from thalweg.compare.task.builtin.splits import split, standardized
from thalweg.compare.task.task import Task
from thalweg.extras import needs


def _logistic() -> nn.Module:
    return nn.Linear(30, 2)


def breast_cancer() -> Task:
    """Malignant or benign, logistic regression: convex"""
    with needs("compare", "this task"):
        from sklearn.datasets import load_breast_cancer

    x, y = load_breast_cancer(return_X_y=True)
    parts = split(standardized(x, 341), y, 341, 114)
    loss = nn.functional.cross_entropy
    return Task(_logistic, *parts, loss=loss, metric="loss", batch_size=32, name="breast-cancer", steps=500)
