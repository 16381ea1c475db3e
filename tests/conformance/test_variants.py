"""Averaged parameters and normalized models: what is judged is the same in every engine, and what it says to be."""

import copy

import pytest
import torch
from torch import nn

import thalweg
from tests.compare.small import job, small_task, task_context
from tests.conformance.test_engines import TOLERANCE, quiet, same
from thalweg.averaging import EMA, Average, Polyak
from thalweg.compare.execution.lanes import Lanes
from thalweg.compare.execution.memory import lane_bytes
from thalweg.compare.execution.serial import Serial
from thalweg.compare.strategy import Strategy, crossed
from thalweg.compare.strategy.variants import Variant, built
from thalweg.compare.task.loading import LoadError
from thalweg.compare.user_errors import TaskError
from thalweg.normalization import BatchNorm

pytestmark = pytest.mark.slow

NAMES = ["adam+ema", "adam+polyak", "adam", "momentum+ema@cosine", "nadam+polyak"]


def deep():
    return nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 9), nn.ReLU(), nn.Linear(9, 3)).double()


@pytest.fixture(scope="module", params=["plain", "batch-norm"])
def context(request):
    variant = Variant("", "none" if request.param == "plain" else "batch-norm")
    return task_context(built(small_task(torch.float64, model=deep), variant))


@pytest.fixture(scope="module")
def normalized():
    return task_context(built(small_task(torch.float64, model=deep), Variant("", "batch-norm")))


def test_lanes_equal_serial(context):
    jobs = [job(name, 0.01, seed) for name in NAMES for seed in (1, 2)]
    alone = Serial(context).run(jobs, quiet)
    for width in (4, 10):
        for one, two in zip(alone, Lanes(context, width, compile_=False).run(jobs, quiet), strict=True):
            same(one, two, **TOLERANCE)


def test_measuring_the_memory_of_a_lane_leaves_the_statistics_of_the_model_as_they_are(normalized):
    lane_bytes(normalized)
    jobs = [job("adam+polyak", 0.01)]
    for one, two in zip(
        Serial(normalized).run(jobs, quiet), Lanes(normalized, 2, compile_=False).run(jobs, quiet), strict=True
    ):
        same(one, two, **TOLERANCE)


def test_compiled_lanes_of_averages_equal_serial():
    shallow = small_task(torch.float64, lambda: nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 3)).double())
    normalized = task_context(built(shallow, Variant("", "batch-norm")))
    jobs = [job("momentum+polyak@cosine", 0.01, seed) for seed in (1, 2)]
    for one, two in zip(Serial(normalized).run(jobs, quiet), Lanes(normalized, 4).run(jobs, quiet), strict=True):
        same(one, two, **TOLERANCE)


@pytest.mark.parametrize("engine", [Serial, lambda context: Lanes(context, 3, compile_=False)], ids=["serial", "lanes"])
@pytest.mark.parametrize("name", ["adam+ema", "momentum+polyak@cosine"])
@pytest.mark.parametrize("cut", [7, 21])
def test_a_run_cut_in_two_is_the_run_in_one_piece_bit_for_bit(context, name, engine, cut):
    whole = engine(context).run([job(name, 0.01)], quiet)[0]
    first = engine(context).run([job(name, 0.01, stop=cut)], quiet)[0]
    again = job(name, 0.01, start=cut, snapshot=first.snapshot, first_loss=first.first_loss)
    rest = engine(context).run([again], quiet)[0]
    assert first.curve.valid_loss + rest.curve.valid_loss == whole.curve.valid_loss
    assert all(torch.equal(rest.snapshot[k], v) for k, v in whole.snapshot.items())


@pytest.mark.parametrize(("name", "averaging"), [("adam+ema", EMA.over(3.0)), ("adam+polyak", Polyak(start=15))])
def test_what_is_judged_is_the_average_of_the_plain_loop(context, name, averaging):
    result = Serial(context).run([job(name, 0.01, seed=5)], quiet)[0]
    model = context.fresh_model("default", 5)
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    average = Average(model, averaging, buffers="average")
    for rows in context.batches(5, 0, 30):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(context.data.train.input[rows]), context.data.train.target[rows]).backward()
        optimizer.step()
        average.update()
    model.eval()
    with average.applied(), torch.no_grad():
        loss = nn.functional.cross_entropy(model(context.data.valid.input), context.data.valid.target).item()
    assert result.curve.valid_loss[-1] == pytest.approx(loss, rel=1e-9)


def test_an_optimizer_made_by_a_factory_is_averaged_alike_and_resumes(context):
    strategy = Strategy("t", factory=torch.optim.Adam, defaults={"lr": 0.01}, averaging="ema")
    whole = Serial(context).run([job(strategy)], quiet)[0]
    expected = Serial(context).run([job("adam+ema", 0.01)], quiet)[0]
    assert whole.curve.valid_loss == pytest.approx(expected.curve.valid_loss, rel=1e-9)
    first = Serial(context).run([job(strategy, stop=14)], quiet)[0]
    again = job(strategy, start=14, snapshot=first.snapshot, first_loss=first.first_loss)
    assert first.curve.valid_loss + Serial(context).run([again], quiet)[0].curve.valid_loss == whole.curve.valid_loss


def test_evaluating_an_average_leaves_the_training_as_it_is(context):
    plain, averaged = (Serial(context).run([job(name, 0.01)], quiet)[0] for name in ("adam", "adam+ema"))
    assert plain.curve.train_loss == averaged.curve.train_loss
    assert plain.curve.valid_loss != averaged.curve.valid_loss


def test_variants_build_the_model_that_they_name():
    task = small_task(model=deep, architectures={"shallow": nn.Linear(6, 3)})
    normed = built(task, Variant("", "batch-norm")).model()
    assert sum(isinstance(m, BatchNorm) for m in normed.modules()) == 2
    assert isinstance(built(task, Variant("shallow")).model, nn.Linear)
    for word, near in (("shalow", "shallow"), ("hee", "he")):
        with pytest.raises(TaskError, match=f"'{word}' is neither .*did you mean '{near}'"):
            built(task, Strategy.parse(f"adam+{word}").variant)
    with pytest.raises(TaskError, match="batch normalization cannot be added to this model: no layer is left"):
        built(task, Variant("shallow", "batch-norm"))
    stock = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))
    before = copy.deepcopy(stock.state_dict())
    swapped = built(small_task(model=stock), Variant(), swap=True).model
    assert isinstance(swapped[1], BatchNorm)
    assert isinstance(stock[1], nn.BatchNorm1d)
    assert all(torch.equal(v, before[k]) for k, v in stock.state_dict().items())


def test_names_say_what_varies_and_refuse_what_does_not_go_together():
    strategy = Strategy.parse("adam+he+batch-norm+ema+residual@cosine")
    assert strategy.variant == Variant("residual", "batch-norm")
    assert (strategy.initialization, strategy.averaging, strategy.start) == ("he", "ema", "he+residual+batch-norm")
    with pytest.raises(LoadError, match="names two of averaging: ema and polyak"):
        Strategy.parse("adam+ema+polyak")
    with pytest.raises(ValueError, match="averaging requires a method that uses one minibatch per step"):
        Strategy.parse("lbfgs+ema")
    with pytest.raises(LoadError, match="unknown averaging 'batch-norm'"):
        crossed(["adam"], {"averaging": ["batch-norm"]})


def test_a_study_crosses_all_of_them_and_goes_on_where_it_was_cut_off(tmp_path):
    task = small_task(torch.float64, deep, architectures={"shallow": lambda: nn.Linear(6, 3).double()})
    axes = {"architecture": ["none", "shallow"], "averaging": ["none", "ema"]}
    names = [*crossed(["sgd"], axes), "sgd+batch-norm"]
    options = {"trials": 2, "steps": 30, "seeds": 3, "out": tmp_path / "out"}
    done = thalweg.compare(task, names, **options)
    results = done.results
    assert sorted(s["name"] for s in results["strategies"]) == sorted(names)
    assert [e["variant"] for e in results["engine"]] == ["", "shallow", "batch-norm"]
    assert thalweg.compare(task, names, **options).results["strategies"] == results["strategies"]


def test_stock_batch_norm_trains_in_lanes_swapped_or_not(tmp_path, monkeypatch):
    monkeypatch.setattr("thalweg.tensors.compiling.compiler_missing", lambda: "it takes long")  # what is swapped counts
    task = small_task(model=lambda: nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 3)))
    options = {"trials": 2, "steps": 30, "seeds": 3}
    stock = thalweg.compare(task, ["sgd"], engine="lanes", out=tmp_path / "a", **options)
    assert "lanes compute torch's batch normalization by thalweg's" in stock.results["engine"][0]["reason"]
    lanes = thalweg.compare(task, ["sgd"], engine="lanes", out=tmp_path / "b", swap_batch_norm=True, **options)
    serial = thalweg.compare(task, ["sgd"], engine="serial", out=tmp_path / "c", **options)
    one, two, three = (d.results["strategies"][0]["test"]["per_seed"] for d in (lanes, serial, stock))
    assert one == pytest.approx(two, abs=0.05)
    assert three == pytest.approx(two, abs=0.05)
