"""Settings out of their range are refused where they are given: zero, negative, not finite, no number, no such word."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from thalweg.architecture import AuxiliaryHeads, Maxout
from thalweg.averaging import EMA, Polyak
from thalweg.continuation import Adaptive, Fixed, GaussianSmoothing
from thalweg.curriculum import CurriculumSampler, Pacing, SelfPaced
from thalweg.initialization import rectifier_bias_, scale_by_data, sparse_
from thalweg.normalization import BatchNorm, batch_norm
from thalweg.rules import Schedule

NAN, INF = math.nan, math.inf


def heads(**options):
    return AuxiliaryHeads(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), ["0"], **{"outputs": 2, **options})


def smoothing(**options):
    return GaussianSmoothing(lambda model, batch: batch, 0.1, **options)


def sampler(**options):
    return CurriculumSampler([1.0, 2.0], Pacing(), **{"batch_size": 1, **options})


def scaled(**options):
    return scale_by_data(nn.Linear(2, 2), torch.randn(4, 2), **options)


def stacked(**options):
    return batch_norm(torch.randn(4, 2), None, training=True, **options)


REFUSED = {
    Schedule: [
        {"shape": "cosin"},
        {"shape": ""},
        {"shape": None},
        *({"warmup": v} for v in (-0.1, 1, 1.5, NAN, INF, "0.1")),
        *({"floor": v} for v in (-0.1, 1.1, NAN, -INF)),
        *({"until": v} for v in (0, -1, NAN, INF, None)),
        *({"drop": v} for v in (-0.1, 2, NAN)),
        *({"every": v} for v in (0, -0.5, NAN, INF)),
        *({"decay": v} for v in (-1, NAN, INF)),
        *({"cooldown": v} for v in (-0.1, 1.1, NAN)),
    ],
    Pacing: [
        {"shape": "cosin"},
        {"by": "batch"},
        *({"start": v} for v in (0, -0.1, 1.1, NAN)),
        *({"over": v} for v in (0, -3, NAN, INF)),
        *({"power": v} for v in (0, -1, NAN, INF)),
        *({"jumps": v} for v in (0, -1, 2.5, NAN)),
    ],
    SelfPaced: [{"model": None, "data": [], "loss": None, "every": v} for v in (0, -1, 2.5, NAN, INF)],
    sampler: [
        *({"batch_size": v} for v in (0, -1, 1.5, NAN)),
        *({"num_samples": v} for v in (0, 2.5, NAN)),
        *({"mixture": v} for v in (-0.1, 1.1, NAN)),
        {"rank": 1},
        {"rank": -1},
        {"num_replicas": NAN},
    ],
    Fixed: [*({"steps": v} for v in (0, -1, NAN, INF, 2.5)), *({"steps": 9, "levels": v} for v in (0, NAN, 1.5))],
    Adaptive: [
        *({"levels": v} for v in (0, NAN)),
        *({"window": v} for v in (7, NAN)),
        *({"most": v} for v in (0, NAN)),
        *({"alpha": v} for v in (0, 1, NAN)),
    ],
    smoothing: [*({"samples": v} for v in (0, 3, NAN, 2.5)), *({"chunk": v} for v in (0, -1, NAN))],
    Polyak: [{"start": v} for v in (-1, 0.5, NAN, INF)],
    EMA: [*({"decay": v} for v in (-0.1, 1, NAN)), {"start": NAN}],
    EMA.over: [{"horizon": v} for v in (0, 0.5, NAN, INF)],
    Polyak().tail: [{"share": NAN, "steps": 9}, {"share": 0.5, "steps": NAN}, {"share": 0.5, "steps": -1}],
    heads: [
        *({"decay": v} for v in (0, -1, NAN, 2.5)),
        *({"weight": v} for v in (-1, NAN, INF, {"0": NAN})),
        *({"outputs": v} for v in (0, NAN)),
    ],
    Maxout: [{"in_features": 2, "out_features": 2, "pieces": v} for v in (0, NAN)],
    BatchNorm: [{"num_features": 2, "ghost": v} for v in (0, -1, NAN, 2.5)],
    stacked: [{"ghost": v} for v in (0, -1, NAN)],
    sparse_: [{"weight": torch.zeros(2, 3), "k": v} for v in (0, -1, 1.5, NAN)],
    rectifier_bias_: [{"bias": torch.zeros(2), "value": v} for v in (0, -1, NAN, INF)],
    scaled: [{"target": NAN}, {"target": INF}, {"passes": 0}, {"passes": NAN}, {"bounds": (NAN, 1)}],
}


@pytest.mark.parametrize(("make", "options"), [(make, options) for make, table in REFUSED.items() for options in table])
def test_what_is_out_of_range_is_refused_in_one_line_that_shows_it(make, options):
    with pytest.raises(ValueError) as caught:  # noqa: PT011  (the value itself is looked for)
        make(**options)
    message = str(caught.value)
    shown = [v for k, v in options.items() if k not in ("model", "data", "loss", "weight", "bias", "in_features")]
    assert "\n" not in message
    assert any(str(value) in message for value in shown or options.values())


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(["constant", "linear", "step", "cosine", "inverse-time", "wsd"]),
    st.floats(0, 0.99),
    st.floats(0, 1),
    st.floats(1e-3, 3),
    st.floats(1e-3, 3),
    st.floats(0, 1e6),
    st.integers(1, 300),
)
def test_a_schedule_that_is_taken_gives_a_factor_at_every_step(shape, warmup, floor, until, every, decay, total):
    schedule = Schedule(shape, warmup, floor, until, 0.1, every, decay)
    assert all(0 <= schedule(t, total) <= 1 + 1e-12 for t in range(total + 2))
    with pytest.raises(ValueError, match="step -1 of a schedule: steps count from 0"):
        schedule(-1, total)
