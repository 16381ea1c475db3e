"""The output's bias: a network that starts at the targets' marginal statistics need not first learn them."""

from collections.abc import Callable
from typing import Literal, overload

import torch
from torch import Tensor

from thalweg.tensors.text import some

Kind = Literal["classification", "binary", "multilabel", "counts", "log-variance"]


@overload
def output_bias_from(targets: Tensor, kind: Literal["regression"], classes: None = None) -> tuple[Tensor, Tensor]: ...
@overload
def output_bias_from(targets: Tensor, kind: Kind, classes: int | None = None) -> Tensor: ...
def output_bias_from(
    targets: Tensor, kind: Kind | Literal["regression"], classes: int | None = None
) -> Tensor | tuple[Tensor, Tensor]:
    """Returns the bias b of the output layer whose constant output has the least loss on the targets.

    ==================  ==========================  =======================  ======================================
    kind                b                           targets                  loss that b minimizes
    ==================  ==========================  =======================  ======================================
    ``classification``  log p_c, p_c = n_c / Σ n    integers, any shape      ``F.cross_entropy``
    ``binary``          log(p / (1−p)), p the mean  0 to 1, any shape        ``F.binary_cross_entropy_with_logits``
    ``multilabel``      the same for each label     0 to 1, ``(N, D, …)``    ``F.binary_cross_entropy_with_logits``
    ``regression``      mean, and std as a scale    ``(N,)``, ``(N, D, …)``  ``F.mse_loss``
    ``counts``          log mean                    at least 0, so shaped    ``F.poisson_nll_loss``
    ``log-variance``    log variance                ``(N,)``, ``(N, D, …)``  ``F.gaussian_nll_loss`` at the mean
    ==================  ==========================  =======================  ======================================

    softmax(b) are the class frequencies. A class among ``classes`` that no target has counts as half an example
    (n_c = ½), since log 0 = −∞ could not be trained. Variance and standard deviation divide by N, the maximum of
    likelihood. All is computed in double precision.

    Arguments:
        targets: as the table says, N examples first and D outputs next; further dimensions, such as pixels, are
            averaged over. ``(N,)`` stands for ``(N, 1)``. Boolean targets are 0 and 1.
        kind: what the output is and by which loss it is judged.
        classes: number of classes, of classification only; by default as many as the largest target says.

    Returns:
        Bias ``(classes,)``, ``(1,)`` for binary, ``(D,)`` for the others; for regression the pair of it and of the
        scale ``(D,)``, to multiply the last layer's outputs by or to start a Gaussian's σ at. On the targets'
        device, of their dtype if that is float32 or float64, of torch's default dtype otherwise.

    Raises:
        ValueError: no targets; NaN or infinite ones; a dtype, shape or range that the kind does not have; targets
            that are all of one class, or do not vary where a variance is asked for, so that the best bias is infinite;
            an unknown kind.

    >>> bias = output_bias_from(torch.tensor([0, 1, 1, 1]), "classification")
    >>> bias.softmax(0)
    tensor([0.2500, 0.7500])
    >>> output_bias_from(torch.tensor([1.0, 5.0]), "regression")
    (tensor([3.]), tensor([2.]))

    Source: Deep Learning, §8.4 (biases: the marginal statistics of the output; variance parameters).
    """
    if kind not in _STATISTICS:
        raise ValueError(f"unknown kind {kind!r}: choose one of {', '.join(_STATISTICS)}")
    if targets.numel() == 0:
        raise ValueError(f"targets of shape {tuple(targets.shape)} are empty: pass at least one example")
    if targets.is_complex():
        raise ValueError(f"targets are {targets.dtype}: pass real numbers, such as their real and imaginary parts")
    if classes is not None and classes < 2:
        raise ValueError(f"classes = {classes}: there must be at least two; use binary for a single output")
    if classes is not None and kind != "classification":
        raise ValueError(f"classes = {classes} applies to classification, not to {kind}: omit it")
    values = targets.detach().cpu()
    bad = int((~values.isfinite()).sum())
    if bad:
        raise ValueError(f"{bad} of {values.numel()} targets are NaN or infinite: omit those examples")
    dtype = targets.dtype if targets.dtype in (torch.float32, torch.float64) else torch.get_default_dtype()
    statistics = [s.to(targets.device, dtype) for s in _STATISTICS[kind](values, *([classes] if classes else []))]
    if not all(s.isfinite().all() for s in statistics):
        raise ValueError(f"the {kind} statistics of the targets exceed the range of {dtype}: rescale the targets")
    return (statistics[0], statistics[1]) if len(statistics) > 1 else statistics[0]


def _classification(values: Tensor, classes: int | None = None) -> tuple[Tensor, ...]:
    if values.is_floating_point() or values.dtype == torch.bool:
        raise ValueError(
            f"classes are integers, not {values.dtype}: pass targets.long(), or the argmax of probabilities"
        )
    values = values.long().flatten()
    low, high = int(values.min()), int(values.max())
    if low < 0:
        raise ValueError(f"class {low} is below 0: classes count from 0; omit the targets that the loss ignores")
    if classes is not None and high >= classes:
        raise ValueError(f"class {high} is not among {classes} classes, 0 to {classes - 1}: pass classes={high + 1}")
    if low == high:
        raise ValueError(f"all {values.numel()} targets are of class {low}: pass examples of at least two classes")
    counts = values.bincount(minlength=classes or 0).double()
    counts[counts == 0] = 0.5
    return ((counts / counts.sum()).log(),)


def _binary(values: Tensor) -> tuple[Tensor, ...]:
    return _multilabel(values.reshape(-1, 1))


def _multilabel(values: Tensor) -> tuple[Tensor, ...]:
    if values.dim() < 2:
        raise ValueError(f"targets of shape {tuple(values.shape)} have no dimension of labels: pass (N, labels)")
    low, high = values.min().item(), values.max().item()
    if low < 0 or high > 1:
        raise ValueError(f"targets range from {low:g} to {high:g}: pass labels 0 and 1, or probabilities between")
    p = _by_output(values).mean(0)
    _refuse((p == 0) | (p == 1), "are all 0 or all 1, so that the logit is infinite: pass examples of both")
    return (p.logit(),)


def _regression(values: Tensor) -> tuple[Tensor, ...]:
    values = _varying(values)
    return values.mean(0), values.std(0, correction=0)


def _log_variance(values: Tensor) -> tuple[Tensor, ...]:
    return (_varying(values).var(0, correction=0).log(),)


def _counts(values: Tensor) -> tuple[Tensor, ...]:
    low = values.min().item()
    if low < 0:
        raise ValueError(f"the smallest count is {low:g}: pass numbers of at least 0, or use regression")
    mean = _by_output(values).mean(0)
    _refuse(mean == 0, "are all 0, so that the logarithm of the mean is infinite: pass examples with counts")
    return (mean.log(),)


def _by_output(values: Tensor) -> Tensor:
    """Returns ``(examples, D)`` in double precision."""
    if values.dim() == 0:
        raise ValueError("targets are a single number without dimensions: pass (N,) or (N, outputs)")
    values = values.double()
    return values[:, None] if values.dim() == 1 else values.movedim(1, -1).flatten(0, -2)


def _varying(values: Tensor) -> Tensor:
    values = _by_output(values)
    _refuse(values.amax(0) == values.amin(0), "do not vary, so that their scale is 0: pass examples that differ")
    return values


def _refuse(degenerate: Tensor, why: str) -> None:
    if degenerate.any():
        at = degenerate.nonzero().flatten().tolist()
        outputs = f"outputs {some(at, 5)}" if len(degenerate) > 1 else ""
        raise ValueError(f"targets{' of ' if outputs else ''}{outputs} {why}")


_STATISTICS: dict[str, Callable[..., tuple[Tensor, ...]]] = {
    "classification": _classification,
    "binary": _binary,
    "multilabel": _multilabel,
    "regression": _regression,
    "counts": _counts,
    "log-variance": _log_variance,
}
