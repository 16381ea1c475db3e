"""A student led by its teacher: the two costs as written, the teacher left alone, shapes joined or refused."""

import copy as copying
import re

import pytest
import torch
from torch import nn

from tests.pretraining.small import LOSS, copy, data, joint, judged, moved, net
from thalweg.architecture import AuxiliaryHeads
from thalweg.pretraining import HintTraining
from thalweg.pretraining.regressor import regressor_for
from thalweg.stages import Batches
from thalweg.training import train


def teacher():
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(6, 20), nn.BatchNorm1d(20), nn.ReLU(), nn.Dropout(0.5), nn.Linear(20, 3))


def training(**options):
    settings = {"hint": "2", "guided": "5", "generator": torch.Generator().manual_seed(0)}
    return HintTraining(options.pop("teacher", None) or teacher(), net(), **{**settings, **options})


def soft(answer, mine, tau):
    """H(p_T^τ, p_S^τ), in the paper's notation."""
    p, q = (answer / tau).exp(), (mine / tau).exp()
    p, q = p / p.sum(1, keepdim=True), q / q.sum(1, keepdim=True)
    return -(p * q.log()).sum(dim=1).mean()


@pytest.mark.parametrize("cache", [0, 2**30])
def test_both_costs_are_those_of_the_paper(cache):
    plan = training(cache=cache, temperature=2.0, weight=(4.0, 1.0)).plan(joint(steps=9), 5)
    master, both = teacher().eval(), plan.model
    led, taught = plan.stages
    batches = [next(iter(s.data(both) if callable(s.data) else s.data)) for s in (led, taught)]
    assert [len(batch) for batch in batches] == ([3, 3] if cache else [2, 2])
    inputs = batches[0][0]
    with torch.no_grad():
        hint = master[:3](inputs)
    expected = 0.5 * (hint - both.regressors[0](both.student[:6](inputs))).square().sum(dim=1).mean()
    torch.testing.assert_close(led.objective(both, batches[0], 0), expected)
    inputs, target = batches[1][:2]
    answer = master(inputs).detach()
    for step, weight in ((0, 4.0), (4, 2.5), (8, 1.0)):
        mine = both.student(inputs)
        expected = LOSS(mine, target) + weight * soft(answer, mine, 2.0)
        torch.testing.assert_close(taught.objective(both, batches[1], step), expected)


def test_hints_move_the_student_up_to_its_guided_layer_and_the_regressor_and_no_more():
    plan = training().plan(joint(), 5)
    before = copy(plan.model)
    train(plan.model, plan.stages[:1])
    names = {name.rsplit(".", 1)[0] for name in moved(before, copy(plan.model))}
    assert names == {"student.0", "student.1", "student.4", "regressors.0"}
    before = copy(plan.model)
    train(plan.model, plan.stages[1:])
    names = {name.rsplit(".", 1)[0] for name in moved(before, copy(plan.model))}
    assert names == {f"student.{i}" for i in (0, 1, 4, 6, 8)}


@pytest.mark.parametrize("cache", [0, 2**30])
def test_the_teacher_is_left_as_it_is_and_runs_once_where_its_outputs_are_kept(cache):
    master, passes = teacher(), []
    master[2].eval()
    modes, before = [m.training for m in master.modules()], copy(master)

    def seen(module, inputs, output):
        assert not any(m.training for m in master.modules())
        assert not output.requires_grad
        passes.append(len(output))

    plan = HintTraining(master, net(), "2", "5", cache=cache).plan(joint(), 6)
    master[2].register_forward_hook(seen)
    train(plan.model, plan.stages)
    assert passes == ([60, 60] if cache else [20] * 15)
    assert [m.training for m in master.modules()] == modes
    assert not moved(before, copy(master))
    assert all(p.grad is None and p.requires_grad for p in master.parameters())


def test_kept_outputs_change_nothing():
    ends = []
    for cache in (0, 2**30):
        plan = training(cache=cache).plan(joint(), 6)
        train(plan.model, plan.stages)
        ends.append(copy(plan.model))
    torch.testing.assert_close(*ends)


def test_a_student_led_by_hints_comes_near_its_teachers_layer():
    x, _ = data()
    master = teacher().eval()
    plan = training().plan(joint(optimizer=lambda p: torch.optim.Adam(p, lr=0.02)), 150)
    history = train(plan.model, plan.stages[:1])
    losses = history.column("train_loss", "hints")
    with torch.no_grad():
        spread = 0.5 * (master[:3](x) - master[:3](x).mean(dim=0)).square().sum(dim=1).mean()
    assert losses[-1] < 0.5 * spread < losses[0]


def test_several_hints_with_regressors_of_ones_own():
    regressors = [nn.Linear(12, 20), nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 3))]
    plan = training(hint=["2", "4"], guided=["2", "7"], regressor=regressors).plan(joint(), 4)
    assert list(plan.model.regressors) == regressors
    before = copy(plan.model)
    history = train(plan.model, plan.stages)
    assert "regressors.1.2.weight" in moved(before, copy(plan.model))
    assert history.rows[-1]["stage"] == "joint"


def test_distillation_alone_and_hints_alone():
    distilled = training().plan(joint(), 0)
    assert [s.name for s in distilled.stages] == ["joint"]
    plain, hinted = net(), training(weight=(0.0, 0.0)).plan(joint(), 0)
    train(plain, [joint()])
    train(hinted.model, hinted.stages)
    torch.testing.assert_close(copy(hinted.model.student), copy(plain))


def test_the_student_is_validated_as_itself():
    plan = training().plan(joint(validate=judged(), rates={"8": 0.5}), 4)
    history = train(plan.model, plan.stages)
    student = plan.model.student.eval()
    assert history.rows[-1]["valid_loss"] == pytest.approx(LOSS(student(data()[0]), data()[1]).item())
    assert "valid_loss" not in history.rows[0]


def test_a_student_with_auxiliary_heads_keeps_their_loss():
    student = AuxiliaryHeads(net(), ["5"], outputs=3, probe=torch.zeros(2, 6))
    stage = joint(objective=lambda m, b, t: m.loss(m(b[0]), b[1], LOSS))
    plan = HintTraining(teacher(), student, "2", "model.7").plan(stage, 3)
    before = copy(student)
    train(plan.model, plan.stages)
    assert {"heads.0.1.weight", "model.8.weight"} <= moved(before, copy(student))


@pytest.mark.parametrize(
    ("guided", "hint", "kind"),
    [
        ((5, 4), (5, 9), "Linear(in_features=4, out_features=9, bias=True)"),
        ((5, 7, 4), (5, 7, 9), "Linear(in_features=4, out_features=9, bias=True)"),
        ((5, 4, 11), (5, 9, 8), "Conv1d(4, 9, kernel_size=(4,), stride=(1,))"),
        ((5, 4, 6, 8), (5, 9, 6, 8), "Conv2d(4, 9, kernel_size=(1, 1), stride=(1, 1))"),
        ((5, 4, 6, 8), (5, 9, 3, 7), "Conv2d(4, 9, kernel_size=(4, 2), stride=(1, 1))"),
        ((5, 2, 3, 3, 3), (5, 3, 2, 2, 2), "Conv3d(2, 3, kernel_size=(2, 2, 2), stride=(1, 1, 1))"),
    ],
)
def test_a_regressor_joins_the_two_shapes(guided, hint, kind):
    regressor = regressor_for(torch.zeros(guided), torch.zeros(hint), seed=0)
    assert repr(regressor) == kind
    assert regressor(torch.randn(guided)).shape == hint


@pytest.mark.parametrize(("guided", "hint"), [((5, 4), (5, 4, 3, 3)), ((5, 4, 6, 6), (5, 4, 7, 6)), ((5,), (5,))])
def test_shapes_that_no_regressor_joins(guided, hint):
    with pytest.raises(ValueError, match="no linear or convolutional regressor maps the student's .* or pass regr"):
        regressor_for(torch.zeros(guided), torch.zeros(hint), seed=0)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"hint": "9"}, "the teacher has no layer '9': choose among 0, 1, 2, 3, 4"),
        ({"guided": "middle"}, "the student has no layer 'middle': choose among 0, 1"),
        ({"guided": ["2", "5"]}, "1 hints for 2 guided layers: name one hint for each"),
        ({"hint": [], "guided": []}, "0 hints for 0 guided layers"),
        ({"regressor": [nn.Linear(1, 1)] * 2}, "2 regressors for 1 hints: pass one for each"),
        ({"regressor": "linear"}, "unknown regressor 'linear': pass auto or a module"),
        ({"temperature": 0.0}, "temperature is 0.0"),
        ({"weight": (1.0, -1.0)}, "weight (1.0, -1.0): give a temperature above 0"),
    ],
)
def test_hints_that_cannot_be_given(options, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        training(**options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"regressor": nn.Linear(10, 19)}, "the regressor of '5' gives (4, 19), and the hint is (4, 20)"),
        (
            {"teacher": nn.Sequential(*teacher()[:4], nn.Linear(20, 5))},
            "the teacher outputs (4, 5) and the student (4, 3): give both the same outputs",
        ),
    ],
)
def test_shapes_that_do_not_fit(options, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        training(**options).plan(joint(), 3)


def test_a_teacher_in_the_memory_of_its_student_is_refused():
    student = net()
    for master in (student, nn.Sequential(*list(student)), copying.copy(student)):
        with pytest.raises(
            ValueError, match=r"'0.weight' shares memory with the teacher: pass copy.deepcopy\(teacher\)"
        ):
            HintTraining(master, student, "2", "5")
    HintTraining(copying.deepcopy(student), student, "2", "5")


def test_an_objective_that_does_not_run_the_student_once():
    stage = joint(objective=lambda m, b, t: LOSS(m(b[0]) + m(b[0]), b[1]))
    plan = training().plan(stage, 3)
    with pytest.raises(ValueError, match="the objective ran the model 2 times: run it once"):
        train(plan.model, plan.stages)


def test_layers_that_do_not_run():
    class Idle(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.idle = nn.Linear(6, 3), nn.Linear(6, 3)

        def forward(self, x):
            return self.used(x)

    with pytest.raises(ValueError, match="layer 'idle' did not run: name a layer that runs and returns one tensor"):
        HintTraining(Idle(), net(), "idle", "5").plan(joint(), 3)


def test_convolutional_teacher_and_student():
    x = torch.randn(40, 1, 8, 8)
    stage = joint(data=Batches(x, torch.randint(3, (40,)), batch_size=20))
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    master = nn.Sequential(nn.Conv2d(1, 16, 3), nn.ReLU(), *head, nn.Linear(16, 3))
    student = nn.Sequential(nn.Conv2d(1, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 1), nn.ReLU(), *head, nn.Linear(4, 3))
    plan = HintTraining(master, student, "1", "3").plan(stage, 4)
    assert plan.model.regressors[0].kernel_size == (3, 3)
    train(plan.model, plan.stages)
