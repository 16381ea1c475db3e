"""A residual block is its shortcut plus its branch, starts as its shortcut, and says what does not fit."""

import copy

import pytest
import torch
from torch import nn

from thalweg.architecture import Residual
from thalweg.initialization import initialize
from thalweg.initialization.residual import residual_ends


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def dense(width=5, out=None):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(width, 7), nn.Tanh(), nn.Linear(7, out or width))


def convolutional(channels=4, out=None, stride=1):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(channels, 6, 3, stride, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, out or channels, 3, padding=1),
        nn.BatchNorm2d(out or channels),
    )


def test_values_and_gradients_are_those_of_the_sum():
    branch, x = dense().double(), normal(3, 5).double().requires_grad_()
    block = Residual(copy.deepcopy(branch), start=None)
    hidden = torch.tanh(x @ branch[0].weight.T + branch[0].bias)
    expected = x + hidden @ branch[2].weight.T + branch[2].bias
    torch.testing.assert_close(block(x), expected)
    assert torch.autograd.gradcheck(block, x)


@pytest.mark.parametrize(
    ("branch", "x"),
    [
        (dense, normal(3, 5)),
        (convolutional, normal(3, 4, 6, 6)),
        (lambda: nn.Sequential(nn.LayerNorm(5), nn.GELU(), nn.Linear(5, 5), nn.Dropout(0.5)), normal(3, 8, 5)),
        (lambda: nn.Sequential(nn.Sequential(nn.Linear(5, 5), nn.RMSNorm(5)), nn.Tanh()), normal(3, 5)),
        (lambda: nn.Sequential(nn.Linear(5, 5), nn.PReLU(5)), normal(3, 5)),
        (lambda: nn.Linear(5, 5), normal(5)),
    ],
)
@pytest.mark.parametrize("start", ["zero", "gate"])
def test_block_starts_as_the_identity_and_learns(branch, x, start):
    block = Residual(branch(), start=start)
    assert torch.equal(block(x), x)
    optimizer = torch.optim.SGD(block.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        (block(x) - normal(*x.shape, seed=1)).square().mean().backward()
        optimizer.step()
    assert not torch.equal(block(x), x)
    assert all(p.grad.any() for p in block.parameters() if p.dim() > 1)  # the inner layers, too, from the second step


def test_gate_multiplies_the_branch():
    block, x = Residual(dense(), start="gate"), normal(3, 5)
    with torch.no_grad():
        block.gate.fill_(0.3)
    torch.testing.assert_close(block(x), x + 0.3 * block.branch(x))


@pytest.mark.parametrize(
    ("branch", "x", "stride"),
    [
        (lambda: convolutional(4, 8, stride=2), normal(3, 4, 7, 7), (2, 2)),
        (lambda: convolutional(4, 8, stride=2), normal(3, 4, 8, 6), (2, 2)),
        (lambda: convolutional(4, 4, stride=3), normal(3, 4, 7, 9), (3, 3)),
        (lambda: nn.Sequential(nn.Conv1d(4, 8, 3, 2, padding=1)), normal(3, 4, 9), (2,)),
        (lambda: nn.Sequential(nn.Conv3d(4, 8, 1)), normal(3, 4, 2, 2, 2), (1, 1, 1)),
    ],
)
def test_automatic_shortcut_is_a_1x1_convolution_with_the_branch_s_stride(branch, x, stride):
    block = Residual(branch(), probe=x, generator=torch.Generator().manual_seed(1))
    assert (set(block.shortcut.kernel_size), block.shortcut.stride, block.shortcut.bias) == ({1}, stride, None)
    every = x[(slice(None), slice(None), *(slice(None, None, s) for s in stride))]
    expected = torch.einsum("oi,ni...->no...", block.shortcut.weight.flatten(1), every)
    torch.testing.assert_close(block(x), expected)


def test_automatic_shortcut_of_dense_branches_is_linear():
    block, x = Residual(dense(5, 9), generator=torch.Generator().manual_seed(1)), normal(3, 2, 5)
    torch.testing.assert_close(block(x), x @ block.shortcut.weight.T)
    assert block.shortcut.weight.shape == (9, 5)


def test_first_batch_decides_what_a_probe_does_and_an_early_optimizer_holds_the_projection():
    probed = Residual(dense(5, 9), probe=normal(1, 5), generator=torch.Generator().manual_seed(1))
    block = Residual(dense(5, 9), generator=torch.Generator().manual_seed(1))
    optimizer = torch.optim.SGD(block.parameters(), lr=0.1)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    with torch.inference_mode():
        block(normal(3, 5))
    block(normal(3, 5)).sum().backward()
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(block.shortcut.weight, probed.shortcut.weight)
    optimizer.step()
    assert not torch.equal(block.shortcut.weight, probed.shortcut.weight)
    assert Residual(dense(), probe=normal(1, 5)).shortcut.state_dict() == {}


def test_probe_leaves_no_trace():
    branch = convolutional()
    Residual(branch, probe=normal(2, 4, 6, 6))
    assert int(branch[1].num_batches_tracked) == 0
    assert branch.training


def test_given_shortcut_is_used():
    shortcut = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(4, 8, 1))
    block, x = Residual(convolutional(4, 8, stride=2), shortcut), normal(3, 4, 6, 6)
    assert torch.equal(block(x), shortcut(x))


@pytest.mark.parametrize(
    ("branch", "options", "message"),
    [
        (lambda: nn.Sequential(nn.Linear(5, 5), nn.ReLU()), {}, "ends in a ReLU, which passes no gradient at 0"),
        (lambda: nn.Sequential(nn.Linear(5, 5), nn.Sigmoid()), {}, "ends in a Sigmoid, which is not 0 at 0"),
        (lambda: nn.Sequential(nn.BatchNorm1d(5, affine=False)), {}, "BatchNorm1d that has no weight of its own"),
        (lambda: nn.utils.parametrizations.weight_norm(nn.Linear(5, 5)), {}, "that has no weight of its own"),
        (
            lambda: nn.TransformerEncoderLayer(4, 2),
            {},
            "the last layer of a TransformerEncoderLayer cannot be determined",
        ),
        (lambda: nn.Sequential(nn.Tanh()), {}, "no normalization or layer to start at zero"),
        (lambda: nn.Sequential(nn.ReLU(inplace=True), nn.Linear(5, 5)), {}, r"starts with ReLU\(inplace=True\)"),
        (dense, {"start": "one"}, "unknown start 'one': choose zero, gate or None"),
        (dense, {"shortcut": "identity"}, "unknown shortcut 'identity': pass auto or a module"),
    ],
)
def test_what_cannot_be_built_says_why_and_changes_nothing(branch, options, message):
    branch = branch()
    before = copy.deepcopy(branch.state_dict())
    with pytest.raises(ValueError, match=message):
        Residual(branch, **options)
    assert all(torch.equal(value, before[name]) for name, value in branch.state_dict().items())


def test_shapes_that_do_not_agree_are_named():
    valid = nn.Sequential(nn.Conv2d(4, 4, 3))
    with pytest.raises(ValueError, match=r"no 1×1 convolution maps \(2, 4, 6, 6\) to the branch's \(2, 4, 4, 4\): pad"):
        Residual(valid)(normal(2, 4, 6, 6))
    with pytest.raises(ValueError, match=r"no linear layer maps \(2, 5\) to the branch's \(10,\)"):
        Residual(nn.Flatten(0), start=None)(normal(2, 5))
    block = Residual(nn.Linear(5, 1), nn.Identity())  # would be broadcast
    with pytest.raises(ValueError, match=r"on input \(2, 5\) the shortcut gives \(2, 5\) and the branch \(2, 1\)"):
        block(normal(2, 5))


def network(**options):
    blocks = [Residual(nn.Sequential(nn.ReLU(), nn.Linear(5, 5)), probe=normal(1, 5), **options) for _ in range(3)]
    return nn.Sequential(nn.Linear(4, 5), *blocks, nn.Linear(5, 2))


def test_initialization_finds_the_branches():
    assert residual_ends(network()) == [f"{i}.branch.1" for i in (1, 2, 3)]
    assert residual_ends(network(start="gate")) == []  # zero twice would have no gradient
    model, x = network(), normal(6, 4)
    initialize(model, "he", torch.Generator().manual_seed(0), residual="zero")
    torch.testing.assert_close(model(x), model[4](model[0](x)))


@pytest.mark.parametrize("start", ["zero", "gate", None])
def test_stacked_compiled_and_copied_blocks_equal_plain_ones(start):
    model, x = network(start=start), normal(6, 4)
    assert torch.equal(copy.deepcopy(model)(x), model(x))
    torch.testing.assert_close(torch.compile(model, backend="eager", fullgraph=True)(x), model(x))
    stacked = {name: torch.stack([p.detach(), 2 * p.detach()]) for name, p in model.named_parameters()}
    both = torch.func.vmap(lambda named: torch.func.functional_call(model, named, (x,)))(stacked)
    torch.testing.assert_close(both[0], model(x))


def test_a_layer_with_an_activation_of_its_own_is_no_end_to_start_at_zero():
    class Fused(nn.Linear):
        def forward(self, x):
            return super().forward(x).relu()

    with pytest.raises(ValueError, match="whose start is not known: this Fused has a forward of its own"):
        Residual(Fused(3, 3))
