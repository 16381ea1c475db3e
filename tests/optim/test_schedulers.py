"""Every scheduler of torch.optim.lr_scheduler, and swa_utils, over every optimizer here, beside torch's own."""

import copy
import pickle
import warnings

import pytest
import torch
from torch.optim import lr_scheduler
from torch.optim.swa_utils import SWALR, AveragedModel, get_ema_multi_avg_fn, update_bn

from tests.optim.pairs import PAIRS, each, loss_of, net, same
from thalweg import optim
from thalweg.averaging import EMA, Average, Polyak


def chained(o):
    return lr_scheduler.ChainedScheduler([lr_scheduler.ConstantLR(o, 0.5, 3), lr_scheduler.ExponentialLR(o, 0.9)])


def in_sequence(o):
    parts = [lr_scheduler.LinearLR(o, 0.1, total_iters=3), lr_scheduler.CosineAnnealingLR(o, 9)]
    return lr_scheduler.SequentialLR(o, parts, [3])


SCHEDULERS = {
    "LambdaLR": lambda o: lr_scheduler.LambdaLR(o, [lambda t: 0.9**t, lambda t: 1 / (1 + t)]),
    "MultiplicativeLR": lambda o: lr_scheduler.MultiplicativeLR(o, lambda t: 0.9),
    "StepLR": lambda o: lr_scheduler.StepLR(o, 3, 0.5),
    "MultiStepLR": lambda o: lr_scheduler.MultiStepLR(o, [2, 5], 0.5),
    "ConstantLR": lambda o: lr_scheduler.ConstantLR(o, 0.2, 4),
    "LinearLR": lambda o: lr_scheduler.LinearLR(o, 0.2, total_iters=5),
    "ExponentialLR": lambda o: lr_scheduler.ExponentialLR(o, 0.8),
    "PolynomialLR": lambda o: lr_scheduler.PolynomialLR(o, 8, 2.0),
    "CosineAnnealingLR": lambda o: lr_scheduler.CosineAnnealingLR(o, 6, 1e-3),
    "CosineAnnealingWarmRestarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 3, 2),
    "ReduceLROnPlateau": lambda o: lr_scheduler.ReduceLROnPlateau(o, patience=0, threshold=0.5),
    "CyclicLR": lambda o: lr_scheduler.CyclicLR(o, 0.001, 0.02, 3, cycle_momentum=_cycles(o)),
    "OneCycleLR": lambda o: lr_scheduler.OneCycleLR(o, 0.05, total_steps=12, cycle_momentum=_cycles(o)),
    "ChainedScheduler": chained,
    "SequentialLR": in_sequence,
    "SWALR": lambda o: SWALR(o, 0.01, anneal_epochs=5),
}
SEVERAL = [optim.LBFGS, optim.BFGS, optim.ConjugateGradient, optim.Newton, optim.TruncatedNewton]
CLASSES = ["momentum", "AdaGrad", "Adadelta", "RMSProp", "Adam", "AdamW", "NAdam"]  # one of each
scheduled = pytest.mark.parametrize("schedule", SCHEDULERS.values(), ids=SCHEDULERS)


def _cycles(optimizer):
    """Whether there is a momentum, or betas, for a cycle."""
    group = optimizer.param_groups[0]
    return "betas" in group or bool(group.get("momentum"))


def groups_of(model):
    return [{"params": model[0].parameters()}, {"params": [*model[1].parameters(), *model[3].parameters()]}]


def run(model, optimizer, scheduler, steps):
    """Trains; returns what the groups held at each step, and the parameters at the end."""
    held = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = loss_of(model)
        loss.backward()
        optimizer.step()
        plateau = isinstance(scheduler, lr_scheduler.ReduceLROnPlateau)
        scheduler.step(*([loss.detach()] if plateau else []))
        held.append([[_plain(g.get(name)) for name in ("lr", "momentum", "betas")] for g in optimizer.param_groups])
    return held, [p.detach().clone() for p in model.parameters()]


def _plain(value):
    return [float(v) for v in value] if isinstance(value, tuple) else None if value is None else float(value)


@scheduled
def test_a_scheduled_run_is_torchs(schedule):
    """Rates, momenta and betas as they go, warnings, and where the parameters end."""
    for ours, torchs, options in (PAIRS[name] for name in CLASSES):
        ends = []
        for make in (ours, torchs):
            model = net()
            with warnings.catch_warnings(record=True) as warned:
                warnings.simplefilter("always")
                optimizer = make(groups_of(model), **options)
                ends.append((*run(model, optimizer, schedule(optimizer), 7), [str(w.message) for w in warned]))
        assert ends[0][0] == ends[1][0]
        same(ends[0][1], ends[1][1], rtol=1e-6)
        assert ends[0][2] == ends[1][2]


@scheduled
@pytest.mark.parametrize("make", [optim.SGD, optim.Adam, optim.NAdam])
def test_a_learning_rate_that_is_a_tensor_is_scheduled_in_place(schedule, make):
    """Which a compiled or captured step goes on to read."""
    ends = []
    for tensor in (False, True):
        model = net()
        optimizer = make(groups_of(model), lr=torch.tensor(0.02, dtype=torch.float64) if tensor else 0.02)
        for group in optimizer.param_groups:
            group["lr"] = copy.deepcopy(group["lr"])
        rates = [group["lr"] for group in optimizer.param_groups]
        ends.append(run(model, optimizer, schedule(optimizer), 6))
        if tensor:
            assert all(g["lr"] is lr for g, lr in zip(optimizer.param_groups, rates, strict=True))
    torch.testing.assert_close(*([[g[0] for g in at] for at in held] for held, _ in ends), rtol=1e-6, atol=1e-9)
    same(ends[0][1], ends[1][1], rtol=1e-5, atol=1e-7)


@scheduled
def test_optimizer_and_scheduler_are_resumed_together(schedule):
    """Also where the optimizer's groups, with the scheduler's own keys in them, come from torch's."""
    for ours, torchs, options in [PAIRS[name] for name in ("Nesterov", "RMSProp", "NAdam")]:
        ends = []
        for first, second in ((ours, ours), (torchs, ours), (ours, torchs), (torchs, torchs)):
            model = net()
            begun = first(groups_of(model), **options)
            scheduler = schedule(begun)
            run(model, begun, scheduler, 4)
            goes_on = second(groups_of(model), **options)
            again = schedule(goes_on)
            goes_on.load_state_dict(copy.deepcopy(begun.state_dict()))
            again.load_state_dict(pickle.loads(pickle.dumps(scheduler.state_dict())))
            ends.append(run(model, goes_on, again, 3))
        for held, params in ends[:-1]:
            assert held == ends[-1][0]
            same(params, ends[-1][1], rtol=1e-6)


def test_lambdas_that_are_objects_are_kept():
    class Falling:
        def __init__(self, by):
            self.by = by

        def __call__(self, t):
            return self.by**t

    def schedule(by):
        optimizer = optim.Adam(net().parameters())
        return lr_scheduler.LambdaLR(optimizer, Falling(by))

    saved, other = schedule(0.5).state_dict(), schedule(0.9)
    other.load_state_dict(saved)
    assert other.lr_lambdas[0].by == 0.5


@each
def test_it_warns_where_the_scheduler_steps_first_as_torchs(ours, torchs, options):
    for make in (ours, torchs):
        optimizer = make(net().parameters(), **options)
        scheduler = lr_scheduler.StepLR(optimizer, 3)
        with pytest.warns(UserWarning, match="before `optimizer.step"):
            scheduler.step()


@pytest.mark.parametrize("make", SEVERAL)
@pytest.mark.parametrize("schedule", ["CosineAnnealingLR", "ReduceLROnPlateau", "OneCycleLR", "SequentialLR"])
def test_methods_with_a_closure_are_scheduled(make, schedule):
    model = net()
    optimizer = make([{"params": model[0].parameters()}, {"params": model[3].parameters()}], max_iter=1, lr=0.5)
    scheduler = SCHEDULERS[schedule](optimizer)
    before = loss_of(model).item()
    for _ in range(3):
        loss = optimizer.step(lambda: loss_of(model))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            plateau = isinstance(scheduler, lr_scheduler.ReduceLROnPlateau)
            scheduler.step(*([loss] if plateau else []))
    assert loss_of(model).item() < before


def test_schedulers_are_refused_where_torchs_are():
    optimizer = optim.AdaGrad(net().parameters())
    for make in (
        lambda: lr_scheduler.CyclicLR(optimizer, 0.001, 0.01),
        lambda: lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=5),
    ):
        with pytest.raises(ValueError, match="must support momentum"):
            make()


@pytest.mark.parametrize(
    ("averaging", "settings"),
    [(Polyak(), {}), (EMA(0.9, "none", start=1), {"multi_avg_fn": get_ema_multi_avg_fn(0.9)})],
)
@each
def test_averages_within_the_step_are_those_of_swa_utils(ours, torchs, options, averaging, settings):
    """Under a rate of SWALR, whose averaged model is also given by torch's."""
    one, two = net(), net()
    average = Average(one, averaging)
    tested, reference = ours(one.parameters(), average=average, **options), torchs(two.parameters(), **options)
    averaged = AveragedModel(two, **settings)
    schedules = [SWALR(optimizer, 0.01, anneal_epochs=3) for optimizer in (tested, reference)]
    for _ in range(6):
        for model, optimizer, schedule in zip((one, two), (tested, reference), schedules, strict=True):
            optimizer.zero_grad()
            loss_of(model).backward()
            optimizer.step()
            schedule.step()
        averaged.update_parameters(two)
    same(list(average.means.values()), [p.detach() for p in averaged.module.parameters()], rtol=1e-6)


def test_update_bn_goes_with_an_average_that_is_applied():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 1))
    average, x = Average(model, Polyak()), torch.randn(64, 3)
    optimizer = optim.SGD(model.parameters(), lr=0.1, average=average)
    other = AveragedModel(model)
    for _ in range(5):
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
        other.update_parameters(model)
    batches = x.split(16)
    update_bn(batches, other)
    with average.applied():
        update_bn(batches, model)
        model.eval()
        torch.testing.assert_close(model(x), other.eval()(x))
