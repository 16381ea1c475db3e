"""The installed torch says what is read in its errors, and say it of nothing else."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from thalweg.tensors import error_texts


def gone():
    x = torch.ones(2, requires_grad=True)
    y = (x * x).sum()
    y.backward()
    y.backward()


def changed():
    x = torch.ones(2, requires_grad=True)
    y = x.exp()
    y.mul_(2)
    y.sum().backward()


def no_second():
    q = torch.ones(1, 1, 4, 8, requires_grad=True)
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        (first,) = torch.autograd.grad(scaled_dot_product_attention(q, q, q).sum(), q, create_graph=True)
    first.sum().backward()


def not_for_a_batch():
    torch.vmap(lambda x: x if x > 0 else -x)(torch.ones(2))


def no_memory():
    torch.empty(2**50)


RAISED = {
    gone: error_texts.is_gone,
    changed: error_texts.is_changed,
    no_second: error_texts.lacks_derivative,
    not_for_a_batch: error_texts.is_about_vmap,
    no_memory: error_texts.lacks_memory,
}


@pytest.mark.parametrize("fault", RAISED)
def test_an_error_is_what_it_is_and_nothing_else(fault):
    with pytest.raises(RuntimeError) as caught:
        fault()
    assert [asks for asks in RAISED.values() if asks(caught.value)] == [RAISED[fault]]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("The actor died because its node has died.", "its node died"),
        ("Task was killed (OOM).\nSome common causes", "its node was short of memory"),
        ("The actor is dead.\nWorker exit type: X Worker exit detail: Killed by a signal. See.", "Killed by a signal"),
        ("Some common causes include OOM.", "Some common causes include OOM."),
    ],
)
def test_the_death_of_a_worker_is_told_in_few_words(text, reason):
    assert error_texts.death_of_worker(text) == reason


@pytest.mark.parametrize("function", [lambda x: x * x.item(), lambda x: x if x > 0 else -x])
def test_a_stacked_function_that_reads_a_value_is_told_so(function):
    with pytest.raises(RuntimeError) as caught:
        torch.vmap(function)(torch.ones(2))
    assert error_texts.reads_values(caught.value)
    assert not error_texts.reads_values(RuntimeError("vmap: called random operation"))


def test_a_loss_that_broadcasts_its_target_is_told_by_its_warning():
    with pytest.warns(UserWarning, match="Using a target size") as warned:
        torch.nn.functional.mse_loss(torch.zeros(3, 1), torch.zeros(3))
    assert error_texts.is_about_shapes(warned[0].message)
    assert not error_texts.is_about_shapes("lr_scheduler.step() before optimizer.step()")
