"""A training loop of the user's own: its trials are what the bare script trains, and go on where they were."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

import thalweg
from tests.compare.task.test_data import Examples, crop
from thalweg.compare.execution.job import Job
from thalweg.compare.execution.loop.engines import Loops
from thalweg.compare.strategy import Strategy
from thalweg.compare.task.loop import TrainingLoop
from thalweg.compare.user_errors import TaskError

BATCHES = list(torch.randn(4, 3, 2, generator=torch.Generator().manual_seed(1)))
CPU = torch.device("cpu")


def job_of(name, **options):
    strategy = Strategy.parse(name)
    hyper = strategy.stepping(strategy.default_configuration())
    return replace(Job(name, strategy, hyper, 3, 0, 12, 12, 5, test=True), **options)


def ignore(steps):
    return None


def run_of(train, job):
    (result,) = Loops(TrainingLoop(train), CPU, "all").run([job], ignore)
    return result


def loop(body=lambda run, optimizer, loss: None, data=BATCHES, after=lambda run: run.report(test={"loss": 1.0})):
    """Returns a plain training loop, with what ``body`` adds to each batch."""

    def train(run):
        model = nn.Linear(2, 1)
        optimizer = run.optimizer(model)
        for x in run.batches(data):
            loss = model(x).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if body(run, optimizer, loss) == "break":
                break
        after(run)

    return train


def reported(run, optimizer, loss):
    run.loss(loss)
    if run.due:
        run.report(valid={"loss": loss.item()})


@pytest.mark.parametrize(("name", "kind"), [("sgd", torch.optim.SGD), ("adam", torch.optim.Adam)])
def test_a_run_trains_what_the_bare_script_trains(name, kind):
    seen = []

    def train(run):
        model = nn.Linear(2, 1)
        seen.append(copy.deepcopy(model))
        loop_model.append(model)
        optimizer = run.optimizer(model)
        for x in run.batches(BATCHES):
            loss = model(x).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            reported(run, optimizer, loss)
        run.report(test={"loss": 1.0})

    loop_model = []
    job = job_of(name)
    assert run_of(train, job).status == "finished"
    (model,) = seen
    optimizer = kind(model.parameters(), lr=job.hyper["lr"])
    for t in range(12):
        optimizer.zero_grad()
        model(BATCHES[t % 4]).square().mean().backward()
        optimizer.step()
    for own, bare in zip(loop_model[0].parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(own, bare, rtol=1e-6, atol=1e-7)


def augmented(run):
    """A loop with all that has a state: dropout, augmentation in workers, a mean of the weights."""
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 2))
    mean = torch.optim.swa_utils.AveragedModel(model)
    run.track(mean=mean)
    optimizer = run.optimizer(model)
    loader = DataLoader(Examples(crop), batch_size=10, shuffle=True, num_workers=2)
    valid = DataLoader(Examples(), batch_size=30)
    for _ in range(10):  # epochs
        for x, y in run.batches(loader):
            loss = nn.functional.cross_entropy(model(x / 240), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            mean.update_parameters(model)
            run.loss(loss)
            if run.due:
                run.report(valid={"accuracy": accuracy(mean, valid)})
    if run.is_final:
        run.report(test={"accuracy": accuracy(mean, valid)})


@torch.no_grad()
def accuracy(model, loader):
    model.eval()
    hits = torch.cat([model(x / 240).argmax(1) == y for x, y in loader])
    model.train()
    return hits.double().mean()


@pytest.mark.parametrize("name", ["adam@cosine", "momentum"])
def test_a_run_that_is_cut_goes_on_bit_for_bit(name):
    job = job_of(name, evaluate_every=6)
    straight = run_of(augmented, job)
    first = run_of(augmented, replace(job, stop=6, test=False))
    assert first.test is None
    cut = run_of(augmented, replace(job, start=6, snapshot=first.snapshot, first_loss=first.first_loss))
    assert cut.test == straight.test
    assert cut.snapshot.keys() == straight.snapshot.keys()
    for key, tensor in straight.snapshot.items():
        assert torch.equal(tensor, cut.snapshot[key]), key


def test_a_run_that_diverges_ends_with_the_step_though_the_loop_catches_exceptions():
    def train(run):
        try:
            loop(lambda run, optimizer, loss: reported(run, optimizer, loss * 2.0 ** (40 * run.step)))(run)
        except Exception:  # as careless scripts do
            run.report(test={"loss": 0.0})

    result = run_of(train, job_of("sgd"))
    assert result.status == "diverged"
    assert 1 < result.steps <= 12
    assert result.test is None


def test_what_is_judged_is_the_first_number_that_is_reported_and_its_direction_is_known():
    loops = Loops(TrainingLoop(loop(reported)), CPU, "all")
    assert loops.tried(Strategy.parse("adam")).task.direction == "min"
    named = TrainingLoop(loop(reported), metric="loss", higher_is_better=True, name="mine")
    assert Loops(named, CPU, "all").tried(Strategy.parse("adam")).task.direction == "max"


def test_two_optimizers_of_a_strategy_step_as_one():
    def train(run):
        model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
        optimizer = run.optimizer(model)
        for x in run.batches(BATCHES):
            loss = model(x).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            reported(run, optimizer, loss)
        run.report(test={"loss": 1.0})

    job = job_of("torch.optim.Muon", evaluate_every=6)
    straight, first = run_of(train, job), run_of(train, replace(job, stop=6, test=False))
    cut = run_of(train, replace(job, start=6, snapshot=first.snapshot, first_loss=first.first_loss))
    assert all(torch.equal(tensor, cut.snapshot[key]) for key, tensor in straight.snapshot.items())


def often(run, optimizer, loss):
    optimizer.step()
    reported(run, optimizer, loss)


def late(run, optimizer, loss):
    run.loss(loss)
    if run.step % 5 == 0 and run.step:
        run.report(valid={"loss": 1.0})


def silent(run, optimizer, loss):
    if run.due:
        run.report(valid={"loss": 1.0})


def no_model(run):
    model = nn.Linear(2, 1)
    run.optimizer(model.parameters())
    loop(reported)(run)


def groups_alone(run):
    model = nn.Linear(2, 1)
    optimizer = run.optimizer([{"params": [model.weight]}, {"params": [model.bias]}])
    for x in run.batches(BATCHES):
        loss = model(x).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        reported(run, optimizer, loss)
    run.report(test={"loss": 1.0})


def text(run, optimizer, loss):
    run.loss(loss)
    if run.due:
        run.report(valid={"loss": "low"})


def unnamed(run, optimizer, loss):
    run.loss(loss)
    if run.due:
        run.report(valid=loss.item())


KEPT = nn.Linear(2, 1)


def kept_model(run):
    optimizer = run.optimizer(KEPT)
    for x in run.batches(BATCHES):
        loss = KEPT(x).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        reported(run, optimizer, loss)
    run.report(test={"loss": 1.0})


def untracked(run):
    model = nn.Linear(2, 1)
    optimizer = run.optimizer(model)
    mean = 0.0
    for x in run.batches(BATCHES):
        loss = model(x).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        mean += loss.item()
        run.loss(loss)
        if run.due:
            run.report(valid={"loss": mean})
    run.report(test={"loss": mean})


def scheduled(run, optimizer, loss):
    for group in optimizer.param_groups:
        group["lr"] *= 0.5
    reported(run, optimizer, loss)


def step_after_report(run, optimizer, loss):
    reported(run, optimizer, loss)
    if run.step % 2:
        optimizer.step()


def two_phases(run):
    model = nn.Linear(2, 1)
    optimizer = run.optimizer(model)
    for data in (BATCHES, BATCHES[:2]):
        for x in run.batches(data):
            loss = model(x).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            reported(run, optimizer, loss)
    run.report(test={"loss": 1.0})


BAD = {
    "kept model": (kept_model, "does something else when it is called again with the same seed"),
    "untracked": (untracked, "does not go on where it was when it is interrupted: call run.track"),
    "own schedule": (loop(scheduled), "changes the optimizer's learning rate, which follows the strategy's schedule"),
    "steps later": (loop(step_after_report), r"calls optimizer.step\(\) after it has reported on batch 2"),
    "two phases": (two_phases, "calls run.batches with other data than before"),
    "few examples": (
        loop(reported, data=DataLoader(torch.zeros(3, 2), batch_size=4)),
        r"the batch \(4\) is larger than the training data \(3\)",
    ),
    "not finite": (
        loop(lambda run, o, loss: reported(run, o, loss * torch.nan)),
        "the loss that the loop gives run.loss is no finite number in batch 1",
    ),
    "no report": (loop(lambda run, o, loss: run.loss(loss)), "does not report after batch 2, .*: write if run.due"),
    "too late": (loop(late), "does not report after batch 2"),
    "not due": (loop(lambda run, o, loss: run.report(valid=1.0)), "reports a validation result after batch 1, .* none"),
    "no loss": (loop(silent), "has not called run.loss since it last reported"),
    "steps": (loop(often), r"has called optimizer.step\(\) 2 times in 1 batches"),
    "ends early": (loop(lambda *a: reported(*a) or "break"), "has ended after 0 of 4 batches"),
    "no test": (loop(reported, after=lambda run: None), r"reports no test result: call run.report\(test=...\)"),
    "no batches": (loop(reported, data=[]), "data yields no batch"),
    "an iterator": (loop(reported, data=iter(BATCHES)), "run.batches with a list_iterator: give a DataLoader"),
    "no model": (groups_alone, r"registers no model: call run.optimizer\(model\), or run.track\(model=model\)"),
    "twice": (no_model, "calls run.optimizer twice"),
    "unnamed": (loop(unnamed, after=lambda run: run.report(test=1.0)), "nothing says whether a larger 'metric'"),
    "text": (loop(text), "reports 'loss' as a str: report a number"),
    "vector": (loop(lambda run, o, loss: run.loss(torch.ones(2))), r"run.loss with a \(2,\): give the scalar"),
    "track": (lambda run: run.track(scaler=3), "registers scaler, a int without state_dict"),
    "raises": (lambda run: 1 / 0, "the training loop raises ZeroDivisionError"),
    "ends": (lambda run: exit(0), r"the training loop calls sys.exit\(0\)"),
}


@pytest.mark.parametrize(("train", "match"), BAD.values(), ids=BAD)
def test_bad_loops(train, match):
    with pytest.raises(TaskError, match=match) as raised:
        Loops(TrainingLoop(train), CPU, "all").tried(Strategy.parse("sgd"))
    assert len(str(raised.value).splitlines()) == 1


def test_a_study_of_a_loop_ends_with_a_verdict_and_is_resumed(tmp_path):
    options = {"trials": 2, "seeds": 2, "steps": 12, "out": tmp_path / "study"}
    study = thalweg.compare(loop(reported), "sgd,adam", **options)
    assert study.results["task"]["metric"] == "loss"
    assert {s["name"] for s in study.results["strategies"]} == {"sgd", "adam"}
    again = thalweg.compare(loop(reported), "sgd,adam", **options)
    assert again.results["strategies"] == study.results["strategies"]
    assert "batches of" not in (tmp_path / "study" / "report.html").read_text()


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"strategies": "lbfgs"}, "evaluates the loss several times a step"),
        ({"strategies": "adam+ema"}, "changes more than the optimizer and its schedule"),
        ({"strategies": "adam", "engine": "lanes"}, "--engine lanes cannot run a training loop"),
    ],
)
def test_what_a_loop_cannot_take_is_refused(tmp_path, options, match):
    with pytest.raises(ValueError, match=match):
        thalweg.compare(loop(reported), out=tmp_path / "study", **options)
    assert not (tmp_path / "study").exists()


def accumulating(run):
    model = nn.Linear(2, 1)
    optimizer = run.optimizer(model)
    for x in run.batches(BATCHES):
        loss = model(x).square().mean()
        (loss / 4).backward()
        if run.step % 4 == 3:
            optimizer.step()
            optimizer.zero_grad()
        reported(run, optimizer, loss.detach())
    run.report(test={"loss": 1.0})


def test_accumulated_gradients_are_part_of_the_state():
    job = job_of("adam", evaluate_every=6)
    straight, first = run_of(accumulating, job), run_of(accumulating, replace(job, stop=6, test=False))
    cut = run_of(accumulating, replace(job, start=6, snapshot=first.snapshot, first_loss=first.first_loss))
    assert all(torch.equal(tensor, cut.snapshot[key]) for key, tensor in straight.snapshot.items())


def test_a_loop_that_never_steps_is_refused():
    def idle(run):
        model = nn.Linear(2, 1)
        optimizer = run.optimizer(model)
        for x in run.batches(BATCHES):
            reported(run, optimizer, model(x).square().mean())
        run.report(test={"loss": 1.0})

    with pytest.raises(TaskError, match=r"never calls optimizer.step\(\)"):
        run_of(idle, job_of("sgd"))


def steep(run):
    """A loop that diverges with the default learning rate, and tests what its last batch has left."""
    model = nn.Linear(2, 1)
    optimizer = run.optimizer(model)
    for x in run.batches(BATCHES):
        loss = (1e4 * model(x)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        reported(run, optimizer, loss)
    run.report(test={"loss": loss.item()})


def test_a_strategy_that_diverges_at_once_is_tried_timed_and_reported(tmp_path):
    loops = Loops(TrainingLoop(steep), CPU, "all")
    assert loops.tried(Strategy.parse("sgd")).task.metric == "loss"
    assert loops.seconds_per_step(job_of("sgd", total=20)) > 0
    assert math.isnan(loops.untrained_test("default", 0))


def test_a_loop_that_fine_tunes_is_judged_by_what_it_would_lose():
    def tuned(run):
        model = nn.Linear(2, 1)
        with torch.no_grad():
            model.weight.copy_(torch.tensor([[1e-4, 1.0]]))
            model.bias.zero_()
        optimizer = run.optimizer(model)
        for x in run.batches(BATCHES):
            loss = (model(x) - x[:, 1:]).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            reported(run, optimizer, loss)
        run.report(test={"loss": 1.0})

    tried = Loops(TrainingLoop(tuned), CPU, "all").tried(Strategy.parse("sgd"))
    assert tried.usual > 0.1
