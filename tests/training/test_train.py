"""The loop does what a loop written by hand does, trains the part that it is told to, and leaves the rest alone."""

import random
import re
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from tests.training.small import LOSS, copy, data, equal, net, stage
from thalweg import optim
from thalweg.architecture import AuxiliaryHeads
from thalweg.averaging import EMA, Average, Polyak
from thalweg.rules import Schedule
from thalweg.stages import Batches, EarlyStopping, Measures
from thalweg.training import Diverged, train


def by_hand(model, make, batches, steps, schedule=None, accumulate=1):
    optimizer, t = make(model.parameters()), 0
    base = optimizer.param_groups[0]["lr"]
    model.train()
    while t < steps:
        epoch = list(batches)
        for i in range(0, len(epoch), accumulate):
            if t == steps:
                break
            if schedule:
                optimizer.param_groups[0]["lr"] = base * schedule(t, steps)
            group = epoch[i : i + accumulate]
            optimizer.zero_grad()
            (sum(LOSS(model(x), y) for x, y in group) / len(group)).backward()
            optimizer.step()
            t += 1
    return copy(model)


@pytest.mark.parametrize(
    "make", [partial(torch.optim.SGD, lr=0.1, momentum=0.9), partial(optim.Adam, lr=0.01), torch.optim.AdamW]
)
@pytest.mark.parametrize("schedule", [None, Schedule("cosine", warmup=0.2)])
def test_it_is_the_loop_written_by_hand_bit_for_bit(make, schedule):
    batches = Batches(*data(), batch_size=16)
    expected = by_hand(net(dropout=0), make, batches, 11, schedule)
    model = net(dropout=0)
    train(model, [stage(data=Batches(*data(), batch_size=16), optimizer=make, schedule=schedule, steps=11)])
    assert equal(copy(model), expected)


def test_accumulated_batches_are_one_large_batch():
    def model():
        torch.manual_seed(1)
        return nn.Linear(6, 3).double()

    x, y = data(48, torch.float64)
    small, large = model(), model()
    sgd = partial(torch.optim.SGD, lr=0.5)
    train(small, [stage(data=Batches(x, y, batch_size=8), optimizer=sgd, accumulate=3, epochs=4)])
    train(large, [stage(data=Batches(x, y, batch_size=24), optimizer=sgd, epochs=4)])
    torch.testing.assert_close(copy(small), copy(large), rtol=1e-12, atol=1e-14)


def test_an_epoch_ends_with_the_batches_that_are_left():
    sgd = partial(torch.optim.SGD, lr=0.1)
    expected = by_hand(net(dropout=0), sgd, Batches(*data(), batch_size=8), 9, accumulate=3)  # 7 batches an epoch
    model, batches = net(dropout=0), Batches(*data(), batch_size=8)
    history = train(model, [stage(data=batches, optimizer=sgd, accumulate=3, epochs=3, evaluate_every=1)])
    torch.testing.assert_close(copy(model), expected)
    assert history.column("epoch") == [1, 1, 1, 2, 2, 2, 3, 3, 3]


def test_the_same_seed_gives_the_same_weights_and_no_global_source_moves():
    torch.manual_seed(5)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    ends = []
    for seed in (3, 3, 4):
        model = net()
        torch.set_rng_state(before[0])
        loader = DataLoader(TensorDataset(*data()), batch_size=16, shuffle=True)
        train(model, [stage(data=loader)], seed=seed)
        ends.append(copy(model))
        assert torch.equal(torch.get_rng_state(), before[0])
    assert equal(ends[0], ends[1])
    assert not equal(ends[0], ends[2])
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before[1:]  # noqa: NPY002


def test_only_the_trainable_part_moves_and_what_is_left_out_is_in_eval_mode():
    model = net()
    model[5].eval()
    before, seen = copy(model), []

    def objective(m, batch, step):
        seen.append([module.training for module in m])
        assert [p.requires_grad for p in m.parameters()] == [False] * 4 + [True, False] + [True] * 2
        return LOSS(m(batch[0]), batch[1])

    train(model, [stage(objective=objective, trainable=["4.weight", "6"])])
    after = copy(model)
    assert {name for name in after if not torch.equal(after[name], before[name])} == {"4.weight", "6.weight", "6.bias"}
    assert seen[-1] == [False, False, True, True, True, True, True]
    assert all(p.requires_grad for p in model.parameters())
    assert [module.training for module in model] == [True] * 5 + [False, True]


@pytest.mark.parametrize("divided", [False, True])
def test_a_rate_is_a_factor_on_the_part_that_it_names(divided):
    model, alone = net(dropout=0), net(dropout=0)

    def sgd(params):
        return torch.optim.SGD(optim.no_decay_groups(params) if divided else params, lr=0.5)

    train(model, [stage(optimizer=sgd, steps=1, rates={"0": 0.1, "0.bias": 0})])
    train(alone, [stage(optimizer=sgd, steps=1)])
    start = copy(net())
    moved, whole = ({n: v - start[n] for n, v in copy(m).items()} for m in (model, alone))
    torch.testing.assert_close(moved["0.weight"], 0.1 * whole["0.weight"], rtol=1e-3, atol=1e-7)
    torch.testing.assert_close(moved["6.weight"], whole["6.weight"])
    assert not moved["0.bias"].any()


def test_stages_follow_each_other_and_each_draws_from_a_stream_of_its_own():
    one, two = stage(name="one", steps=3), stage(name="two", steps=4, trainable=["6"])
    model, steps = net(), []
    history = train(model, [one, two])
    assert list(dict.fromkeys(history.column("stage"))) == ["one", "two"]
    again = net()

    def objective(m, batch, step):
        steps.append(step)
        return LOSS(m(batch[0]), batch[1])

    train(again, [stage(name="one", steps=3, objective=objective), two])
    assert equal(copy(model), copy(again))
    assert steps == [0, 1, 2]


def test_a_stage_without_an_optimizer_goes_on_with_the_one_before():
    data_ = Batches(*data(), batch_size=50, shuffle=False)
    whole, parts, anew = net(dropout=0), net(dropout=0), net(dropout=0)
    adam = partial(optim.Adam, lr=0.01)
    train(whole, [stage(data=data_, optimizer=adam, steps=10)])
    train(parts, [stage(data=data_, optimizer=adam, steps=4), stage(data=data_, optimizer=None, steps=6)])
    train(anew, [stage(data=data_, optimizer=adam, steps=4), stage(data=data_, optimizer=adam, steps=6)])
    assert equal(copy(whole), copy(parts))
    assert not equal(copy(whole), copy(anew))


def test_data_may_be_made_from_the_model_when_the_stage_begins():
    model = net()
    seen = []

    def features(m):
        assert not m[1].training
        with torch.no_grad():
            seen.append(m[:4](data()[0]))
        return Batches(seen[-1], data()[1], batch_size=16)

    head = stage(
        data=features, objective=lambda m, b, t: LOSS(m[4:](b[0]), b[1]), trainable=["4", "6"], epochs=2, name="head"
    )
    history = train(model, [stage(), head])
    assert len(seen) == 1
    assert history.rows[-1]["step"] == 8


def test_early_stopping_keeps_the_best_and_ends_after_its_patience():
    model, values, states = net(), iter([3.0, 2.0, 2.5, 2.2, 9.0]), []

    def validate(m):
        assert not any(module.training for module in m.modules())
        assert not torch.is_grad_enabled()
        torch.rand(3)  # draws here do not change training
        states.append(copy(m))
        return {"valid_loss": next(values)}

    history = train(model, [stage(validate=validate, evaluate_every=2, steps=40, early_stopping=EarlyStopping(2))])
    assert history.column("step") == [2, 4, 6, 8]
    assert equal(copy(model), states[1])
    plain = net()
    train(plain, [stage(evaluate_every=2, steps=8)])
    assert equal(copy(plain), states[3])


def test_a_stage_is_judged_at_its_average_and_ends_there():
    model, walk, seen = net(dropout=0), net(dropout=0), []
    points = []

    def validate(m):
        seen.append(m[6].bias.detach().clone())
        return {}

    def objective(m, batch, step):
        if step:
            points.append(m[6].bias.detach().clone())
        return LOSS(m(batch[0]), batch[1])

    average = partial(Average, averaging=Polyak())
    train(model, [stage(average=average, validate=validate, evaluate_every=12)])
    train(walk, [stage(objective=objective)])
    points.append(walk[6].bias.detach().clone())
    torch.testing.assert_close(model[6].bias.detach(), sum(points) / 12)
    torch.testing.assert_close(seen[0], model[6].bias.detach())


def test_autocast_computes_in_bfloat16_and_keeps_parameters_in_float32():
    seen = []

    def objective(m, batch, step):
        output = m(batch[0])
        seen.append(output.dtype)
        return LOSS(output.float(), batch[1])

    model = net()
    history = train(model, [stage(objective=objective, precision=torch.bfloat16, steps=60)])
    assert set(seen) == {torch.bfloat16}
    assert all(p.dtype == torch.float32 for p in model.parameters())
    assert history.rows[-1]["train_loss"] < 0.8 * history.rows[0]["train_loss"]


@pytest.mark.parametrize("make", [torch.optim.LBFGS, optim.LBFGS, optim.TruncatedNewton, optim.Newton])
def test_optimizers_that_evaluate_several_times_a_step(make):
    torch.manual_seed(1)
    model = nn.Linear(6, 3).double()
    x, y = data(dtype=torch.float64)

    def objective(m, batch, step):
        output = m(batch[0])
        return LOSS(output, batch[1]) + 0.01 * m.weight.square().sum(), output

    history = train(model, [stage(objective=objective, data=[(x, y)], optimizer=make, steps=10, evaluate_every=1)])
    losses = history.column("train_loss")
    assert losses[-1] < 0.6 * losses[0]


def test_auxiliary_heads_are_told_of_each_step():
    torch.manual_seed(0)
    heads = AuxiliaryHeads(net(), ["5"], outputs=3, probe=torch.zeros(2, 6), decay=100)
    train(heads, [stage(objective=lambda m, b, t: m.loss(m(b[0]), b[1], LOSS))])
    assert heads.step == 12


def test_history_is_a_table_of_means():
    model, losses = net(), []

    def objective(m, batch, step):
        loss = LOSS(m(batch[0]), batch[1])
        losses.append(loss.item())
        return loss

    measures = Measures([data()], loss=LOSS)
    history = train(
        model, [stage(objective=objective, evaluate_every=5, validate=measures, schedule=Schedule("linear"))]
    )
    assert history.column("step") == [5, 10, 12]
    means = [sum(part) / len(part) for part in (losses[:5], losses[5:10], losses[10:])]
    torch.testing.assert_close(history.column("train_loss"), means)
    assert history.column("lr")[0] > history.column("lr")[1]
    model.eval()
    assert history.rows[-1]["valid_loss"] == pytest.approx(LOSS(model(data()[0]), data()[1]).item())
    assert str(history).splitlines()[0].split() == [
        "stage",
        "step",
        "epoch",
        "lr",
        "train_loss",
        "valid_loss",
        "seconds",
    ]


def test_a_loss_that_is_not_finite_ends_training_and_says_when():
    objective = lambda m, b, t: LOSS(m(b[0]), b[1]) * (float("nan") if t == 6 else 1)  # noqa: E731
    with pytest.raises(Diverged, match="the training loss is nan in steps 5 to 8: lower the learning rate"):
        train(net(), [stage(objective=objective, evaluate_every=4)])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"steps": 0}, "stage 'training': steps must be a whole number of at least 1, not 0"),
        ({"steps": None}, "has None steps and None epochs: give either steps or epochs"),
        ({"steps": 3, "epochs": 2}, "has 3 steps and 2 epochs: give either steps or epochs"),
        ({"accumulate": 0}, "accumulate must be a whole number of at least 1"),
        ({"precision": torch.float16}, "precision is torch.float16: choose torch.bfloat16"),
        ({"rates": {"0": -1.0}}, "the rate of '0' is -1.0: give a factor of 0 or more"),
        ({"optimizer": optim.Adam(net().parameters())}, "optimizer is a Adam: give a function of the parameters"),
        ({"optimizer": "adam"}, "optimizer is a str: give a function of the parameters"),
    ],
)
def test_stages_that_cannot_be(options, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        stage(**options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"data": []}, "stage 'training' has data without a batch: give it examples"),
        ({"data": iter([])}, "stage 'training' has data without a batch: give it examples"),
        ({"data": (x for x in [1]), "epochs": 1}, "counts epochs of data that have no length: give it steps="),
        ({"trainable": ["7"]}, "the model has no parameter in '7': choose among 0, 1, 4, 6"),
        ({"trainable": ["2"]}, "the model has no parameter in '2'"),
        ({"trainable": []}, "no parameter is trained"),
        ({"rates": {"first": 0.1}}, "the model has no parameter in 'first'"),
        ({"early_stopping": EarlyStopping(2)}, "stops early by 'valid_loss', which no row has: choose among lr, train"),
        ({"objective": lambda m, b, t: m(b[0])}, "the objective gives a tensor of shape (16, 3): return a scalar"),
        ({"optimizer": None}, "is the first and has no optimizer: give it one"),
        ({"data": (data() for _ in range(3))}, "needs more than one pass over data that are exhausted after one"),
        ({"validate": lambda m: {"step": 7.0}}, "validate returns {'step': 7.0}: return a mapping of names to numbers"),
        (
            {"validate": lambda m: None},
            "validate returns None: return a mapping of names to numbers, none",
        ),
        ({"schedule": lambda t, total: -1.0}, "schedule gives -1.0 at step 0: return a factor of 0 or more"),
        ({"schedule": lambda t, total: float("nan")}, "schedule gives nan at step 0: return a factor of 0 or more"),
        ({"schedule": lambda t, total: "x"}, "schedule gives 'x' at step 0: return a factor of 0 or more"),
    ],
)
def test_what_cannot_be_trained_is_refused_in_one_line_and_the_model_is_left_as_it_was(options, words):
    model = net()
    flags = [p.requires_grad for p in model.parameters()]
    with pytest.raises((ValueError, TypeError), match=re.escape(words)) as caught:
        train(model, [stage(**options)])
    assert "\n" not in str(caught.value)
    assert [p.requires_grad for p in model.parameters()] == flags
    assert all(module.training for module in model.modules())


def test_no_stages_and_no_file_to_write_to():
    with pytest.raises(ValueError, match="there are no stages"):
        train(net(), [])
    with pytest.raises(ValueError, match="checkpoint_every is 5: give at least 1, and checkpoint= to write to"):
        train(net(), [stage()], checkpoint_every=5)


def test_an_average_follows_within_a_stage():
    model = net()
    history = train(
        model,
        [stage(average=partial(Average, averaging=EMA(0.9)), validate=Measures([data()], loss=LOSS), steps=80)],
    )
    assert history.rows[-1]["valid_loss"] < history.rows[0]["valid_loss"]
