"""Same trial, same result: lanes and Ray are held to serial for every rule, and that to the plain PyTorch loop."""

import math

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from tests.compare.execution import local_ray
from tests.compare.small import job, small_task, task_context
from thalweg import Task, optim
from thalweg.compare.execution.coefficients import coefficient_names, coefficient_table
from thalweg.compare.execution.kernel_layout import Slot
from thalweg.compare.execution.kernels import slots_of, update_kernel
from thalweg.compare.execution.lanes import Lanes
from thalweg.compare.execution.serial import Serial
from thalweg.compare.execution.stackable import Unstackable
from thalweg.rules import AFTER_THE_BOOK, RULES
from thalweg.tensors import derive_seed

pytestmark = pytest.mark.slow

# In float64 the two engines differ by the order in which matrix products add up, and no more.
TOLERANCE = {"rtol": 1e-8, "atol": 1e-10}


def quiet(steps):
    """No progress."""


def same(one, two, **tolerance):
    assert (one.key, one.status, one.steps, one.curve.step) == (two.key, two.status, two.steps, two.curve.step)
    for field in ("train_loss", "valid_loss", "valid_metric"):
        a, b = (torch.tensor(getattr(o.curve, field), dtype=torch.float64) for o in (one, two))
        torch.testing.assert_close(a, b, **tolerance)
    assert (one.test is None) == (two.test is None)
    if one.test is not None:
        assert one.test == pytest.approx(two.test, abs=tolerance["atol"])
    assert (one.snapshot is None) == (two.snapshot is None)
    if one.snapshot is not None:
        for name, value in one.snapshot.items():
            torch.testing.assert_close(value, two.snapshot[name], **tolerance)


def whole_or_cut(engine, name):
    """Asserts that a run that is cut in two is the run in one piece, bit for bit."""
    whole = engine.run([job(name)], quiet)[0]
    first = engine.run([job(name, stop=14)], quiet)[0]
    rest = engine.run([job(name, start=14, snapshot=first.snapshot, first_loss=first.first_loss)], quiet)[0]
    assert first.curve.valid_loss + rest.curve.valid_loss == whole.curve.valid_loss
    assert all(torch.equal(rest.snapshot[k], v) for k, v in whole.snapshot.items())


@pytest.fixture(scope="module")
def context():
    return task_context(small_task(torch.float64))


@pytest.mark.parametrize("name", RULES)
def test_lanes_equal_serial_for_every_rule(context, name):
    lr = RULES[name].defaults["lr"]
    seeds = (1, 2) if name not in AFTER_THE_BOOK else (1,)  # which differ in the rule alone
    jobs = [job(name, lr * factor, seed) for seed in seeds for factor in (0.3, 1.0, 3.0)]
    jobs.append(job(f"{name}+he@warmup-cosine", lr, key="scheduled"))
    alone = Serial(context).run(jobs, quiet)
    for width in (1, 4, 7) if name not in AFTER_THE_BOOK else (4,):
        for one, two in zip(alone, Lanes(context, width, compile_=False).run(jobs, quiet), strict=True):
            same(one, two, **TOLERANCE)


def test_ray_equals_serial_bit_for_bit_for_every_kind_of_rule(context):
    jobs = [job(s, seed=seed) for seed in (1, 2) for s in (*local_ray.NAMED, local_ray.FACTORY)]
    jobs.append(job("momentum", 0.01, test=False, key="untested"))
    for one, two in zip(Serial(context).run(jobs, quiet), local_ray.engines().run(jobs, quiet), strict=True):
        same(one, two, rtol=0, atol=0)
    assert local_ray.engines().run([], quiet) == []


PARTS = {"momentum", "rmsprop", "adam", "adam-uncorrected"}  # their texts are parts of those of others


def test_the_kernel_of_every_kind_of_rule_compiles_to_itself(context):
    """One function holds them all, so that the compiler is called once."""
    sums = {"schedule-free-sgd", "lamb", "prodigy", "muon"}  # that move, sum over tensors or all, and take matrices
    left_out = PARTS | (set(AFTER_THE_BOOK) - sums)
    draws, rules = torch.Generator().manual_seed(0), [name for name in RULES if name not in left_out]
    specimens = {name: job(f"{name}+ema@cosine", total=5) for name in rules}
    columns = {name: coefficient_names(specimens[name]) for name in rules}
    start = torch.randn(2, len(context.decayed), generator=draws, dtype=torch.float64)

    def of_rule(name):
        return update_kernel(
            RULES[name], columns[name], context.decayed, context.layout, False, places=context.places(RULES[name])
        )

    def slots(name):
        return slots_of(RULES[name], False, context.places(RULES[name])).values()

    def fresh():
        return {name: (start.clone(), [slot.begun(start) for slot in (*slots(name), Slot(None))]) for name in rules}

    kernels = {name: of_rule(name) for name in rules}

    def step(states, grads, coefficients):
        for name in rules:
            params, buffers = states[name]
            kernels[name](params, grads, buffers, coefficients[name])

    plain, stepped, compiled = fresh(), fresh(), torch.compile(step)
    tables = {name: coefficient_table(specimens[name], 0, 5)[:, None].expand(-1, 2, -1) for name in rules}
    for t in range(5):
        grads = torch.randn(start.shape, generator=draws, dtype=torch.float64)
        coefficients = {name: tables[name][t] for name in rules}
        step(plain, grads, coefficients)
        compiled(stepped, grads, coefficients)
    for name in rules:
        torch.testing.assert_close(stepped[name], plain[name], rtol=1e-12, atol=1e-14)
        assert not torch.equal(plain[name][0], start)


@pytest.mark.parametrize("other", ["sgd", pytest.param("soap", marks=pytest.mark.thorough)])
def test_compiled_lanes_serve_any_number_of_rows_in_any_order(context, other):
    lanes = Lanes(context, 4)
    for count in (1, 3, 2, 4, 1):  # nothing is checked before a compiled call, so each form must be its own
        jobs = [job(name, seed=seed) for seed in range(count) for name in ("adam", other)]
        for one, two in zip(Serial(context).run(jobs, quiet), lanes.run(jobs, quiet), strict=True):
            same(one, two, **TOLERANCE)
    whole_or_cut(lanes, "adam")


def test_float32_lanes_stay_near_serial():
    context = task_context()
    jobs = [job(name, seed=seed) for name in ("sgd", "adam", "rmsprop") for seed in (1, 2)]
    for one, two in zip(
        Serial(context).run(jobs, quiet), Lanes(context, 4, compile_=False).run(jobs, quiet), strict=True
    ):
        assert one.curve.valid_loss == pytest.approx(two.curve.valid_loss, rel=1e-3)


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("sgd", lambda p: torch.optim.SGD(p, 0.01)),
        ("nesterov", lambda p: torch.optim.SGD(p, 0.01, 0.9, nesterov=True)),
        ("adam", lambda p: torch.optim.Adam(p, 0.01)),
        ("adagrad", lambda p: torch.optim.Adagrad(p, 0.01)),
        ("adamw", lambda p: optim.AdamW(p, 0.01)),
    ],
)
def test_serial_is_the_plain_loop(context, name, make):
    result = Serial(context).run([job(name, 0.01, seed=5)], quiet)[0]
    model = context.fresh_model("default", 5)
    optimizer = make(model.parameters())
    for rows in context.batches(5, 0, 30):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(context.data.train.input[rows]), context.data.train.target[rows]).backward()
        optimizer.step()
    with torch.no_grad():
        loss = nn.functional.cross_entropy(model(context.data.valid.input), context.data.valid.target).item()
    assert result.curve.valid_loss[-1] == pytest.approx(loss, rel=1e-10)


@pytest.mark.parametrize("make", [optim.Adam, torch.optim.Adam, "rule"])
def test_any_optimizer_can_be_a_strategy_and_gives_what_the_rule_gives(context, make):
    from thalweg.compare.strategy import Strategy

    strategy = Strategy.parse("adam") if make == "rule" else Strategy("mine", factory=make, defaults={"lr": 1e-3})
    result = Serial(context).run([job(strategy, 1e-3, key="adam")], quiet)[0]
    expected = Serial(context).run([job("adam", 1e-3, key="adam")], quiet)[0]
    assert result.curve.valid_loss == pytest.approx(expected.curve.valid_loss, rel=1e-9)


ENGINES = [Serial, lambda context: Lanes(context, 3, compile_=False), lambda context: local_ray.engines()]


@pytest.mark.parametrize("engine", ENGINES, ids=["serial", "lanes", "ray"])
@pytest.mark.parametrize("name", ["adam@cosine", "nadam", "momentum", "adadelta"])
def test_a_run_cut_in_two_is_the_run_in_one_piece_bit_for_bit(context, name, engine):
    whole_or_cut(engine(context), name)


class Sum(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4, 1))

    def forward(self, x):
        return x @ self.weight


@pytest.mark.parametrize("engine", ENGINES[:2], ids=["serial", "lanes"])
@pytest.mark.parametrize("slot", ["params", "exp_avg"])
@pytest.mark.parametrize("change", [lambda t: t[:1], lambda t: t[:-1], lambda t: torch.cat([t, t]), lambda t: t[None]])
def test_a_snapshot_of_another_model_is_refused(context, engine, slot, change):
    held = engine(context).run([job("adam", stop=14)], quiet)[0].snapshot
    with pytest.raises(ValueError, match=f"'{slot}' of what is taken up again is float64"):
        engine(context).run([job("adam", start=14, snapshot={**held, slot: change(held[slot])}, first_loss=1.0)], quiet)


def test_a_snapshot_of_another_type_is_converted(context):
    held = Serial(context).run([job("adam", stop=14)], quiet)[0].snapshot
    single = {name: value.float() for name, value in held.items()}
    ends = [Serial(context).run([job("adam", start=14, snapshot=s, first_loss=1.0)], quiet)[0] for s in (held, single)]
    torch.testing.assert_close(ends[0].snapshot["params"], ends[1].snapshot["params"], rtol=1e-4, atol=1e-5)


def test_a_factory_optimizer_cut_in_two_is_the_run_in_one_piece(context):
    from thalweg.compare.strategy import Strategy

    strategy = Strategy("t", factory=torch.optim.AdamW, defaults={"lr": 0.01})
    whole = Serial(context).run([job(strategy)], quiet)[0]
    first = Serial(context).run([job(strategy, stop=14)], quiet)[0]
    again = job(strategy, start=14, snapshot=first.snapshot, first_loss=first.first_loss)
    assert first.curve.valid_loss + Serial(context).run([again], quiet)[0].curve.valid_loss == whole.curve.valid_loss


def test_engines_repeat_themselves_bit_for_bit(context):
    jobs = [job("adam", seed=seed) for seed in range(4)]
    for engine in (Serial(context), Lanes(context, 3, compile_=False)):
        one, two = engine.run(jobs, quiet), engine.run(jobs, quiet)
        assert [o.curve for o in one] == [o.curve for o in two]


@pytest.mark.parametrize("engine", ENGINES, ids=["serial", "lanes", "ray"])
def test_what_is_left_after_any_write_ends_as_it_would_have(context, engine):
    jobs = [job(name, lr, seed=seed) for seed in (1, 2, 3) for name, lr in (("adam", 0.01), ("sgd", 1e6), ("sgd", 0.1))]
    kept = []
    whole = {o.key: o for o in engine(context).run(jobs, quiet, lambda results: kept.append([o.key for o in results]))}
    assert sorted(key for keys in kept for key in keys) == sorted(whole)
    assert len(kept) > 1
    for count in range(1, len(kept)):
        done = {key for keys in kept[:count] for key in keys}
        for result in engine(context).run([j for j in jobs if j.key not in done], quiet):
            same(result, whole[result.key], rtol=0, atol=0)


def test_a_lane_does_not_see_its_neighbours(context):
    lanes = Lanes(context, 4, compile_=False)
    alone = lanes.run([job("adam", 0.01)], quiet)[0]
    crowd = lanes.run([job("adam", 0.01), *(job("adam", 1e6, seed=s) for s in (3, 4, 5))], quiet)
    assert crowd[0].curve == alone.curve


@pytest.mark.parametrize("engine", ENGINES, ids=["serial", "lanes", "ray"])
def test_divergence_is_a_result_and_frees_the_slot(context, engine):
    jobs = [job("sgd", 1e6), job("sgd", 0.1, seed=2), job("sgd", 1e9, seed=3), job("sgd", 0.1, seed=4)]
    results = engine(context).run(jobs, quiet)
    assert [o.status for o in results] == ["diverged", "finished", "diverged", "finished"]
    for result in (results[0], results[2]):
        assert result.test is None
        assert 1 < result.steps < 30
        assert all(math.isfinite(v) for v in result.curve.valid_loss)


@pytest.mark.parametrize("engine", ENGINES[:2], ids=["serial", "lanes"])
def test_a_model_that_is_trained_already_has_not_diverged_with_its_first_step(engine):
    x = torch.randn(160, 4, generator=torch.Generator().manual_seed(0))
    y = x.sum(dim=1, keepdim=True) + 1e-6 * torch.randn(160, 1, generator=torch.Generator().manual_seed(1))
    parts = [TensorDataset(x[i:j], y[i:j]) for i, j in ((0, 80), (80, 120), (120, 160))]
    context = task_context(Task(Sum, *parts, nn.functional.mse_loss, batch_size=20, name="known"))
    sound, wild = engine(context).run([job("adam", 0.01), job("sgd", 1e6, seed=2)], quiet)
    assert sound.first_loss < 1e-11 < 1e-9 < max(sound.curve.train_loss)
    assert (sound.status, wild.status) == ("finished", "diverged")


def test_all_strategies_of_a_seed_share_start_and_batches():
    one, two = task_context(), task_context()
    assert torch.equal(one.start("default", 3), two.start("default", 3))
    assert torch.equal(one.batches(3, 0, 40), two.batches(3, 0, 40))
    assert not torch.equal(one.batches(3, 0, 5), one.batches(4, 0, 5))
    # Any stretch of the order is the same stretch, and each epoch sees each row at most once.
    assert torch.equal(one.batches(3, 0, 40)[7:19], two.batches(3, 7, 19))
    epoch = one.batches(3, 0, 5).flatten()
    assert epoch.unique().numel() == epoch.numel()


class Normed(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 3)

    def forward(self, x):
        out = self.layer(x)
        return out if out.sum() > 0 else 2 * out


def test_what_cannot_be_stacked_says_why_and_runs_serially():
    class OwnNorm(nn.BatchNorm1d):
        """It may have more features than torch's."""

    def own():
        return nn.Sequential(nn.Linear(6, 8), OwnNorm(8), nn.Linear(8, 3))

    with pytest.raises(Unstackable, match="OwnNorm, which updates its running statistics"):
        Lanes(task_context(small_task(model=own)), 2)
    with pytest.raises(Unstackable, match="it reads the value of a tensor"):
        Lanes(task_context(small_task(model=Branching)), 2).probe()
    for model in (own, Branching):
        result = Serial(task_context(small_task(model=model))).run([job("adam", 0.01)], quiet)[0]
        assert result.status == "finished"


def test_running_statistics_are_part_of_a_cut_run():
    context = task_context(small_task(model=Normed))
    whole = Serial(context).run([job("adam", 0.01)], quiet)[0]
    first = Serial(context).run([job("adam", 0.01, stop=14)], quiet)[0]
    rest = Serial(context).run([job("adam", 0.01, start=14, snapshot=first.snapshot, first_loss=1.0)], quiet)[0]
    assert first.curve.valid_loss + rest.curve.valid_loss == whole.curve.valid_loss


def test_dropout_runs_in_lanes_with_other_draws_in_each():
    def build():
        return nn.Sequential(nn.Linear(6, 32), nn.Dropout(0.5), nn.Linear(32, 3))

    context = task_context(small_task(model=build))
    lanes = Lanes(context, 3, compile_=False)
    lanes.probe()
    jobs = [job("sgd", 0.05, key=str(k)) for k in range(3)]
    results = lanes.run(jobs, quiet)
    assert len({tuple(o.curve.train_loss) for o in results}) == 3  # the same trial, three draws
    assert [o.curve for o in lanes.run(jobs, quiet)] == [o.curve for o in results]
    assert derive_seed(1, "noise", 0) != derive_seed(1, "noise", 7)
