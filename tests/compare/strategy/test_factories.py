"""A factory gets names of parameters, or the model, where it asks for them, and can so make groups of any kind."""

import pytest
import torch
from torch import nn

import thalweg
from tests.compare.small import job, small_task, task_context
from thalweg import Strategy
from thalweg.compare.execution.serial import Serial


def plain(params, lr=0.1):
    return torch.optim.SGD(params, lr=lr)


def layered(named_parameters, lr=0.1):
    rates = {"0": lr / 10, "2": lr}
    return torch.optim.SGD([{"params": [p], "lr": rates[name.split(".")[0]]} for name, p in named_parameters])


def of_model(model, lr=0.1):
    return torch.optim.SGD([{"params": model[0].parameters(), "lr": lr / 10}, {"params": model[2].parameters()}], lr=lr)


def beside(params, model, lr=0.1):
    slow = {id(p) for p in model[0].parameters()}
    return torch.optim.SGD([{"params": [p], "lr": lr / 10 if id(p) in slow else lr} for p in params])


def adam(params, lr=0.1, betas=(0.5, 0.9)):
    return torch.optim.Adam(params, lr=lr, betas=betas)


def result(factory, **hyper):
    strategy = Strategy("own", factory=factory, defaults={"lr": 0.1, **hyper})
    return Serial(task_context()).run([job(strategy, 0.1)], lambda steps: None)[0]


def test_layer_wise_rates_are_the_same_whatever_a_factory_asks_for():
    curves = [result(factory).curve.valid_loss for factory in (layered, of_model, beside)]
    assert curves[0] == curves[1] == curves[2] != result(plain).curve.valid_loss


def test_several_numbers_of_one_argument_are_given_together():
    expected = result(lambda params, lr: torch.optim.Adam(params, lr, (0.5, 0.99)))
    strategy = Strategy("own", factory=adam, defaults={"lr": 0.1}).with_settings(beta2=0.99)
    assert result(adam, **strategy.defaults).curve == expected.curve


def test_names_are_those_of_what_is_trained(tmp_path):
    seen = []

    def model():
        layers = nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 3))
        layers[0].requires_grad_(False)
        return layers

    def named(named_parameters, lr=0.1):
        seen.append([name for name, _ in named_parameters])
        return torch.optim.SGD([p for _, p in named_parameters], lr=lr)

    strategy = Strategy("own", factory=named)
    thalweg.compare(small_task(model=model), strategy, trials=1, steps=4, seeds=1, engine="serial", out=tmp_path / "o")
    assert {tuple(names) for names in seen} == {("2.weight", "2.bias")}


def test_a_factory_that_asks_for_names_is_not_guided(tmp_path):
    strategy = Strategy("own", factory=layered, guidance="greedy")
    with pytest.raises(ValueError, match="'own' cannot step .* named_parameters is not known there: omit the guidance"):
        thalweg.compare(small_task(), strategy, trials=1, steps=30, seeds=1, engine="serial", out=tmp_path / "o")


def test_an_error_of_a_factory_that_asks_for_the_model_is_its_own(tmp_path):
    def broken(model):
        raise RuntimeError("no such layer")

    with pytest.raises(ValueError, match="cannot step this model .*RuntimeError: no such layer"):
        thalweg.compare(small_task(), Strategy("own", factory=broken, space={}), trials=1, steps=4, out=tmp_path / "o")
