"""The output's bias: no constant does better on the targets."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import optimize
from torch import nn

from thalweg.initialization import output_bias_from

seeds = st.integers(0, 2**32)


def model(bias):
    """A dense layer whose weights are 0 and whose bias is the given one: it answers the same to everything."""
    layer = nn.Linear(3, len(bias), dtype=torch.float64)
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.copy_(bias)
    return layer


def starting_loss(loss, bias, targets):
    x = torch.randn(len(targets), 3, dtype=torch.float64)
    with torch.no_grad():
        return loss(model(bias)(x), targets).item()


def least_loss(loss, size, targets):
    """The best constant's loss, by a minimization that knows nothing but the loss."""

    def value_and_gradient(constant):
        b = torch.tensor(constant, requires_grad=True)
        value = loss(b.expand(len(targets), size), targets)
        (gradient,) = torch.autograd.grad(value, b)
        return value.item(), gradient.numpy()

    found = optimize.minimize(value_and_gradient, np.zeros(size), jac=True, method="BFGS", options={"gtol": 1e-9})
    return found.fun


def poisson(output, targets):
    return F.poisson_nll_loss(output, targets, log_input=True)


def gaussian(output, targets):
    return F.gaussian_nll_loss(targets.mean(0).expand_as(targets), targets, output.exp(), eps=1e-30)


binary = F.binary_cross_entropy_with_logits


@given(st.integers(2, 6), st.integers(0, 60), seeds)
@settings(max_examples=25, deadline=None)
def test_classes(classes, more, seed):
    extra = torch.randint(classes, (more,), generator=torch.Generator().manual_seed(seed))
    targets = torch.cat([torch.arange(classes), extra])
    bias = output_bias_from(targets, "classification")
    frequencies = targets.bincount() / len(targets)
    torch.testing.assert_close(bias.softmax(0), frequencies)
    entropy = -(frequencies * frequencies.log()).sum().item()
    assert starting_loss(F.cross_entropy, bias, targets) == pytest.approx(entropy, rel=1e-5)
    assert entropy == pytest.approx(least_loss(F.cross_entropy, classes, targets), rel=1e-5)


@given(st.integers(2, 20), seeds)
@settings(max_examples=25, deadline=None)
def test_a_class_without_examples_counts_as_half_of_one(classes, seed):
    targets = torch.randint(classes, (30,), generator=torch.Generator().manual_seed(seed))
    counts = targets.bincount(minlength=classes + 2).double()
    assume(targets.unique().numel() > 1)
    bias = output_bias_from(targets, "classification", classes + 2)
    expected = counts.clamp(min=0.5)
    torch.testing.assert_close(bias.softmax(0).double(), expected / expected.sum(), rtol=1e-5, atol=0)
    # What the unseen ones cost: all that is seen becomes less likely by the same factor.
    p = counts[counts > 0] / 30
    cost = math.log(expected.sum() / 30)
    loss = starting_loss(F.cross_entropy, bias, targets)
    assert loss == pytest.approx(-(p * p.log()).sum().item() + cost, rel=1e-5)


def test_classes_of_pixels():
    targets = torch.tensor([[[0, 1], [1, 1]], [[2, 0], [1, 2]]], dtype=torch.uint8)
    bias = output_bias_from(targets, "classification")
    torch.testing.assert_close(bias.softmax(0), torch.tensor([0.25, 0.5, 0.25]))


@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([torch.bool, torch.int64, torch.float64]))
@settings(max_examples=25, deadline=None)
def test_binary(zeros, ones, dtype):
    targets = torch.tensor([0] * zeros + [1] * ones)
    bias = output_bias_from(targets.to(dtype), "binary")
    assert bias.shape == (1,)
    p = ones / (zeros + ones)
    assert bias.sigmoid().item() == pytest.approx(p)
    entropy = -p * math.log(p) - (1 - p) * math.log(1 - p)
    column = targets.double()[:, None]
    assert starting_loss(binary, bias, column) == pytest.approx(entropy)
    assert entropy == pytest.approx(least_loss(binary, 1, column))


@given(st.integers(1, 4), st.booleans(), seeds)
@settings(max_examples=25, deadline=None)
def test_labels(labels, soft, seed):
    targets = torch.rand(40, labels, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    targets = targets if soft else (targets < 0.4).double()
    assume(((targets.mean(0) > 0) & (targets.mean(0) < 1)).all())
    bias = output_bias_from(targets, "multilabel")
    assert bias.shape == (labels,)
    assert starting_loss(binary, bias, targets) == pytest.approx(least_loss(binary, labels, targets), rel=1e-8)


@given(st.integers(1, 4), st.floats(-100, 100), st.floats(0.01, 100), seeds)
@settings(max_examples=25, deadline=None)
def test_regression(outputs, mean, scale, seed):
    targets = torch.randn(30, outputs, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    targets = mean + scale * targets
    bias, spread = output_bias_from(targets, "regression")
    assert bias.shape == spread.shape == (outputs,)
    loss = starting_loss(F.mse_loss, bias, targets)
    assert loss == pytest.approx(spread.square().mean().item())
    assert loss == pytest.approx(least_loss(F.mse_loss, outputs, targets))
    # Targets in units of the scale have mean 0 and variance 1.
    standard = (targets - bias) / spread
    torch.testing.assert_close(standard.square().mean(0), torch.ones(outputs, dtype=torch.float64))


@given(st.integers(1, 4), st.floats(0.3, 20), seeds)
@settings(max_examples=25, deadline=None)
def test_counts(outputs, rate, seed):
    targets = torch.poisson(torch.full((40, outputs), rate).double(), torch.Generator().manual_seed(seed))
    assume((targets.sum(0) > 0).all())
    bias = output_bias_from(targets, "counts")
    loss = starting_loss(poisson, bias, targets)
    assert loss == pytest.approx(least_loss(poisson, outputs, targets), rel=1e-8, abs=1e-8)
    torch.testing.assert_close(output_bias_from(targets.long(), "counts").double(), bias, rtol=1e-5, atol=1e-6)


@given(st.integers(1, 4), st.floats(0.05, 20), seeds)
@settings(max_examples=25, deadline=None)
def test_log_variance(outputs, scale, seed):
    targets = scale * torch.randn(30, outputs, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    bias = output_bias_from(targets, "log-variance")
    loss = starting_loss(gaussian, bias, targets)
    assert loss == pytest.approx(0.5 + bias.mean().item() / 2)
    assert loss == pytest.approx(least_loss(gaussian, outputs, targets), rel=1e-8, abs=1e-8)


@pytest.mark.parametrize("kind", ["multilabel", "regression", "counts", "log-variance"])
def test_pixels_are_averaged_over(kind):
    images = torch.rand(4, 3, 5, 2, generator=torch.Generator().manual_seed(0))
    flat = images.movedim(1, -1).reshape(-1, 3)
    torch.testing.assert_close(output_bias_from(images, kind), output_bias_from(flat, kind))


@pytest.mark.parametrize("kind", ["regression", "counts", "log-variance"])
def test_a_vector_is_one_output(kind):
    targets = torch.tensor([1.0, 2.0, 4.0])
    torch.testing.assert_close(output_bias_from(targets, kind), output_bias_from(targets[:, None], kind))


def test_dtype_is_that_of_the_targets_or_torchs_default():
    assert output_bias_from(torch.tensor([0.0, 1.0]).double(), "binary").dtype == torch.float64
    assert output_bias_from(torch.tensor([0.0, 1.0]).half(), "binary").dtype == torch.float32
    assert output_bias_from(torch.tensor([0, 1]), "binary").dtype == torch.float32


def test_targets_far_from_zero_lose_nothing_to_rounding():
    targets = torch.tensor([1e6 - 1, 1e6, 1e6 + 1])
    _, scale = output_bias_from(targets, "regression")
    assert scale.item() == pytest.approx((2 / 3) ** 0.5)


def test_targets_may_require_a_gradient_and_the_bias_does_not():
    targets = torch.tensor([0.5, 2.0], requires_grad=True)
    assert not output_bias_from(targets, "counts").requires_grad


KINDS = ["classification", "binary", "multilabel", "regression", "counts", "log-variance"]


@pytest.mark.parametrize("kind", KINDS)
def test_no_targets_are_refused(kind):
    with pytest.raises(ValueError, match=r"targets of shape \(0, 3\) are empty: pass at least one example"):
        output_bias_from(torch.empty(0, 3), kind)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_targets_that_are_not_finite_are_refused_by_number(kind, bad):
    targets = torch.tensor([[0.0, 1.0], [1.0, bad]])
    with pytest.raises(ValueError, match="1 of 4 targets are NaN or infinite: omit those examples"):
        output_bias_from(targets, kind)


@pytest.mark.parametrize("kind", KINDS)
def test_complex_targets_are_refused(kind):
    with pytest.raises(ValueError, match="complex64: pass real numbers"):
        output_bias_from(torch.zeros(2, dtype=torch.complex64), kind)


@pytest.mark.parametrize("kind", ["multilabel", "regression", "counts", "log-variance"])
def test_a_number_alone_is_refused(kind):
    with pytest.raises(ValueError, match="pass \\(N"):
        output_bias_from(torch.tensor(0.5), kind)


@pytest.mark.parametrize(
    ("kind", "targets", "cause"),
    [
        ("classification", [0.0, 1.0], "classes are integers, not torch.float32: pass targets.long()"),
        ("classification", [True, False], "classes are integers, not torch.bool"),
        ("classification", [2, 2, 2], "all 3 targets are of class 2: pass examples of at least two classes"),
        ("classification", [0, -100], "class -100 is below 0: classes count from 0; omit the targets"),
        ("binary", [1, 1], "targets are all 0 or all 1, so that the logit is infinite: pass examples of both"),
        ("binary", [0, 0], "targets are all 0 or all 1"),
        ("binary", [0, 1, 2], "targets range from 0 to 2: pass labels 0 and 1"),
        ("binary", [-1.0, 1.0], "targets range from -1 to 1: pass labels 0 and 1"),
        ("multilabel", [0, 1], "have no dimension of labels: pass (N, labels)"),
        ("multilabel", [[0, 1, 1], [1, 1, 1]], "targets of outputs 1, 2 are all 0 or all 1"),
        ("multilabel", [[0, 1], [1, 3]], "targets range from 0 to 3"),
        ("regression", [0.1, 0.1, 0.1], "targets do not vary, so that their scale is 0: pass examples that differ"),
        ("regression", [[1.0, 2.0], [3.0, 2.0]], "targets of outputs 1 do not vary"),
        ("counts", [0, 0], "targets are all 0, so that the logarithm of the mean is infinite"),
        ("counts", [3, -1], "the smallest count is -1: pass numbers of at least 0, or use regression"),
        ("log-variance", [[0.1] * 7] * 3, "targets of outputs 0, 1, 2, 3, 4 … do not vary"),
        ("log-variance", [5.0], "targets do not vary"),
    ],
)
def test_degenerate_targets_are_refused_with_cause_and_mend(kind, targets, cause):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        output_bias_from(torch.tensor(targets), kind)
    assert cause in str(error.value)


def test_statistics_beyond_the_range_are_refused():
    with pytest.raises(ValueError, match="exceed the range of torch.float64: rescale"):
        output_bias_from(torch.tensor([1e-200, 2e-200], dtype=torch.float64), "log-variance")


def test_classes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="class 3 is not among 3 classes, 0 to 2: pass classes=4"):
        output_bias_from(torch.tensor([0, 3]), "classification", 3)
    with pytest.raises(ValueError, match="classes = 1: there must be at least two"):
        output_bias_from(torch.tensor([0, 0]), "classification", 1)
    with pytest.raises(ValueError, match="classes = 2 applies to classification, not to binary"):
        output_bias_from(torch.tensor([0, 1]), "binary", 2)


def test_an_unknown_kind_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match=f"unknown kind 'poisson': choose one of {', '.join(KINDS)}"):
        output_bias_from(torch.tensor([0, 1]), "poisson")
