"""Block by block: what is trained when, on what, and that it is what the algorithm says."""

import re

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from tests.pretraining.small import LOSS, copy, data, joint, judged, moved, net
from thalweg.pretraining import greedy
from thalweg.stages import Batches, Plan
from thalweg.training import train


def run(plan, **options):
    return train(plan.model, plan.stages, **options)


def by_hand(model, heads, steps):
    """The algorithm as written: train f_k and a head on what the blocks before give, drop the head, go on."""
    batches = Batches(*data(), batch_size=20)
    chain = [model[0:4], model[4:6], model[6:8]]
    for k, (block, head) in enumerate(zip(chain, heads, strict=True)):
        part = nn.Sequential(block, head).train()
        optimizer = torch.optim.SGD(part.parameters(), lr=0.1)
        for done in chain[:k]:
            done.eval()
        taken, epoch = 0, 0
        while taken < steps:
            batches.set_epoch(epoch)
            for x, y in batches:
                if taken == steps:
                    break
                with torch.no_grad():
                    for done in chain[:k]:
                        x = done(x)
                optimizer.zero_grad()
                LOSS(part(x), y).backward()
                optimizer.step()
                taken += 1
            epoch += 1
    return copy(model)


@pytest.mark.parametrize("cache", [0, 2**30])
def test_it_is_the_algorithm_written_by_hand(cache):
    plan = greedy(net(), joint(), 7, cache=cache, generator=torch.Generator().manual_seed(3))
    other = greedy(net(), joint(), 7, generator=torch.Generator().manual_seed(3))
    expected = by_hand(other.model.model, other.model.heads, 7)
    run(Plan(plan.model, plan.stages[:-1]))
    torch.testing.assert_close(copy(plan.model.model), expected)


def test_each_stage_moves_its_block_and_head_alone_and_the_last_all_but_the_heads():
    plan = greedy(net(), joint(), 4)
    assert [s.name for s in plan.stages] == ["block 0", "block 4", "block 6", "joint"]
    seen = []
    for stage in plan.stages:
        before = copy(plan.model)
        train(plan.model, [stage])
        seen.append(sorted({name.rsplit(".", 1)[0] for name in moved(before, copy(plan.model))}))
    assert seen[0] == ["heads.0", "model.0", "model.1"]
    assert seen[1] == ["heads.1", "model.4"]
    assert seen[2] == ["heads.2", "model.6"]
    assert seen[3] == ["model.0", "model.1", "model.4", "model.6", "model.8"]


@pytest.mark.parametrize(
    ("last", "trained"),
    [(2, [{"0", "1"}, {"0", "1", "4"}, {"4", "6"}]), (None, [{"0", "1"}, {"0", "1", "4"}, {"0", "1", "4", "6"}])],
)
def test_a_stage_may_train_the_last_blocks_or_all_so_far(last, trained):
    plan = greedy(net(), joint(), 4, last=last)
    for stage, names in zip(plan.stages, trained, strict=False):
        before = copy(plan.model.model)
        train(plan.model, [stage])
        assert {name.split(".")[0] for name in moved(before, copy(plan.model.model))} == names


def test_frozen_blocks_run_once_where_their_outputs_are_kept(monkeypatch):
    passes = []
    model = net()
    model[0].register_forward_hook(lambda module, inputs, output: passes.append(len(output)))
    plan = greedy(model, joint(), 9)
    passes.clear()
    train(plan.model, [plan.stages[2]])
    assert passes == [60]
    plan = greedy(model, joint(), 9, cache=100)
    passes.clear()
    train(plan.model, [plan.stages[2]])
    assert passes == [20] * 9


def test_a_loader_of_tensors_gives_the_same_rows_with_and_without_a_cache():
    ends = []
    for cache in (0, 2**30):
        loader = DataLoader(TensorDataset(*data()), batch_size=20, shuffle=True)
        plan = greedy(net(dropout=0.2), joint(data=loader), 7, cache=cache, generator=torch.Generator().manual_seed(3))
        run(plan, seed=2)
        ends.append(copy(plan.model.model))
    torch.testing.assert_close(*ends)


def test_stages_are_validated_as_a_model_that_ends_in_their_head():
    plan = greedy(net(), joint(validate=judged(), evaluate_every=4), 8)
    history = run(plan)
    assert all(0 < loss < 3 for loss in history.column("valid_loss"))
    model = plan.model.model.eval()
    assert history.rows[-1]["valid_loss"] == pytest.approx(LOSS(model(data()[0]), data()[1]).item())


def test_a_plan_is_resumed_with_its_cached_outputs(tmp_path):
    whole = greedy(net(), joint(), 7, generator=torch.Generator().manual_seed(3))
    run(whole)

    class Stop(Exception):
        pass

    class Stopping:
        count = 0

        def stage(self, name, done, total):
            pass

        def row(self, row):
            pass

        def advance(self):
            self.count += 1
            if self.count == 11:
                raise Stop

    for callback in (Stopping(), None):
        plan = greedy(net(), joint(), 7, generator=torch.Generator().manual_seed(3))
        try:
            run(plan, checkpoint=tmp_path / "run.pt", checkpoint_every=1, resume=True, callback=callback)
        except Stop:
            continue
    assert not moved(copy(whole.model), copy(plan.model))


class Convolutional(nn.Module):
    def __init__(self, between=False):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU())
        self.body = nn.ModuleDict({"a": nn.Conv2d(4, 4, 3, padding=1), "b": nn.ReLU()})
        self.out, self.between = nn.Linear(4, 3), between

    def forward(self, x):
        x = self.stem(x.view(-1, 1, 2, 3))
        if self.between:
            x = x.sigmoid()
        return self.out(self.body["b"](self.body["a"](x)).mean(dim=(2, 3)))


def images():
    return Batches(data()[0].view(-1, 1, 2, 3), data()[1], batch_size=20)


def test_named_blocks_of_any_module_with_a_head_of_its_own():
    model = Convolutional()
    heads = []

    def head(features):
        heads.append(tuple(features.shape))
        return nn.Sequential(nn.Flatten(), nn.LazyLinear(3))

    plan = greedy(model, joint(data=images()), 5, blocks=["stem", ["body.a", "body.b"]], head=head)
    assert heads == [(4, 4, 2, 3), (4, 4, 2, 3)]
    assert [s.name for s in plan.stages] == ["block stem", "block body.a", "joint"]
    before = copy(model)
    train(plan.model, plan.stages[1:2])
    assert moved(before, copy(model)) == {"body.a.weight", "body.a.bias"}


def test_sequences_have_a_head_at_each_place():
    x = torch.randn(40, 5, 6)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4))
    stage = joint(
        data=Batches(x, torch.randint(4, (40, 5)), batch_size=20),
        objective=lambda m, b, t: LOSS(m(b[0]).flatten(0, 1), b[1].flatten()),
    )
    plan = greedy(model, stage, 3)
    assert plan.model.heads[0].weight.shape == (4, 8)
    run(plan)


def test_heads_are_of_the_model_s_precision():
    x, y = data()
    plan = greedy(net().double(), joint(data=Batches(x.double(), y, batch_size=20)), 3)
    assert {p.dtype for p in plan.model.parameters()} == {torch.float64}
    run(plan)


def test_a_deep_sigmoid_network_that_stands_still_when_trained_at_once_moves_block_by_block():
    """Each block's stage has a gradient through two layers alone, however deep the model is."""
    x = torch.randn(200, 8, generator=torch.Generator().manual_seed(0))
    y = x[:, :3].argmax(dim=1)

    def deep():
        torch.manual_seed(0)
        layers = [m for i in range(8) for m in (nn.Linear(8 if i == 0 else 12, 12), nn.Sigmoid())]
        return nn.Sequential(*layers, nn.Linear(12, 3))

    alone, first = deep(), deep()
    stage = joint(data=Batches(x, y, batch_size=50), optimizer=lambda p: torch.optim.Adam(p, lr=0.01), steps=100)
    at_once = train(alone, [stage])
    plan = greedy(first, stage, 100)
    by_block = train(plan.model, plan.stages[:1])
    assert at_once.rows[-1]["train_loss"] > 1.0
    assert by_block.rows[-1]["train_loss"] < 0.7


@pytest.mark.parametrize(
    ("model", "options", "words"),
    [
        (Convolutional, {}, "a Convolutional has no visible order of blocks: pass blocks="),
        (lambda: nn.Sequential(nn.ReLU(), nn.Linear(6, 3)), {}, "the model has 1 blocks with parameters"),
        (net, {"blocks": ["0", "9"]}, "the model has no layer '9': choose among 0, 1, 2"),
        (net, {"blocks": []}, "there are no blocks"),
        (net, {"blocks": ["0", "2"]}, "block '2' has no parameters"),
        (net, {"blocks": ["0", "4"]}, "block '4' does not accept the output of '0'"),
        (net, {"blocks": ["4"]}, "block '4' does not accept the output of \"the model's input\""),
        (
            lambda: Convolutional(True),
            {"blocks": ["stem", "body.a"]},
            "block 'body.a' does not accept the output of 'stem'",
        ),
        (net, {"last": 0}, "last is 0: give at least 1 block"),
        (lambda: nn.Sequential(net(), nn.Linear(3, 3), nn.Flatten(0)), {}, "no head is known for a model with outputs"),
    ],
)
def test_what_cannot_be_trained_block_by_block_is_refused(model, options, words):
    stage = joint(data=images() if "Conv" in str(model()) else joint().data)
    with pytest.raises(ValueError, match=re.escape(words)):
        greedy(model(), stage, 3, **options)


def test_data_in_which_nothing_can_be_seen_yet():
    with pytest.raises(ValueError, match="the stage's data are a function: pass a loader"):
        greedy(net(), joint(data=lambda m: []), 3)


@pytest.mark.parametrize("given", [[], [data()[0]], [(*data(), data()[1])], Batches(*data(), data()[1], batch_size=20)])
def test_data_that_are_no_pairs(given):
    with pytest.raises(ValueError, match="the stage's data give no pairs"):
        greedy(net(), joint(data=given), 3)
