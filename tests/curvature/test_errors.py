"""What cannot be differentiated says so, and says what to do."""

import pytest
import torch

from tests.curvature.models import Matrix, case, draws, symmetric
from thalweg.curvature import (
    GaussNewton,
    Hessian,
    diagonal,
    exact_hessian,
    exact_matrix,
    lanczos,
    linear_cg,
    spectral_density,
    trace,
)


@pytest.fixture
def w():
    return torch.tensor([1.0, 2.0], requires_grad=True)


def both(loss, params):
    """Each constructor that takes a loss, the loss standing for its own outputs."""
    return [lambda: Hessian(loss, params), lambda: GaussNewton(loss, loss, params)]


@pytest.mark.parametrize("which", [0, 1])
def test_a_loss_is_one_real_number(w, which):
    with pytest.raises(ValueError, match=r"one real number, not a torch.float32 tensor of shape \(2,\)"):
        both(w**2, [w])[which]()
    with pytest.raises(ValueError, match="one real number, not a torch.complex64"):
        both((w * 1j).sum(), [w])[which]()


@pytest.mark.parametrize("which", [0, 1])
def test_parameters_are_there_and_trainable(w, which):
    with pytest.raises(ValueError, match="no parameters"):
        both((w**2).sum(), [])[which]()
    with pytest.raises(ValueError, match="parameter 1 does not require a gradient"):
        both((w**2).sum(), [w, torch.zeros(2)])[which]()


@pytest.mark.parametrize("which", [0, 1])
def test_a_loss_without_a_graph(w, which):
    with pytest.raises(ValueError, match="has no graph: it was detached"):
        both((w**2).sum().detach(), [w])[which]()
    with torch.no_grad(), pytest.raises(ValueError, match="has no graph"):
        both((w**2).sum(), [w])[which]()


@pytest.mark.parametrize("which", [0, 1])
def test_a_loss_of_other_parameters(w, which):
    other = torch.ones(3, requires_grad=True)
    with pytest.raises(ValueError, match="none of the parameters"):
        both((other**2).sum(), [w])[which]()


@pytest.mark.parametrize("which", [0, 1])
def test_a_loss_that_went_backward(which):
    made = case("mlp")
    outputs = made.model(made.inputs)
    loss = made.criterion(outputs)
    loss.backward()
    with pytest.raises(ValueError, match=r"must return the loss without calling backward\(\)"):
        (lambda: Hessian(loss, made.params), lambda: GaussNewton(loss, outputs, made.params))[which]()


@pytest.mark.parametrize("which", [0, 1])
def test_parameters_that_moved_on(which):
    made = case("mlp")
    outputs = made.model(made.inputs)
    loss = made.criterion(outputs)
    operator = (Hessian(loss, made.params), GaussNewton(loss, outputs, made.params))[which]
    with torch.no_grad():
        for p in made.params:
            p.add_(1)
    with pytest.raises(ValueError, match="changed in place after the loss was computed"):
        operator @ torch.ones(operator.size, dtype=torch.float64)


def test_outputs_must_be_those_of_the_loss(w):
    z, again = w**2, w**2
    with pytest.raises(ValueError, match="pass the same tensor from which it was computed"):
        GaussNewton(z.sum() ** 2, again, [w])
    with pytest.raises(ValueError, match="outputs have no graph"):
        GaussNewton(z.sum() ** 2, z.detach(), [w])


def test_fused_attention_has_no_second_derivative_and_a_way_out():
    x = torch.randn(1, 2, 4, 8, requires_grad=True)
    attend = torch.nn.functional.scaled_dot_product_attention
    operator = Hessian(attend(x, x, x).square().sum(), [x])
    with pytest.raises(NotImplementedError, match="sdpa_kernel"):
        operator @ torch.ones(operator.size)
    with pytest.raises(NotImplementedError, match="sdpa_kernel"):
        exact_matrix(operator)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        operator = Hessian(attend(x, x, x).square().sum(), [x])
    assert (operator @ torch.ones(operator.size)).norm() > 0


def test_a_compiled_model_has_no_second_derivative_and_a_way_out():
    compiled = torch.compile(lambda x: x.square().exp().sum(), backend="aot_eager")
    x = torch.ones(2, requires_grad=True)
    operator = Hessian(compiled(x), [x])
    with pytest.raises(NotImplementedError, match="call the uncompiled one"):
        operator @ torch.ones(2)


def test_other_errors_of_torch_pass_as_they_are(w):
    operator = Hessian((w**2).sum(), [w])
    with pytest.raises(RuntimeError, match="split"):
        operator @ torch.ones(3)


def test_what_cannot_fit_is_refused_by_size():
    w = torch.zeros(100_000, requires_grad=True)
    message = (
        "the Hessian of 100,000 parameters in float32 takes 37.3 GiB, more than the 2.0 GiB allowed by most_bytes: "
        "use truncated Newton, L-BFGS or nonlinear conjugate gradients instead"
    )
    with pytest.raises(ValueError) as raised:  # noqa: PT011
        exact_hessian((w**2).sum(), [w])
    assert str(raised.value) == message


def test_the_bound_on_a_matrix_is_exact():
    operator = Matrix(symmetric([1.0, 2.0, 3.0]))
    assert exact_matrix(operator, most_bytes=72).shape == (3, 3)
    with pytest.raises(ValueError, match="the matrix of 3 parameters in float64 takes"):
        exact_matrix(operator, most_bytes=71)


def test_settings_that_make_no_sense():
    operator = Matrix(symmetric([1.0, 2.0, 3.0]))
    b = torch.ones(3, dtype=torch.float64)
    for samples in (trace, diagonal):
        with pytest.raises(ValueError, match="samples must be at least 1, not 0"):
            samples(operator, draws(), 0)
    with pytest.raises(ValueError, match="at least one step, not 0"):
        lanczos(operator, b, 0)
    with pytest.raises(ValueError, match="a start of finite norm, not 0.0"):
        lanczos(operator, 0 * b, 2)
    with pytest.raises(ValueError, match="probes must be at least 1"):
        spectral_density(operator, draws(), probes=0)
    with pytest.raises(ValueError, match="width must be positive"):
        spectral_density(operator, draws(), width=0.0)
    with pytest.raises(ValueError, match=r"b has shape \(2,\), the operator takes \(3,\)"):
        linear_cg(operator, b[:2])
    with pytest.raises(ValueError, match="radius must be positive"):
        linear_cg(operator, b, radius=0.0)
    with pytest.raises(ValueError, match="pass no x0"):
        linear_cg(operator, b, radius=1.0, x0=b)
    for preconditioner in (torch.neg, torch.zeros_like):
        with pytest.raises(ValueError, match="not positive definite"):
            linear_cg(operator, b, preconditioner=preconditioner)
    with pytest.raises(ValueError, match="not finite"):
        lanczos(Matrix(operator.matrix * float("nan")), b, 2)
