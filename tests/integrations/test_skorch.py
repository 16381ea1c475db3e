"""Inside skorch: the way of a loop of one's own, closures, checkpoints, searches, averages, curricula."""

import pytest
import torch
from torch import nn

from tests.integrations import page
from tests.integrations.small import BATCH, EPOCHS, data, equal, flat, net, own_loop
from tests.optim.test_conventions import OPTIMIZERS
from thalweg import optim

pytestmark = pytest.mark.slow

skorch = pytest.importorskip("skorch", reason="skorch is not installed")
from skorch.callbacks import LRScheduler  # noqa: E402

CLOSURES = {name: getattr(optim, name) for name in ("LBFGS", "BFGS", "ConjugateGradient")}


def fitted(make, epochs=EPOCHS, **options):
    wrapped = skorch.NeuralNetClassifier(
        net(),
        criterion=nn.CrossEntropyLoss,
        optimizer=make,
        batch_size=BATCH,
        max_epochs=epochs,
        train_split=None,
        verbose=0,
        **options,
    )
    return wrapped.fit(*data().tensors)


def bare(make):
    """Returns the optimizer as skorch calls it: with the groups first, and its own learning rate."""
    return lambda params, lr: make([{"params": [p for g in params for p in g["params"]]}])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_rule_goes_the_way_of_ones_own_loop_with_a_schedule(name):
    falling = LRScheduler(policy="ExponentialLR", gamma=0.8, step_every="batch")
    trained = fitted(bare(OPTIMIZERS[name]), callbacks=[falling])
    own = net()
    optimizer = OPTIMIZERS[name](own.parameters())
    expected = own_loop(own, optimizer, torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.8))
    equal(flat(trained.module_), expected)


@pytest.mark.parametrize("name", CLOSURES)
def test_a_closure_method_goes_the_way_of_ones_own_loop(name):
    trained, own = fitted(CLOSURES[name], lr=1.0, optimizer__max_iter=4), net()
    equal(flat(trained.module_), own_loop(own, CLOSURES[name](own.parameters(), max_iter=4), closure=True))
    assert trained.optimizer_.report.evaluations > 1


@pytest.mark.parametrize("make", [optim.NAdam, optim.LBFGS])
def test_saved_parameters_go_on_as_if_never_stopped(make, tmp_path):
    whole = fitted(make, 4)
    half = fitted(make, 2)
    files = {f"f_{part}": str(tmp_path / part) for part in ("params", "optimizer")}
    half.save_params(**files)
    resumed = skorch.NeuralNetClassifier(
        net(1), criterion=nn.CrossEntropyLoss, optimizer=make, batch_size=BATCH, train_split=None, verbose=0
    )
    resumed.initialize().load_params(**files)
    resumed.fit_loop(*data().tensors, epochs=2)
    equal(flat(resumed.module_), flat(whole.module_))
    assert not torch.equal(flat(half.module_), flat(whole.module_))


def test_the_page_averages_paces_and_searches():
    names = page.run("skorch")
    average = names["net"].callbacks[0].average
    assert average.step == 40
    for name, p in names["net"].module_.named_parameters():
        equal(p.detach(), average.means[name])
    assert names["net"].score(names["x"], names["y"]) > 0.85
    assert names["search"].best_score_ > 0.85
