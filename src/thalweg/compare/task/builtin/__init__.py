"""The built-in tasks by name; nothing is read or downloaded before a task is built."""

from collections.abc import Callable

from thalweg.compare.task.builtin.breast_cancer import breast_cancer
from thalweg.compare.task.builtin.diabetes import diabetes
from thalweg.compare.task.builtin.digits import (
    digits,
    digits_autoencoder,
    digits_conv,
    digits_conv_norm,
    digits_deep,
    digits_deep_heads,
    digits_deep_residual,
    digits_noisy,
)
from thalweg.compare.task.builtin.generated import deep_linear, factorization, modular_addition
from thalweg.compare.task.builtin.mnist import mnist, mnist_conv
from thalweg.compare.task.builtin.poisson import poisson
from thalweg.compare.task.builtin.quadratic import quadratic
from thalweg.compare.task.builtin.sequences import characters, recall
from thalweg.compare.task.builtin.shakespeare import shakespeare
from thalweg.compare.task.task import Task

TASKS: dict[str, Callable[[], Task]] = {
    "digits": digits,
    "digits-deep": digits_deep,
    "digits-deep-residual": digits_deep_residual,
    "digits-deep-heads": digits_deep_heads,
    "digits-conv": digits_conv,
    "digits-conv-norm": digits_conv_norm,
    "digits-autoencoder": digits_autoencoder,
    "digits-noisy": digits_noisy,
    "breast-cancer": breast_cancer,
    "diabetes": diabetes,
    "quadratic": quadratic,
    "deep-linear": deep_linear,
    "factorization": factorization,
    "modular-addition": modular_addition,
    "recall": recall,
    "characters": characters,
    "poisson": poisson,
    "mnist": mnist,
    "mnist-conv": mnist_conv,
    "shakespeare": shakespeare,
}
DESCRIPTIONS = {name: (build.__doc__ or "").splitlines()[0] for name, build in TASKS.items()}
