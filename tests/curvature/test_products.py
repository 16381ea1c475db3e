"""Every operator equals the matrix that the chain rule, written out densely, gives."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.curvature.models import Matrix, case, draws, normal, symmetric
from thalweg.curvature import (
    Damped,
    GaussNewton,
    Hessian,
    exact_hessian,
    exact_matrix,
    extreme_eigenvalues,
    linear_cg,
    trace,
)
from thalweg.tensors.vector import from_vector, to_vector

NAMES = ["mlp", "convolution", "attention", "linear"]
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA"))]


def hessian(made):
    return Hessian(made.loss(), made.params)


def gauss_newton(made):
    outputs = made.model(made.inputs)
    return GaussNewton(made.criterion(outputs), outputs, made.params)


OPERATORS = {"hessian": hessian, "gauss-newton": gauss_newton, "damped": lambda made: Damped(hessian(made), 0.3)}


def close(actual, expected, rtol=1e-9):
    torch.testing.assert_close(actual, expected, rtol=rtol, atol=rtol * float(expected.abs().max()))


@pytest.mark.parametrize("name", NAMES)
def test_hessian_is_the_dense_one(name):
    made = case(name)
    close(hessian(made).dense(), made.hessian())
    close(Hessian.of(made.loss_at, made.flat).dense(), made.hessian())


@pytest.mark.parametrize("name", NAMES)
def test_gauss_newton_is_the_product_of_its_factors(name):
    made = case(name)
    close(gauss_newton(made).dense(), made.gauss_newton())
    close(GaussNewton.of(made.outputs_at, made.criterion, made.flat).dense(), made.gauss_newton())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("make", [hessian, gauss_newton])
def test_the_gradient_comes_along(name, make):
    made = case(name)
    close(make(made).gradient, torch.func.grad(made.loss_at)(made.flat))


@pytest.mark.parametrize("seed", range(3))
def test_damping_adds_to_the_diagonal(seed):
    matrix = symmetric([-2.0, 0.5, 1.0, 3.0], seed)
    operator = Damped(Matrix(matrix), 0.7)
    identity = torch.eye(4, dtype=torch.float64)
    close(operator.dense(), matrix + 0.7 * identity)
    operator.damping = torch.tensor(2.5)
    close(operator.dense(), matrix + 2.5 * identity)
    operator.damping = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)
    close(operator.dense(), matrix + torch.diag(operator.damping))
    assert operator.products == operator.operator.products == 12


@pytest.mark.parametrize("kind", OPERATORS)
@settings(max_examples=15, deadline=None)
@given(st.sampled_from(NAMES), st.integers(0, 2**31), st.floats(-10, 10))
def test_products_are_linear_and_symmetric(kind, name, seed, c):
    operator = OPERATORS[kind](case(name, seed % 5))
    u, v = normal(2, operator.size, seed=seed)
    hu, hv = operator @ u, operator @ v
    scale = float(hu.norm() + hv.norm()) * (1 + abs(c))
    assert (operator @ (u + c * v) - hu - c * hv).norm() <= 1e-12 * scale
    assert abs(u @ hv - v @ hu) <= 1e-12 * scale * float(u.norm() + v.norm())
    assert operator.products == 3


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", ["mlp", "convolution", "attention"])
def test_gauss_newton_has_no_negative_curvature_where_the_hessian_has(name, seed):
    """The loss is convex in the outputs, so vᵀGv = (Jv)ᵀ H_L (Jv) ≥ 0; the models themselves bend both ways."""
    made = case(name, seed)
    g, h = (torch.linalg.eigvalsh(operator(made).dense()) for operator in (gauss_newton, hessian))
    assert g[0] >= -1e-12 * g[-1]
    assert h[0] < -1e-3 * h[-1]


def test_gauss_newton_is_the_hessian_of_a_linear_model():
    made = case("linear")
    close(gauss_newton(made).dense(), made.hessian())


def test_gauss_newton_of_least_squares_leaves_out_residual_times_curvature():
    """½ Σ r², r_k = x_k² − y_k: H = diag(2 r + 4 x²), of which the first term is left out."""
    x, y = torch.tensor([1.0, -2.0, 3.0]), torch.tensor([2.0, 1.0, 9.0])
    g = GaussNewton.of(lambda x: x**2 - y, lambda r: r.square().sum() / 2, x)
    h = Hessian.of(lambda x: (x**2 - y).square().sum() / 2, x)
    assert g.dense().equal(torch.diag(4 * x**2))
    assert h.dense().equal(torch.diag(2 * (x**2 - y) + 4 * x**2))


def test_weight_decay_past_the_outputs_counts_in_the_gradient_alone():
    made = case("mlp")
    outputs = made.model(made.inputs)
    decay = sum(p.square().sum() for p in made.params) / 2
    operator = GaussNewton(made.criterion(outputs) + decay, outputs, made.params)
    close(operator.dense(), made.gauss_newton())
    close(operator.gradient, torch.func.grad(made.loss_at)(made.flat) + made.flat)


def test_several_outputs_are_as_one():
    """A loss of two heads: one of them twice, the other linear, so that it has no curvature of its own."""
    w = normal(3, seed=1).requires_grad_()
    one, two = torch.sin(w), w.prod()
    operator = GaussNewton(one.square().sum() + one.sum() * two, [one, two], [w])

    def loss(z):
        return z[:3].square().sum() + z[:3].sum() * z[3]

    reference = GaussNewton.of(lambda x: torch.cat([torch.sin(x), x.prod()[None]]), loss, w)
    jacobian = torch.cat([torch.diag(torch.cos(w.detach())), (w.detach().prod() / w.detach())[None]])
    bend = torch.autograd.functional.hessian(loss, torch.zeros(4, dtype=torch.float64))
    close(operator.dense(), jacobian.T @ bend @ jacobian)
    close(reference.dense(), jacobian.T @ bend @ jacobian)


def test_an_output_without_curvature_and_one_without_parameters():
    w = torch.tensor([1.0, 2.0], requires_grad=True)
    free = torch.tensor([3.0], requires_grad=True)
    square, line, other = w**2, 5 * w, 2 * free
    operator = GaussNewton(square.square().sum() / 2 + line.sum() + other.square().sum(), [square, line, other], [w])
    assert operator.dense().equal(torch.diag(4 * w.detach() ** 2))


@pytest.mark.parametrize("make", [hessian, gauss_newton])
def test_unused_parameters_are_zeros(make):
    made = case("mlp")
    expected = made.hessian() if make is hessian else made.gauss_newton()
    made.model.register_parameter("unused", torch.nn.Parameter(torch.ones(2, 2, dtype=torch.float64)))
    operator = make(made)  # a module's own parameters come before those of its parts
    dense = operator.dense()
    assert operator.size == len(expected) + 4
    close(dense[4:, 4:], expected)
    assert not dense[:4].any()
    assert not dense[:, :4].any()
    assert not operator.gradient[:4].any()


@pytest.mark.parametrize("make", [hessian, gauss_newton])
def test_float32_is_near_float64_and_stays_float32(make):
    single, double = case("mlp", dtype=torch.float32), case("mlp")
    double.model.load_state_dict(single.model.state_dict())
    operator = make(single)
    dense = operator.dense()
    assert operator.dtype == dense.dtype == operator.gradient.dtype == torch.float32
    close(dense.double(), make(double).dense(), rtol=1e-5)


def mixed_loss(w, m, s):
    return (w.sum() * m.double().square().sum()).sin() + (w[0] * s.double()).exp()


def test_mixed_types_and_shapes_work_in_the_widest():
    tensors = [normal(3), normal(2, 2, seed=1, dtype=torch.float32), normal(1, seed=2, dtype=torch.bfloat16)[0]]
    params = [t.requires_grad_() for t in tensors]
    operator = Hessian(mixed_loss(*params), params)
    assert (operator.size, operator.dtype) == (8, torch.float64)
    flat = to_vector([p.detach() for p in params])
    expected = torch.autograd.functional.hessian(
        lambda x: mixed_loss(*from_vector(x, [torch.empty(p.shape, dtype=torch.float64) for p in params])), flat
    )
    close(operator.dense(), expected, rtol=1e-2)  # bfloat16 keeps 8 bits …
    close(operator.dense()[:7, :7], expected[:7, :7], rtol=1e-6)  # … and harms none but itself
    z = torch.stack([params[0].sum(), params[1].double().square().sum()])
    dense = GaussNewton(z.prod() ** 2, z, params).dense()
    a, b = z.tolist()
    jacobian = torch.zeros(2, 8, dtype=torch.float64)
    jacobian[0, :3], jacobian[1, 3:7] = 1, 2 * flat[3:7]
    close(dense, jacobian.T @ torch.tensor([[2 * b * b, 4 * a * b], [4 * a * b, 2 * a * a]]).double() @ jacobian, 1e-6)


def test_a_complex_parameter_is_two_real_ones():
    def loss(c):
        return (c**3).real.sum() + c.abs().square().sum() ** 2

    pairs = normal(3, 2)
    c = torch.view_as_complex(pairs.clone()).requires_grad_()
    expected = torch.autograd.functional.hessian(lambda x: loss(torch.view_as_complex(x.view(3, 2))), pairs.flatten())
    close(Hessian(loss(c), [c]).dense(), expected)
    z = c**2
    jacobian = torch.func.jacrev(lambda x: torch.view_as_real(torch.view_as_complex(x.view(3, 2)) ** 2).flatten())
    factor = jacobian(pairs.flatten())
    close(GaussNewton(z.abs().square().sum() / 2, z, [c]).dense(), factor.T @ factor)


@pytest.mark.parametrize("device", DEVICES)
def test_operators_live_where_their_parameters_do(device):
    made, there = case("mlp"), case("mlp")
    made.criterion = there.criterion = lambda z: torch.logsumexp(z, dim=1).sum()
    there.model.to(device)
    there.inputs = there.inputs.to(device)
    operator = hessian(there)
    assert operator.device.type == operator.gradient.device.type == device
    close(operator.dense(), made.hessian().to(device))
    close(exact_matrix(gauss_newton(there)), made.gauss_newton().to(device))
    step = linear_cg(Damped(gauss_newton(there), 1.0), -operator.gradient, tolerance=1e-12).x
    damped = made.gauss_newton() + torch.eye(operator.size, dtype=torch.float64)
    close(step.cpu(), torch.linalg.solve(damped, -operator.gradient.cpu()))
    ends = extreme_eigenvalues(operator, draws(), tolerance=1e-8)
    assert ends.largest.value == pytest.approx(float(torch.linalg.eigvalsh(made.hessian())[-1]))
    estimate = trace(operator, draws(), 4)
    assert estimate == pytest.approx(trace(hessian(made), draws(), 4))


def test_products_work_under_no_grad_and_leave_no_trace():
    made = case("mlp")
    with torch.no_grad():
        with torch.enable_grad():
            loss = made.loss()
        operator = Hessian(loss, made.params)
        product = operator @ normal(operator.size)
        of = Hessian.of(made.loss_at, made.flat) @ normal(operator.size)
        close(GaussNewton.of(made.outputs_at, made.criterion, made.flat).dense(), made.gauss_newton())
    close(product, made.hessian() @ normal(operator.size))
    close(of, product)
    assert all(p.grad is None for p in made.params)
    vector = normal(operator.size).requires_grad_()
    assert not (operator @ vector).requires_grad
    assert not operator.gradient.requires_grad
    assert not hessian(made).gradient.requires_grad
    assert not gauss_newton(made).gradient.requires_grad


def test_products_of_a_constant_gradient_are_zero():
    """Linear, and linear piece by piece: autograd sees no curvature, and says so in zeros."""
    w = torch.tensor([1.0, -2.0], requires_grad=True)
    assert Hessian((3 * w).sum(), [w]).dense().equal(torch.zeros(2, 2))
    assert Hessian(torch.relu(w).sum() + w.abs().sum(), [w]).dense().equal(torch.zeros(2, 2))
    z = w**2
    assert GaussNewton(z.sum(), z, [w]).dense().equal(torch.zeros(2, 2))


@pytest.mark.parametrize("name", NAMES)
def test_exact_hessian_is_the_dense_one_and_symmetric(name):
    made = case(name)
    found = exact_hessian(made.loss(), made.params)
    close(found, made.hessian())
    assert found.equal(found.T)


@pytest.mark.parametrize("size", [1, 63, 64, 65, 130])
def test_exact_matrix_of_any_size_counts_its_products(size):
    operator = Matrix(symmetric(torch.arange(size)))
    close(exact_matrix(operator), operator.matrix)
    assert operator.products == size


def test_exact_matrix_without_a_batching_rule_is_made_one_by_one():
    class Stubborn(Matrix):
        def _product(self, vector):
            assert float(vector.sum()) == 1  # a branch on a tensor's value, which vmap refuses
            return super()._product(vector)

    operator = Stubborn(symmetric([1.0, 2.0, -3.0]))
    close(exact_matrix(operator), operator.matrix)
    assert operator.products == 3
