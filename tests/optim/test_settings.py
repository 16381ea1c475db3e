"""The settings of a group are checked as the constructor's are: where it is added, where it is loaded, at a step."""

import copy
from functools import partial

import pytest
import torch
from torch import nn

from tests.optim.test_conventions import each
from thalweg import optim
from thalweg.averaging import EMA, Average
from thalweg.optim.of_rule import OfRule
from thalweg.rules import RULES

ALL = {"lr": -1.0, "weight_decay": -0.1, "decay": "non", "maximize": "no"}
RULE = {"clip_norm": -1, "engine": "fast", "skip_nonfinite": "yes", **ALL}
MORE = [
    *[(optim.Adam, {key: bad}) for key, bad in RULE.items()],
    *[(optim.Adam, {"clip_norm": bad}) for bad in (0, 0.0, float("nan"), "1", torch.ones(2))],
    *[(optim.Adam, {"lr": bad}) for bad in ("0.1", None, float("nan"), 1j, torch.ones(2))],
    *[(optim.Adam, {"betas": bad}) for bad in ((0.9,), (0.9, 1.0), 0.9, (0.9, "b"), (-0.1, 0.9), None)],
    *[(optim.Adam, {key: "yes"}) for key in ("amsgrad", "bias_correction", "decoupled_weight_decay")],
    *[(optim.AdamW, {"eps": bad}) for bad in (-1e-8, float("nan"), None)],
    *[(optim.NAdam, {"momentum_decay": -1.0}), (optim.NAdam, {"decoupled_weight_decay": 2})],
    *[(optim.AdaGrad, {"lr_decay": -1.0}), (optim.AdaGrad, {"initial_accumulator_value": -1.0})],
    *[(optim.Adadelta, {"rho": bad}) for bad in (1.5, -0.1, float("nan"))],
    *[(optim.RMSProp, {key: -1.0}) for key in ("alpha", "momentum")],
    *[(optim.RMSProp, {key: "yes"}) for key in ("centered", "eps_inside_sqrt")],
    (optim.RMSProp, {"nesterov": True}),
    (optim.SGD, {"momentum": -0.9}),
    (optim.SGD, {"dampening": float("nan")}),
    (optim.SGD, {"nesterov": True}),
    (optim.SGD, {"nesterov": True, "momentum": 0.9, "dampening": 0.5}),
    *[(partial(OfRule, rule=RULES["adam"], hyper={}), {key: 1.0}) for key in ("beta1", "beta2")],
    *[(optim.LBFGS, {key: bad}) for key, bad in ALL.items()],
    *[(optim.LBFGS, {key: bad}) for key, bad in {"history_size": 0, "damping": 2.0, "history_dtype": "half"}.items()],
    *[(optim.LBFGS, {"max_iter": bad}) for bad in (0, 1.5, "3", float("nan"))],
    *[(optim.BFGS, {"line_search_fn": "wolfe"}), (optim.BFGS, {"max_eval": 1})],
    *[(optim.ConjugateGradient, {"beta": "none"}), (optim.ConjugateGradient, {"restart_every": 0})],
    *[(optim.Newton, {"damping": "none"}), (optim.Newton, {"alpha": -1.0}), (optim.Newton, {"alpha": None})],
    *[(optim.TruncatedNewton, {"curvature": "fisher"}), (optim.TruncatedNewton, {"globalization": "none"})],
    *[(optim.TruncatedNewton, {"warm_start": 2.0}), (optim.TruncatedNewton, {"max_products": 0})],
]


def new():
    return nn.Parameter(torch.ones(2))


@pytest.mark.parametrize(("make", "bad"), MORE, ids=lambda part: str(part)[:60])
def test_a_group_is_refused_whole_wherever_it_comes_from(make, bad):
    p = new()
    optimizer = make([p])
    before = copy.deepcopy(optimizer.state_dict())
    with pytest.raises(ValueError, match="^[^\n]+$"):
        optimizer.add_param_group({"params": [new()], **bad})
    with pytest.raises(ValueError, match="^[^\n]+$"):
        make([{"params": [new()], **bad}])
    loaded = copy.deepcopy(before)
    loaded["param_groups"][0].update(bad)
    with pytest.raises(ValueError, match="^[^\n]+$"):
        optimizer.load_state_dict(loaded)
    assert optimizer.state_dict() == before
    assert optimizer.param_groups[0]["params"] == [p]


@each
@pytest.mark.parametrize("bad", [{"engine": "fast"}, {"decay": "non"}, {"clip_norm": -1}])
def test_an_option_set_to_what_there_is_not_is_refused_at_the_step(make, bad):
    p = new()
    optimizer = make([p])
    p.grad = torch.ones(2)
    optimizer.param_groups[0].update(bad)
    with pytest.raises(ValueError, match="Invalid"):
        optimizer.step()
    assert p.tolist() == [1.0, 1.0]
    assert not optimizer.state


@pytest.mark.parametrize("make", [optim.Adam, optim.LBFGS])
def test_what_is_of_the_whole_optimizer_is_no_setting_of_a_group(make):
    p = new()
    with pytest.raises(ValueError, match="average belongs to the whole optimizer"):
        make([{"params": [p], "average": Average([p], EMA(0.9))}])


@each
def test_good_settings_of_groups_are_their_own(make):
    p, q = new(), new()
    optimizer = make([{"params": [p], "clip_norm": 0.5, "decay": "weights", "engine": "foreach"}, {"params": [q]}])
    p.grad, q.grad = torch.ones(2), torch.ones(2)
    optimizer.step()
    again = make([{"params": [new()]}, {"params": [new()]}])
    again.load_state_dict(optimizer.state_dict())
    assert [group["clip_norm"] for group in again.param_groups] == [0.5, None]
    assert [group["engine"] for group in again.param_groups] == ["foreach", "auto"]
