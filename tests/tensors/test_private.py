"""Each name that torch or scikit-learn does not publish does what this package takes it for; what fails is named."""

import copy
import importlib
import numbers
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

from thalweg.coordinate import scikit_learn
from thalweg.tensors import private

NORMS = [nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm]
INSTANCE_NORMS = [nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d]
CONVOLUTIONS = [getattr(nn, f"Conv{kind}{n}d") for kind in ("", "Transpose") for n in (1, 2, 3)]
DROPOUTS = [nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout]
POOLINGS = [getattr(nn, f"{kind}Pool{n}d") for kind in ("Max", "Avg", "AdaptiveAvg", "AdaptiveMax") for n in (1, 2, 3)]
BASES = {
    "BatchNormBase": (NORMS, INSTANCE_NORMS),
    "NormBase": (NORMS + INSTANCE_NORMS, [nn.LayerNorm]),
    "InstanceNormBase": (INSTANCE_NORMS, NORMS),
    "ConvolutionBase": (CONVOLUTIONS, [nn.Linear]),
    "DropoutBase": (DROPOUTS, [nn.Identity]),
    "POOLINGS": (POOLINGS, [nn.LPPool1d]),
}


@pytest.mark.parametrize("name", BASES)
def test_a_base_is_that_of_its_public_classes_and_of_no_others(name):
    base, (inside, outside) = getattr(private, name), BASES[name]
    assert all(issubclass(cls, base) for cls in inside)
    assert not any(issubclass(cls, base) for cls in outside)


@pytest.mark.parametrize("name", ["add", "sub", "mul", "div", "neg", "sqrt", "maximum", "abs", "sign", "pow"])
def test_a_kernel_over_lists_is_the_loop(name):
    kernel, one = private.foreach(name), getattr(torch, name)
    a, b = [[torch.rand(n, dtype=torch.float64) for n in (3, 4)] for _ in range(2)]
    rest = [] if name in ("neg", "sqrt", "abs", "sign") else [b]
    expected = [one(*(values[i] for values in (a, *rest))) for i in range(2)]
    for found, wanted in zip(kernel(a, *rest), expected, strict=True):
        assert torch.equal(found, wanted)
    assert private.foreach("no_such_operation") is None


def test_kernels_in_place_over_lists_are_the_loop():
    a, b = [torch.zeros(2), torch.ones(3)], [torch.ones(2), torch.full((3,), 3.0)]
    private.foreach_lerp_(a, b, 0.5)
    assert [t.tolist() for t in a] == [[0.5] * 2, [2.0] * 3]
    private.foreach_add_(a, 1)
    assert [t.tolist() for t in a] == [[1.5] * 2, [3.0] * 3]
    private.foreach_copy_(a, b)
    assert all(map(torch.equal, a, b))


def fused(name, p, grad):
    state, steps = [torch.zeros_like(p) for _ in range(2)], [torch.ones((), dtype=torch.float64)]
    common = {"lr": 0.1, "weight_decay": 0.2, "maximize": False}
    if name == "SGD":
        more = {"momentum": 0.9, "dampening": 0.0, "nesterov": True, "is_first_step": True}
        private.fused_sgd_([p], [grad], state[:1], **more, **common)
    elif name == "Adagrad":
        private.fused_adagrad_([p], [grad], state[:1], steps, lr_decay=0.0, eps=1e-8, **common)
    else:
        kernel = private.fused_adam_ if name == "Adam" else private.fused_adamw_
        more = {"beta1": 0.9, "beta2": 0.99, "eps": 1e-8, "amsgrad": False}
        kernel([p], [grad], state[:1], state[1:], [], steps, **more, **common)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("SGD", {"momentum": 0.9, "nesterov": True}),
        ("Adagrad", {"eps": 1e-8}),
        ("Adam", {"betas": (0.9, 0.99)}),
        ("AdamW", {"betas": (0.9, 0.99)}),
    ],
)
def test_a_fused_kernel_takes_torchs_step(name, options):
    p = nn.Parameter(torch.rand(5, dtype=torch.float64))
    grad, own = torch.rand(5, dtype=torch.float64), p.detach().clone()
    p.grad = grad.clone()
    getattr(torch.optim, name)([p], lr=0.1, weight_decay=0.2, **options).step()
    fused(name, own, grad)
    torch.testing.assert_close(own, p.detach())


def test_write_count_rises_when_a_tensor_is_written_to():
    x = torch.zeros(2)
    before = private.write_count(x)
    x.view(1, 2).add_(1)
    assert private.write_count(x) > before
    with torch.inference_mode():
        assert private.write_count(torch.zeros(2).add_(1)) == 0


def test_an_assertion_stays_in_a_graph():
    class Model(nn.Module):
        def forward(self, x):
            private.assert_in_graph(x.dim() == 2, "give rows")
            return x + 1

    traced = torch.fx.symbolic_trace(Model())
    assert traced(torch.zeros(1, 2)).tolist() == [[1.0, 1.0]]
    with pytest.raises(AssertionError, match="give rows"):
        traced(torch.zeros(2))


def test_a_view_is_of_its_base():
    whole = torch.zeros(2, 3)
    assert private.base_of(whole.T[0]) is whole
    assert private.base_of(whole) is whole


def test_overlaps_itself():
    assert private.overlaps_itself(torch.zeros(1).expand(3))
    assert not private.overlaps_itself(torch.zeros(3))


def test_tensor_guards_tell_another_form():
    x = torch.zeros(2, 3)
    guards = private.TensorGuards(x, dynamic_dims_sizes=None, dynamic_dims_strides=None)
    assert guards.check(torch.ones(2, 3))
    for other in (torch.ones(3, 2), torch.ones(3, 2).T, torch.ones(2, 3).double()):
        assert not guards.check(other)


def sizes(mark=False, **options):
    """Returns the sizes of two vectors of three numbers, as torch.compile has them in each graph that it makes."""
    seen = []

    def backend(module, _):
        values = [node.meta["example_value"] for node in module.graph.nodes if node.op == "placeholder"]
        seen.append([str(v.shape[0]) for v in values if isinstance(v, torch.Tensor)])
        return module.forward

    function = torch.compile(private.with_own_code(lambda a, b: (a + 1, b + 1)), backend=backend, **options)
    tensors = [torch.zeros(3), torch.zeros(3)]
    for tensor in tensors if mark else ():
        private.mark_dynamic(tensor, 0)
    function(*tensors)
    return seen[0]


def test_sizes_are_variables_where_they_are_marked_and_apart_where_that_is_asked_for():
    assert sizes() == ["3", "3"]
    assert "3" not in sizes(mark=True)
    with private.sizes_apart():
        one, other = sizes(dynamic=True)
    assert one != other


def test_a_function_with_code_of_its_own_does_the_same():
    def outer(c):
        def inner(a, b=2, *, d=3):
            return a + b + c + d

        return inner

    first, second = (private.with_own_code(outer(c)) for c in (10, 20))
    assert (first(1), second(1, 5, d=0)) == (16, 26)
    assert first.__code__ is not second.__code__


def test_trees_are_taken_apart_and_put_together():
    tree = {"a": [1, (2, 3)], "b": None}
    leaves, form = private.tree_flatten(tree)
    assert private.tree_unflatten(leaves, form) == tree
    assert private.tree_map(lambda x: x if x is None else -x, tree) == {"a": [-1, (-2, -3)], "b": None}


def test_a_modules_own_parts():
    net = nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 2, bias=False))
    net.register_buffer("scratch", torch.zeros(1), persistent=False)
    assert set(private.own_parameters(net[1])) == {"weight", "bias"}
    assert private.own_parameters(net[1])["bias"] is None
    assert set(private.own_buffers(net[0])) == {"running_mean", "running_var", "num_batches_tracked"}
    assert list(private.own_modules(net)) == ["0", "1"]
    assert private.unsaved_buffers(net) == {"scratch"}
    assert {name for name in private.REGISTRIES if name in vars(net)} == set(private.REGISTRIES)
    private.own_buffers(net[0])["running_mean"] = replaced = torch.ones(2)
    assert net[0].running_mean is replaced


@pytest.mark.parametrize(
    ("ask", "register"),
    [
        (private.forward_hooks, "register_forward_hook"),
        (private.forward_pre_hooks, "register_forward_pre_hook"),
        (private.backward_hooks, "register_full_backward_hook"),
        (private.backward_hooks, "register_full_backward_pre_hook"),
    ],
)
def test_hooks_are_seen_while_they_are_there(ask, register):
    layer = nn.Linear(1, 1)
    handle = getattr(layer, register)(print)
    assert list(ask(layer).values()) == [print]
    handle.remove()
    assert not ask(layer)


@pytest.mark.parametrize("name", ["register_module_forward_hook", "register_module_forward_pre_hook"])
def test_hooks_of_all_modules_are_seen(name):
    before = dict(private.global_forward_hooks())
    handle = getattr(nn.modules.module, name)(lambda *_: None)
    assert len(private.global_forward_hooks()) == len(before) + 1
    handle.remove()
    assert private.global_forward_hooks() == before


@pytest.mark.parametrize("make", [lambda: nn.Linear(2, 2), lambda: nn.MultiheadAttention(4, 2)])
def test_a_module_draws_its_parameters_anew(make):
    module = make()
    before = copy.deepcopy(module.state_dict())
    private.own_reset(module)()
    assert any(not torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert private.own_reset(nn.ReLU()) is None


def test_the_name_of_a_pruned_tensor():
    layer = prune.random_unstructured(nn.Linear(2, 2), "weight", 0.5)
    assert [private.pruned_name(hook) for hook in private.forward_pre_hooks(layer).values()] == ["weight"]


def test_the_model_within_a_compiled_one():
    model = nn.Linear(1, 1)
    assert private.uncompiled(torch.compile(model)) is model
    assert private.uncompiled(model) is None


def test_a_spectral_norm_is_estimated_anew():
    layer = parametrizations.spectral_norm(nn.Linear(6, 4))
    (part,) = layer.parametrizations.weight
    weight = torch.randn(4, 6)
    with torch.no_grad():
        private.restart_spectral_norm(part, weight, 100)
        found = part.eval()(weight)
    torch.testing.assert_close(torch.linalg.matrix_norm(found, 2), torch.tensor(1.0), rtol=1e-3, atol=0)
    private.restart_spectral_norm(nn.ReLU(), weight, 1)  # is no spectral norm


class Estimator(scikit_learn.BaseEstimator):
    _parameter_constraints = {  # noqa: RUF012
        "alpha": [scikit_learn.Interval(numbers.Real, 0, None, closed="left")],
        "kind": [scikit_learn.StrOptions({"a", "b"})],
    }

    def __init__(self, alpha=1.0, kind="a"):
        self.alpha, self.kind = alpha, kind


@pytest.mark.parametrize("setting", [{"alpha": -1.0}, {"kind": "c"}])
def test_scikit_learn_checks_settings(setting):
    scikit_learn.check_params(Estimator())
    with pytest.raises(ValueError, match=next(iter(setting))):
        scikit_learn.check_params(Estimator(**setting))


def test_scikit_learn_checks_weights():
    x = np.zeros((2, 1))
    assert scikit_learn.check_sample_weight(None, x).tolist() == [1.0, 1.0]
    with pytest.raises(ValueError, match="sample_weight"):
        scikit_learn.check_sample_weight([1.0, 2.0, 3.0], x)


def test_vector_instructions_are_taken_as_the_processor_names_them():
    from torch._inductor import cpu_vec_isa

    tried = cpu_vec_isa.VecISA.check_build
    private.accept_vector_instructions()
    assert cpu_vec_isa.VecISA.check_build is tried
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cpu_vec_isa.VecISA, "check_build", None)  # nothing is tried any more
        found = [str(isa) for isa in cpu_vec_isa.valid_vec_isa_list()]
    named = cpu_vec_isa.x86_isa_checker()
    assert [isa for isa in found if named and not set(isa.split()) <= set(named)] == []
    assert bool(found) == bool(named) or not named


@pytest.mark.parametrize("register", ["register_step_pre_hook", "register_step_post_hook"])
def test_steps_are_observed_while_there_are_hooks(register):
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))])
    of_all = importlib.import_module("torch.optim.optimizer")
    for register_hook in (
        getattr(optimizer, register),
        getattr(of_all, register.replace("register", "register_optimizer")),
    ):
        assert not private.step_is_observed(optimizer)
        handle = register_hook(lambda *_: None)
        assert private.step_is_observed(optimizer)
        handle.remove()


def test_steps_are_observed_while_a_profiler_runs():
    with torch.autograd.profiler.profile():
        assert private.step_is_observed(torch.optim.SGD([nn.Parameter(torch.ones(1))]))


def test_vector_instructions_that_the_compiler_does_not_know_are_left_out(tmp_path):
    compiler = tmp_path / "g++"
    compiler.write_text('#!/bin/sh\ncase "$*" in *avx512*) exit 1;; esac\nexec g++ "$@"\n')
    compiler.chmod(0o755)
    code = "from torch._inductor import cpu_vec_isa as isa; from thalweg.tensors.private import *; "
    code += "accept_vector_instructions(); print(any('avx512' in str(i) for i in isa.valid_vec_isa_list()))"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "CXX": str(compiler)}, capture_output=True, text=True
    )
    assert done.stdout == "False\n", done.stderr
