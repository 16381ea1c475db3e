"""What is switched on around a rule, and SAM's two gradients, are the same on every engine and cut anywhere."""

import pytest
import torch
from torch import nn

from tests.compare.small import job, small_task, task_context
from thalweg.compare.execution.lanes import Lanes
from thalweg.compare.execution.loop.run import Run
from thalweg.compare.execution.serial import Serial
from thalweg.compare.strategy import Strategy
from thalweg.compare.user_errors import LoadError

NAMES = [
    "adamw+mars+cautious",
    "lion+cautious@wsd",
    "momentum+lookahead",
    "momentum+sam@cosine",
    "lamb+asam",
    "prodigy+sam",
    "schedule-free-adamw+ema",
]
LR = {"lion": 1e-3, "momentum": 0.05, "lamb": 0.01, "prodigy": 1.0}


@pytest.fixture(scope="module")
def context():
    return task_context(small_task(torch.float64))


def quiet(steps):
    """No progress."""


def jobs(seed=1, **options):
    return [job(name, LR.get(name.partition("+")[0], 0.01), seed, **options) for name in NAMES]


def test_lanes_equal_serial(context):
    alone = Serial(context).run(jobs(), quiet)
    for one, two in zip(alone, Lanes(context, 4, compile_=False).run(jobs(), quiet), strict=True):
        assert one.status == two.status == "finished"
        torch.testing.assert_close(one.curve.valid_loss, two.curve.valid_loss, rtol=1e-8, atol=1e-10)
        for name, value in one.snapshot.items():
            torch.testing.assert_close(value, two.snapshot[name], rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("engine", [Serial, lambda context: Lanes(context, 4, compile_=False)], ids=["serial", "lanes"])
def test_a_run_that_is_cut_between_two_gradients_of_a_step_is_the_run_in_one_piece(context, engine):
    whole = engine(context).run(jobs(), quiet)
    first = engine(context).run(jobs(stop=7), quiet)
    again = [
        job(name, LR.get(name.partition("+")[0], 0.01), start=7, snapshot=half.snapshot, first_loss=half.first_loss)
        for name, half in zip(NAMES, first, strict=True)
    ]
    for half, rest, one in zip(first, engine(context).run(again, quiet), whole, strict=True):
        assert half.curve.valid_loss + rest.curve.valid_loss == one.curve.valid_loss
        assert all(torch.equal(rest.snapshot[name], value) for name, value in one.snapshot.items())


def test_both_gradients_of_a_step_of_sam_are_of_one_minibatch_and_both_are_paid_for(context):
    """Against a loop that is written out: 15 steps for 30 gradients."""
    result = Serial(context).run([job("sgd+sam", 0.1, seed=5, test=False)], quiet)[0]
    model, x, y = context.fresh_model("default", 5), context.data.train.input, context.data.train.target
    params = list(model.parameters())
    for rows in context.batches(5, 0, 15):
        loss = nn.functional.cross_entropy(model(x[rows]), y[rows])
        grads = torch.autograd.grad(loss, params)
        norm = torch.cat([g.flatten() for g in grads]).norm()
        with torch.no_grad():
            start = [p.clone() for p in params]
            for p, g in zip(params, grads, strict=True):
                p += 0.05 * g / norm
        grads = torch.autograd.grad(nn.functional.cross_entropy(model(x[rows]), y[rows]), params)
        with torch.no_grad():
            for p, w, g in zip(params, start, grads, strict=True):
                p.copy_(w - 0.1 * g)
    with torch.no_grad():
        expected = nn.functional.cross_entropy(model(context.data.valid.input), context.data.valid.target).item()
    assert result.curve.step[-1] == 30
    assert result.curve.valid_loss[-1] == pytest.approx(expected, rel=1e-10)


def test_a_loop_of_ones_own_gets_each_batch_twice_for_sam():
    seen = []

    def loop(run):
        model = nn.Linear(2, 1, bias=False)
        nn.init.ones_(model.weight)
        optimizer = run.optimizer(model)
        for batch in run.batches(lambda seed: (torch.full((1, 2), 1 + i / 100) for i in range(100))):
            optimizer.zero_grad()
            loss = model(batch).square().mean()
            loss.backward()
            optimizer.step()
            run.loss(loss)
            seen.append(batch[0, 0].item())
            if run.due:
                run.report(valid=loss.item())

    sam = job("sgd+sam", 1e-4, stop=6, total=6, evaluate_every=6, test=False)
    run = Run(sam, torch.device("cpu"), "all")
    loop(run)
    assert seen == pytest.approx([1.0, 1.0, 1.01, 1.01, 1.02, 1.02])


def test_words_that_switch_something_on_are_told_from_others_and_refused_where_they_do_not_fit():
    both = Strategy.parse("adamw+lookahead+he+cautious@cosine")
    assert (both.initialization, both.rule.name) == ("he", "adamw+cautious+lookahead")
    assert both.with_settings(lookahead_alpha=0.8).defaults["lookahead_alpha"] == 0.8
    for text, words in (
        ("newton+cautious", "goes around this library's update rules only, not newton"),
        ("torch.optim.Adam+sam", "sam goes around this library's update rules only, not torch.optim.Adam"),
        ("lamb+cautious", "cautious does not go around lamb"),
        ("sgd+sam+curriculum", "SAM evaluates two gradients a step, which curriculum does not"),
        ("sgd+sam+asam", "sam and asam are two forms of one method"),
    ):
        with pytest.raises(LoadError, match=words):
            Strategy.parse(text)
