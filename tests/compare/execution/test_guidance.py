"""Guided strategies: charged for all that they evaluate, the same in every engine, and what the library's plans say."""

from dataclasses import replace

import pytest
import torch
from torch import nn

import thalweg
from tests.compare.small import job, parts, small_task, task_context
from tests.conformance.test_engines import TOLERANCE, quiet, same
from thalweg.compare.execution.guidance import guidance_of
from thalweg.compare.execution.guidance.teacher import teacher_of
from thalweg.compare.execution.lanes import Lanes
from thalweg.compare.execution.serial import Serial
from thalweg.compare.storage.store import StudyError
from thalweg.compare.strategy import Strategy, crossed
from thalweg.compare.strategy.guidances import GUIDANCES
from thalweg.compare.task import GuidanceInputs, Task
from thalweg.compare.user_errors import TaskError
from thalweg.curriculum import losses
from thalweg.tensors import derive_seed
from thalweg.training import train

TOTAL = 60
IN_LANES = ["greedy", "transfer", "curriculum", "curriculum-stochastic", "anti-curriculum", "random-curriculum"]


def deep(classes=3):
    layers = [nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 9), nn.Tanh(), nn.Linear(9, classes)]
    return nn.Sequential(*layers).double()


def wide():
    return nn.Sequential(nn.Linear(6, 24), nn.ReLU(), nn.Linear(24, 3)).double()


def related():
    two = [torch.utils.data.TensorDataset(x, (y > 0).long()) for x, y in (p.tensors for p in parts(torch.float64))]
    return Task(lambda: deep(2), *two, nn.functional.cross_entropy, batch_size=20, name="related")


GUIDES = GuidanceInputs(teacher=wide, hint="1", guided="1", source=related)


@pytest.fixture(scope="module")
def context():
    return task_context(small_task(torch.float64, model=deep, guidance_inputs=GUIDES))


def guided(context, name, seed=1, **options):
    """Returns the job of a whole run, charged for what comes before its first step."""
    one = job(name, 0.01, seed, stop=TOTAL, total=TOTAL)
    spent = sum(guidance_of(one.strategy).charged(context, one.strategy, TOTAL).values())
    return replace(one, start=spent, prepared=spent, **options)


@pytest.mark.parametrize("width", [3, 12])
def test_lanes_equal_serial(context, width):
    names = ["adam", *(f"adam+{name}@cosine" for name in IN_LANES), "momentum+greedy+ema", "sgd+curriculum+polyak"]
    jobs = [guided(context, name, seed) for name in names for seed in (1, 2)]
    alone = Serial(context).run(jobs, quiet)
    for one, two in zip(alone, Lanes(context, width, compile_=False).run(jobs, quiet), strict=True):
        same(one, two, **TOLERANCE)


@pytest.mark.parametrize("guidance", GUIDANCES)
def test_a_run_cut_in_two_is_the_run_in_one_piece_bit_for_bit(context, guidance):
    whole = guided(context, f"adam+{guidance}@cosine")
    done = Serial(context).run([whole], quiet)[0]
    first = Serial(context).run([replace(whole, stop=45)], quiet)[0]
    fresh = task_context(context.task)  # as in another process: what was worked out for the seed is worked out again
    again = replace(whole, start=45, snapshot=first.snapshot, first_loss=first.first_loss)
    rest = Serial(fresh).run([again], quiet)[0]
    assert first.curve.valid_loss[:-1] + rest.curve.valid_loss == done.curve.valid_loss
    assert all(torch.equal(rest.snapshot[k], v) for k, v in done.snapshot.items())


@pytest.mark.parametrize("guidance", [name for name in GUIDANCES if name != "smoothing"])
@pytest.mark.parametrize("optimizer", ["adam", "own"])
def test_a_run_is_the_plan_of_the_training_loop(context, guidance, optimizer):
    one = guided(context, f"adam+{guidance}@cosine")
    if optimizer == "own":
        strategy = Strategy(
            "own",
            factory=torch.optim.Adam,
            defaults=one.strategy.defaults,
            schedule_name="cosine",
            space={"lr": (1e-3, 1.0)},
            guidance=guidance,
        )
        hyper = {"lr": 0.01, **GUIDANCES[guidance].defaults}
        one = replace(one, strategy=replace(strategy, defaults={"lr": 0.01}), hyper=hyper)
    ran = Serial(context).run([one], quiet)[0]
    model, guide = context.fresh_model("default", one.seed), guidance_of(one.strategy)
    plan = guide.plan(context, one, model, guide.stage(context, one, model))
    *before, last = plan.stages
    if before:
        train(plan.model, before, seed=derive_seed(one.seed, "pretraining"))
    train(plan.model, [last], seed=one.seed)
    found = context.evaluate(model, context.data.valid)
    assert ran.curve.valid_loss[-1] == pytest.approx(found[0], rel=1e-9)


def test_easy_examples_come_first_by_the_loss_of_a_teacher_of_the_seed(context):
    one = guided(context, "adam+curriculum")
    rows = guidance_of(one.strategy).rows(context, one, one.start, one.start + 3)
    harder = guidance_of(Strategy.parse("adam+anti-curriculum")).rows(context, one, one.start, one.start + 3)
    teacher = teacher_of(context, wide).model(one)
    found = losses(teacher, context.data.train.dataset(), nn.functional.cross_entropy)
    order = found.argsort()
    assert set(rows[0].tolist()) == set(order[:20].tolist())  # a fifth of 100, drawn without replacement
    assert set(harder[0].tolist()) == set(order[-20:].tolist())
    another = teacher_of(context, wide).model(replace(one, seed=2))
    assert not torch.equal(another[0].weight, teacher[0].weight)


def test_given_difficulties_cost_nothing_and_stretches_do_not_matter():
    hard = torch.arange(100.0).flip(0)
    context = task_context(small_task(guidance_inputs=GuidanceInputs(difficulty=hard)))
    one = guided(context, "adam+curriculum")
    assert one.prepared == 0
    guide = guidance_of(one.strategy)
    whole = guide.rows(context, one, 0, 25)
    parts = [guide.rows(task_context(context.task), one, a, b) for a, b in ((0, 7), (7, 11), (11, 25))]
    assert torch.equal(torch.cat(parts), whole)
    assert whole[0].min() >= 80


def test_the_teachers_step_is_priced_by_its_operations(context):
    teacher = teacher_of(context, wide)
    own_cost, teachers_cost = 6 * 9 + 9 * 9 + 9 * 3, 6 * 24 + 24 * 3
    assert teacher.price == pytest.approx(teachers_cost / own_cost)
    looks = -(-100 // 20) * teachers_cost / own_cost / 3
    assert teacher.charged(TOTAL, looks=True) == {"teacher": 15, "teacher's outputs": int(-(-looks // 1))}
    fitnet = guidance_of(Strategy.parse("adam+fitnet"))
    assert fitnet.charged(context, Strategy.parse("adam+fitnet"), TOTAL)["hints"] == 7


def test_a_trained_teacher_is_taken_as_it_is_and_not_charged():
    given = wide()
    context = task_context(small_task(torch.float64, model=deep, guidance_inputs=replace(GUIDES, teacher=given)))
    costs = guidance_of(Strategy.parse("adam+fitnet")).charged(context, Strategy.parse("adam+fitnet"), TOTAL)
    assert set(costs) == {"teacher's outputs", "hints"}
    before = [p.clone() for p in given.parameters()]
    used = teacher_of(context, given).model(guided(context, "adam+fitnet"))
    assert torch.equal(used(context.data.valid.input), given(context.data.valid.input))
    assert Serial(context).run([guided(context, "adam+fitnet")], quiet)[0].status == "finished"
    assert all(torch.equal(p, q) for p, q in zip(given.parameters(), before, strict=True))


def test_smoothing_steps_every_eighth_evaluation_of_the_first_half_and_ends_on_the_cost_itself(context):
    """Without any width it is plain training that leaves seven of eight minibatches out at first."""
    one = guided(context, "sgd+smoothing")
    one = replace(one, hyper={**one.hyper, "sigma": 1e-9})
    ran = Serial(context).run([one], quiet)[0]
    model = context.fresh_model("default", 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    for t, rows in enumerate(context.batches(1, 0, TOTAL)):
        if t < 24 and t % 8 != 7:
            continue
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(context.data.train.input[rows]), context.data.train.target[rows]).backward()
        optimizer.step()
    found = context.evaluate(model, context.data.valid)
    assert ran.curve.valid_loss[-1] == pytest.approx(found[0], rel=1e-6)
    wider = Serial(context).run([replace(one, hyper={**one.hyper, "sigma": 0.3})], quiet)[0]
    assert wider.curve.valid_loss[-1] != pytest.approx(found[0], rel=1e-6)


def test_pretraining_that_diverges_is_an_outcome(context):
    one = replace(guided(context, "sgd+greedy"), hyper={**guided(context, "sgd+greedy").hyper, "lr": 1e308})
    other = guided(context, "sgd")
    for engine in (Serial(context), Lanes(context, 2, compile_=False)):
        lost, sound = engine.run([one, other], quiet)
        assert (lost.status, lost.steps, sound.status) == ("diverged", one.prepared, "finished")


def test_a_study_charges_all_and_shows_it_apart(tmp_path):
    task = small_task(torch.float64, model=deep, guidance_inputs=GUIDES)
    names = ["adam", "adam+greedy", "adam+fitnet", "adam+curriculum", "adam+smoothing", "lbfgs+transfer"]
    done = thalweg.compare(task, names, trials=1, seeds=2, steps=TOTAL, out=tmp_path / "s", engine="serial")
    by_name = {s["name"]: s for s in done.results["strategies"]}
    assert by_name["adam"]["charged"] == by_name["adam+smoothing"]["charged"] == {}
    assert by_name["adam+greedy"]["charged"] == {"pretraining": 14}
    assert by_name["lbfgs+transfer"]["charged"] == {"related task": 15}
    assert set(by_name["adam+fitnet"]["charged"]) == {"teacher", "teacher's outputs", "hints"}
    for name, strategy in by_name.items():
        steps = strategy["curves"]["step"]
        assert steps[-1] == TOTAL, name
        assert steps[0] > sum(strategy["charged"].values()), name
    assert "over" in by_name["adam+curriculum"]["hyperparameters"]
    page = done.report.read_text(encoding="utf-8")
    assert "spent before the first step" in page
    assert "teacher&#39;s outputs" in page


def test_the_axis_crosses_and_parses():
    names = crossed(["adam@cosine"], {"guidance": ["none", "fitnet"]})
    assert names == ["adam@cosine", "adam+fitnet@cosine"]
    strategy = Strategy.parse("adam+curriculum")
    assert strategy.space["over"] == (0.1, 0.9)
    assert "over" not in strategy.stepping(strategy.default_configuration())


@pytest.mark.parametrize(
    ("inputs", "name", "message"),
    [
        (GuidanceInputs(), "adam+fitnet", "fitnet needs a teacher, a layer of the teacher and a layer of the model"),
        (GuidanceInputs(), "adam+transfer", "give Task.guidance_inputs=GuidanceInputs.source"),
        (replace(GUIDES, guided="9"), "adam+fitnet", "the student has no layer '9'"),
        (replace(GUIDES, parts=["7"]), "adam+transfer", "7"),
        (replace(GUIDES, blocks=["2", "0"]), "adam+greedy", "does not accept the output of"),
        (GuidanceInputs(difficulty=torch.zeros(3)), "adam+curriculum", "difficulty has 3 numbers for 100 examples"),
        (GuidanceInputs(difficulty=torch.full((100,), torch.nan)), "adam+curriculum", "NaN"),
    ],
)
def test_what_a_task_lacks_is_said_before_anything_is_trained(inputs, name, message, tmp_path):
    task = small_task(torch.float64, model=deep, guidance_inputs=inputs)
    with pytest.raises((TaskError, ValueError), match=message):
        thalweg.compare(task, [name], trials=1, seeds=1, steps=TOTAL, out=tmp_path / "s")
    assert not (tmp_path / "s").exists()


def test_a_run_too_short_for_its_teacher_and_a_closure_are_refused(tmp_path):
    task = small_task(torch.float64, model=deep, guidance_inputs=GUIDES)
    with pytest.raises(ValueError, match="more than half: increase --steps"):
        thalweg.compare(task, ["adam+fitnet"], trials=1, seeds=1, steps=8, out=tmp_path / "s")
    with pytest.raises(ValueError, match="curriculum requires a method that uses one minibatch per step"):
        Strategy.parse("lbfgs+curriculum")


@pytest.mark.parametrize("other", [{"guided": "3"}, {"teacher": deep()}, {"difficulty": torch.arange(100.0)}])
def test_a_study_of_other_guidance_inputs_is_another_study(tmp_path, other):
    def compared(inputs):
        task = small_task(torch.float64, model=deep, guidance_inputs=inputs)
        thalweg.compare(task, ["sgd"], trials=1, seeds=1, steps=10, out=tmp_path / "s", engine="serial")

    compared(GUIDES)
    compared(GUIDES)
    with pytest.raises(
        StudyError,
        match="different study: the (guidance's (guided|teacher)|digest of .*) is ",
    ):
        compared(replace(GUIDES, **other))
