"""How outputs are judged by name: accuracy as torch's cross-entropy has its targets, and R²."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from thalweg.compare.user_errors import TaskError

CROSS_ENTROPY = (nn.functional.cross_entropy, nn.CrossEntropyLoss, nn.functional.nll_loss, nn.NLLLoss)
IGNORED = -100  # torch's default label of what is not trained


def ignored_by(loss: Callable[..., Any]) -> int:
    """Returns the label whose examples the loss leaves out, torch's default where it does not say.

    >>> ignored_by(nn.CrossEntropyLoss(ignore_index=0)), ignored_by(nn.functional.cross_entropy)
    (0, -100)
    """
    return int(getattr(loss, "keywords", {}).get("ignore_index", getattr(loss, "ignore_index", IGNORED)))


def constant_output(targets: Tensor, output: Tensor, loss: Callable[..., Any]) -> Tensor | None:
    """Returns the best output for one example that is the same for all; None where it is not known which that is.

    Arguments:
        targets: of the training examples.
        output: of a model for one example ``(1, …)``.
        loss: of the task: for a cross-entropy the logarithm of the classes' shares, else the mean of the targets.

    >>> import torch
    >>> constant_output(torch.tensor([0, 0, 0, 1]), torch.zeros(1, 2), nn.functional.cross_entropy).exp()
    tensor([[0.7500, 0.2500]])
    """
    is_class = loss in CROSS_ENTROPY or isinstance(loss, CROSS_ENTROPY[1::2])
    if targets.is_floating_point():
        mean = targets.mean(dim=0, keepdim=True)
        return None if targets.shape[1:] != output.shape[1:] else mean.clamp_min(1e-12).log() if is_class else mean
    if not is_class or output.dim() < 2 or targets.dim() != output.dim() - 1:
        return None
    labels = targets[targets != ignored_by(loss)]
    shares = labels.bincount(minlength=output.shape[1]).to(output.dtype) / max(1, len(labels))
    return shares.clamp_min(1e-12).log().view(1, -1, *[1] * (output.dim() - 2))


def accuracy(output: Tensor, target: Tensor, ignored: int = IGNORED, dim: int | None = None) -> Tensor:
    """Returns the share of targets that the largest output hits.

    Arguments:
        output: a number for each class: ``(N, C)``, or with positions ``(N, C, …)`` or ``(N, …, C)``.
        target: labels ``(N, …)``, or the probability of each class in the shape of ``output``, whose largest counts.
        ignored: label of targets that do not count.
        dim: dimension of the classes; as the shapes tell by default.

    Raises:
        TaskError: there is one class, or the shapes do not tell which dimension holds the classes.

    >>> import torch
    >>> float(accuracy(torch.tensor([[0.0, 1.0], [2.0, 1.0]]), torch.tensor([1, 1])))
    0.5
    """
    soft = target.shape == output.shape
    dim = _dimension(output, target) if dim is None else dim
    if output.shape[dim] < 2:
        raise TaskError(
            f"accuracy needs one output per class, and output {tuple(output.shape)} has one: give the metric as a "
            "function, such as lambda output, target: ((output > 0) == target).float().mean()"
        )
    labels = target.argmax(dim=dim) if soft else target
    counted = labels != ignored
    return ((output.argmax(dim=dim) == labels) & counted).sum() / counted.sum()


def r2(output: Tensor, target: Tensor) -> Tensor:
    """Returns the coefficient of determination, 1 − Σ(y − ŷ)² / Σ(y − ȳ)²."""
    residual = (target - output.view_as(target)).square().sum()
    return 1 - residual / (target - target.mean(dim=0)).square().sum()


def _dimension(output: Tensor, target: Tensor) -> int:
    """Returns the dimension of ``output`` that ``target`` lacks, the second or the last."""
    shape = tuple(output.shape)
    places = sorted({1, len(shape) - 1} if len(shape) > 1 else ())
    fitting = [d for d in places if tuple(target.shape) in (shape, shape[:d] + shape[d + 1 :])]
    if len(fitting) != 1:
        found = f"output {shape} and target {tuple(target.shape)}"
        why = "could be the second or the last" if fitting else "does not fit"
        raise TaskError(f"accuracy of {found}: the dimension of the classes {why}: give the metric as a function")
    return fitting[0]
