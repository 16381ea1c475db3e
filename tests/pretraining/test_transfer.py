"""What is taken, what is drawn anew, what then moves and how fast; and files that are not what they should be."""

import pickle
import re
from functools import partial

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tests.pretraining.small import copy, joint, moved, net
from thalweg.pretraining import load_weights, read_weights, transfer
from thalweg.training import train


def trained():
    model = net()
    train(model, [joint()])
    return model


def wider():
    torch.manual_seed(2)
    return nn.Sequential(*list(net())[:8], nn.Linear(8, 5))


def test_the_first_blocks_are_taken_with_their_statistics_and_the_rest_is_drawn_by_the_scheme():
    source, model = trained(), wider()
    transfer(model, source, joint(), 2, scheme="he", generator=torch.Generator().manual_seed(0))
    again = wider()
    transfer(again, source, joint(), 2, scheme="he", generator=torch.Generator().manual_seed(0))
    after, old, start = copy(model), copy(source), copy(wider())
    taken = {name for name in after if name.split(".")[0] in ("0", "1", "4")}
    assert all(torch.equal(after[name], old[name]) for name in taken)
    assert "1.running_mean" in taken
    assert {"6.weight", "8.weight"} <= moved(start, after)
    assert not moved(after, copy(again))


@pytest.mark.parametrize("parts", [2, ["0", "1", "4"]])
def test_a_rate_of_zero_freezes_what_was_taken_statistics_and_all(parts):
    source, model = trained(), wider()
    plan = transfer(model, source, joint(), parts, rate=0)
    before = copy(model)
    train(plan.model, plan.stages)
    assert {name.split(".")[0] for name in moved(before, copy(model))} == {"6", "8"}


def test_what_was_taken_moves_at_the_lower_rate():
    sgd = partial(torch.optim.SGD, lr=1.0)
    steps = {}
    for rate in (1.0, 0.01):
        model = wider()
        plan = transfer(model, trained(), joint(optimizer=sgd, steps=1), 2, rate=rate, scheme=None)
        before = copy(model)
        train(plan.model, plan.stages)
        steps[rate] = {name: copy(model)[name] - before[name] for name in before}
    torch.testing.assert_close(steps[0.01]["4.weight"], 0.01 * steps[1.0]["4.weight"], rtol=1e-2, atol=1e-6)
    torch.testing.assert_close(steps[0.01]["8.weight"], steps[1.0]["8.weight"])


def test_names_within_modules_are_left_out_one_by_one():
    class Deep(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.ModuleDict({"a": nn.Linear(6, 6), "b": nn.Linear(6, 6)})
            self.scale = nn.Parameter(torch.ones(()))
            self.out = nn.Linear(6, 3)

        def forward(self, x):
            return self.out(self.scale * self.body["b"](self.body["a"](x)))

    plan = transfer(Deep(), Deep(), joint(), ["body.a"], rate=0)
    assert plan.stages[0].trainable == ["scale", "body.b", "out"]
    train(plan.model, plan.stages)


@pytest.mark.parametrize("kind", ["safetensors", "state dict", "under model", "checkpoint", "module"])
def test_weights_come_from_files_of_every_kind(kind, tmp_path):
    source, path = trained(), tmp_path / "weights.pt"
    if kind == "safetensors":
        path = tmp_path / "weights.safetensors"
        save_file(source.state_dict(), path)
    elif kind == "state dict":
        torch.save(source.state_dict(), path)
    elif kind == "under model":
        torch.save({"model": source.state_dict(), "epoch": 3}, path)
    elif kind == "checkpoint":
        source = net()
        train(source, [joint()], checkpoint=path)
    else:
        path = source
    model = net()
    names = load_weights(model, path)
    assert names == list(model.state_dict())
    assert not moved(copy(model), copy(source))


@pytest.mark.parametrize(
    ("change", "parts", "words"),
    [
        (lambda s: s.pop("4.bias"), ["0", "4"], "(missing: 4.bias)"),
        (lambda s: s.update({"4.scale": torch.ones(1)}), ["4"], "(unexpected: 4.scale)"),
        (lambda s: s.update({"4.bias": torch.ones(3)}), ["4"], "(of another shape: 4.bias (3,) for (10,))"),
        (
            lambda s: (s.pop("0.bias"), s.pop("0.weight"), s.update({"4.x": torch.ones(1)})),
            ["0", "4"],
            "(missing: 0.weight, 0.bias; unexpected: 4.x)",
        ),
        (lambda s: None, ["8"], "(of another shape: 8.weight (3, 8) for (5, 8), 8.bias (3,) for (5,))"),
        (lambda s: None, ["9"], "the model has no weights in '9': choose among 0, 1, 4, 6, 8"),
        (lambda s: None, 0, "parts is 0: give 1 to 4 of the model's 4 blocks"),
    ],
)
def test_weights_that_do_not_fit_are_listed_and_nothing_changes(change, parts, words):
    weights, model = dict(trained().state_dict()), wider()
    change(weights)
    before = copy(model)
    with pytest.raises(ValueError, match=re.escape(words.replace("1 to 4", "1 to 3"))) as caught:
        transfer(model, weights, joint(), parts)
    assert "\n" not in str(caught.value)
    assert not moved(before, copy(model))


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("it was run",))


@pytest.mark.parametrize("name", ["weights.pt", "weights.safetensors"])
@pytest.mark.parametrize("content", ["nothing", "cut", "code", "text", "no tensors"])
def test_files_that_are_no_weights_are_refused_in_one_line_and_never_run(name, content, tmp_path):
    path = tmp_path / name
    if content == "cut":
        if name.endswith("pt"):
            torch.save(net().state_dict(), path)
        else:
            save_file(net().state_dict(), path)
        path.write_bytes(path.read_bytes()[:-20])
    elif content == "code":
        path.write_bytes(pickle.dumps(Bomb(), protocol=2))
    elif content == "text":
        path.write_text("hello, this is no file of tensors")
    elif content == "no tensors":
        torch.save({"epoch": 3}, path)
    with pytest.raises(ValueError, match=re.escape(str(path))) as caught:
        read_weights(path)
    assert "\n" not in str(caught.value)


def test_nothing_to_train_and_rates_below_zero():
    with pytest.raises(ValueError, match="so that nothing is trained"):
        transfer(net(), net(), joint(), ["0", "1", "4", "6", "8"], rate=0)
    with pytest.raises(ValueError, match="rate is -1"):
        transfer(net(), net(), joint(), 1, rate=-1)
