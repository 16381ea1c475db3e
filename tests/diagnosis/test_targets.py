"""Targets outside the range of their loss and batches of one class are found, and nothing else is disturbed by them."""

import pytest
import torch
from torch import nn
from torch.nn import functional

import thalweg
from benchmarks.sound_models import mlp, vectors
from tests.diagnosis.test_diagnose import QUICK

bce, cross_entropy = functional.binary_cross_entropy_with_logits, functional.cross_entropy
RANGE, BOUNDED, ONE = "target range", "bounded outputs", "one class"


def look(names, more=()):
    return thalweg.diagnose(names["model"], (names["inputs"], names["target"]), names["loss"], more=more, **QUICK)


def of(found, kind):
    return [f for f in found if f.kind == kind]


def dice(output, target):
    p = output.sigmoid()
    return 1 - (2 * (p * target).sum() + 1) / (p.sum() + target.sum() + 1)


def both(output, target):
    return dice(output, target) + bce(output, target)


def by_hand(output, target):
    return -(target * output.log() + (1 - target) * (1 - output).log()).mean()


def weighted(output, target):
    return bce(output, target, pos_weight=torch.tensor(5.0))


def flat(output, target):
    return bce(output[:, 0], target[:, 0])


def ignoring(output, target):
    kept = target >= 0
    return (bce(output, target, reduction="none") * kept).sum() / kept.sum()


def critic(output, target):
    return (output * target).mean()


def zeros_and_ones():
    return (torch.rand(64, 3) < 0.4).float()


MASKS = [  # how targets are made from 0 and 1, and the line that brings them back
    (255, 0, "target = target / 255"),
    (200, 0, "target = target / 255"),
    (100, 0, "target = target / 100"),
]
SIGNS = [(2, -1, "target = (target + 1) / 2"), (1, 1, "target = (target - 1)")]  # of which a Dice loss may not show any


@pytest.mark.parametrize(
    ("loss", "scale", "shift", "line"),
    [
        *((dice, *made) for made in MASKS),
        *((loss, *made) for loss in (bce, both, by_hand, weighted, flat) for made in (*MASKS, *SIGNS)),
    ],
)
def test_targets_beyond_the_unit_interval_are_brought_there_by_the_line(loss, scale, shift, line):
    torch.manual_seed(0)
    net, x = mlp(outs=3), vectors()[0]
    net = nn.Sequential(*net, nn.Sigmoid()) if loss is by_hand else net
    names = {"model": net, "inputs": x, "target": scale * zeros_and_ones() + shift, "loss": loss}
    (hit,) = of(look(names), RANGE)
    assert (hit.severity, hit.fix_code) == ("error", line)
    exec(hit.fix_code, names)
    assert 0 <= names["target"].min() <= names["target"].max() <= 1
    assert not of(look(names), RANGE)


@pytest.mark.parametrize("loss", [functional.mse_loss, functional.l1_loss])
@pytest.mark.parametrize("target", ["mask", "bytes", "grey"])
def test_sigmoids_are_not_taken_away_where_targets_are_masks_or_bytes(loss, target):
    torch.manual_seed(0)
    masks = {
        "mask": 255 * zeros_and_ones(),
        "bytes": (255 * torch.rand(64, 3)).round(),
        "grey": 250 * torch.rand(64, 3),
    }
    net = nn.Sequential(*mlp(outs=3), nn.Sigmoid())
    names = {"model": net, "inputs": vectors()[0], "target": masks[target], "loss": loss}
    (hit,) = of(look(names), BOUNDED)
    assert hit.fix_code == "target = target / 255"
    exec(hit.fix_code, names)
    assert not of(look(names), BOUNDED)
    names["target"] = torch.randn(64, 3)
    (hit,) = of(look(names), BOUNDED)
    assert "Identity" in hit.fix_code


@pytest.mark.parametrize(
    ("loss", "target"),
    [
        (bce, lambda: zeros_and_ones()),
        (bce, lambda: 0.8 * zeros_and_ones() + 0.1),
        (dice, lambda: zeros_and_ones()),
        (ignoring, lambda: torch.where(torch.rand(64, 3) < 0.2, -1.0, zeros_and_ones())),
        (critic, lambda: 2 * zeros_and_ones() - 1),
        (functional.mse_loss, lambda: 255 * zeros_and_ones()),
        (functional.soft_margin_loss, lambda: 2 * zeros_and_ones() - 1),
        (functional.poisson_nll_loss, lambda: torch.poisson(3 * torch.ones(64, 3))),
        (lambda y, t: -functional.cosine_similarity(y, t).mean(), lambda: torch.randn(64, 3)),
        (lambda y, t: -functional.cosine_similarity(y, t).mean(), lambda: 5 * torch.randn(64, 3) + 9),
        (lambda y, t: -(y * t).mean(), lambda: torch.randn(64, 3)),
        (lambda y, t: (y.exp() - y * t).mean(), lambda: torch.poisson(9 * torch.ones(64, 3))),
        (lambda y, t: 0.5 * ((t - y).square() - 3.0).mean(), lambda: torch.randn(64, 3)),
        (lambda y, t: dice(y, t) - 1, lambda: 2 * zeros_and_ones()),
    ],
)
def test_losses_that_take_such_targets_are_sound(loss, target):
    for seed in range(3):
        torch.manual_seed(seed)
        names = {"model": mlp(outs=3), "inputs": vectors()[0], "target": target(), "loss": loss}
        assert not of(look(names), RANGE)


@pytest.mark.parametrize(
    ("loss", "target", "words"),
    [
        (cross_entropy, 255 * (torch.arange(64) % 2), "Target 255 is out of bounds"),
        (functional.binary_cross_entropy, 255 * (torch.arange(64) % 2).float()[:, None], "between 0 and 1"),
    ],
)
def test_what_torch_refuses_stays_one_line(loss, target, words):
    net = nn.Sequential(*mlp(outs=1 if target.dim() == 2 else 10), nn.Sigmoid())
    with pytest.raises(ValueError, match=words) as raised:
        look({"model": net, "inputs": vectors()[0], "target": target, "loss": loss})
    assert len(str(raised.value).splitlines()) == 1


def classes(value, count=64):
    return torch.full((count,), value)


@pytest.mark.parametrize("value", [0, 3])
@pytest.mark.parametrize("logarithms", [False, True])
def test_a_batch_of_one_class_is_told_with_the_way_to_shuffle(value, logarithms):
    torch.manual_seed(0)
    net = nn.Sequential(*mlp(), nn.LogSoftmax(1)) if logarithms else mlp()
    loss = functional.nll_loss if logarithms else cross_entropy
    names = {"model": net, "inputs": vectors()[0], "target": classes(value), "loss": loss}
    found = look(names)
    (hit,) = of(found, ONE)
    assert (hit.severity, hit.figure, hit.threshold, hit.fix_code) == ("warning", 1.0, 2.0, "")
    assert f"of class {value}" in hit.meaning
    assert "shuffle=True" in hit.meaning
    assert [f for f in found if f.severity != "note"] == [hit]


def test_further_batches_tell_sorted_data_from_a_frequent_class():
    torch.manual_seed(0)
    x, y = vectors()
    names = {"model": mlp(), "inputs": x, "target": classes(3), "loss": cross_entropy}
    (hit,) = of(look(names, [(x, classes(4)), (x, classes(5))]), ONE)
    assert hit.severity == "warning"
    assert "of class 4, 5 alone" in hit.meaning
    assert of(look(names, [(x, y)]), ONE)[0].severity == "note"
    names |= {"model": mlp(outs=1), "target": torch.ones(64, 1), "loss": bce}
    assert of(look(names), ONE)[0].severity == "note"
    assert of(look(names, [(x, torch.zeros(64, 1))]), ONE)[0].severity == "warning"


def test_what_is_no_class_or_too_few_of_them_is_silent():
    torch.manual_seed(0)
    x, y = vectors()
    case = {"model": mlp(), "inputs": x, "loss": cross_entropy}
    assert not of(look(case | {"target": y}), ONE)
    assert not of(look(case | {"target": classes(3, 4), "inputs": x[:4]}), ONE)
    assert not of(look(case | {"target": torch.ones(64, 10), "loss": functional.mse_loss}), ONE)


@pytest.mark.parametrize("fault", ["dead", "large", "vanishing", None])
def test_one_class_leaves_the_other_findings_as_they_are(fault):
    torch.manual_seed(0)
    net, (x, y) = mlp(), vectors()
    if fault == "dead":
        nn.init.constant_(net[2].bias, -100.0)
    elif fault == "large":
        net[2].weight.data.mul_(100)
    elif fault == "vanishing":
        net[2].weight.data.mul_(1e-5)
    case = {"model": net, "inputs": x, "loss": cross_entropy}
    sorted_, drawn = (
        {(f.kind, f.layer, f.severity) for f in look(case | {"target": target}) if f.severity != "note"}
        for target in (classes(3), y)
    )
    assert sorted_ - {(ONE, "", "warning")} == {f for f in drawn if f[0] != "high start loss"}
