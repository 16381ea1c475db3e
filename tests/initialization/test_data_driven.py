"""The data-driven scale reaches its bounds, rescues what does not train, and otherwise leaves the model alone."""

import pytest
import torch
from torch import nn

from thalweg.initialization import initialize
from thalweg.initialization.data_driven import scale_by_data


def deep(activation=nn.Sigmoid, depth=20, width=32, scheme="uniform-fan-in", normalize=False):
    torch.manual_seed(0)
    layers = []
    for i in range(depth):
        layers += [nn.Linear(8 if i == 0 else width, width), activation()]
        layers += [nn.BatchNorm1d(width), nn.Dropout(0.3)] if normalize else []
    model = nn.Sequential(*layers, nn.Linear(width, 3))
    initialize(model, scheme, torch.Generator().manual_seed(0))
    return model


def batch(rows=128):
    return torch.randn(rows, 8, generator=torch.Generator().manual_seed(1))


def deviations(model, x):
    found = []
    for module in model:
        x = module(x)
        if isinstance(module, nn.Linear):
            found.append(x.var(dim=0, correction=0).mean().sqrt().item())
    return found


@pytest.mark.parametrize("method", ["first-small", "lsuv"])
@pytest.mark.parametrize("activation", [nn.Sigmoid, nn.ReLU, nn.Tanh])
def test_every_layer_ends_within_bounds(method, activation):
    model = deep(activation)
    before = deviations(model, batch())
    report = scale_by_data(model, batch(), method, generator=torch.Generator().manual_seed(2))
    after = deviations(model, batch())
    assert report.done
    assert all(0.8 <= value <= 1.25 for value in after)
    assert [s.after for s in report.layers] == pytest.approx(after, rel=1e-4)
    assert [s.before for s in report.layers] == pytest.approx(before, rel=1e-4)
    assert str(report).splitlines()[-1] == f"{report.passes} passes, all within bounds"


def test_lsuv_keeps_the_rows_orthogonal():
    model = deep(nn.ReLU)
    scale_by_data(model, batch(), "lsuv")
    weight = model[2].weight.detach()
    gram = weight @ weight.T
    torch.testing.assert_close(gram, torch.eye(32) * gram[0, 0], rtol=1e-4, atol=1e-4)


def test_layers_within_bounds_are_left_alone():
    model = deep(nn.ReLU, scheme="he")
    scale_by_data(model, batch())
    before = [p.detach().clone() for p in model.parameters()]
    report = scale_by_data(model, batch())
    assert report.passes == 2
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_gradients_become_alike():
    model, x, y = deep(nn.Tanh), batch(), torch.randint(3, (128,), generator=torch.Generator().manual_seed(3))
    report = scale_by_data(model, x, of="gradients", loss=lambda out: nn.functional.cross_entropy(out, y))
    assert report.done
    last = report.layers[-1].after
    assert all(0.8 <= s.after / last <= 1.25 for s in report.layers)
    assert report.layers[0].before < 1e-3 * report.layers[-1].before


def test_centered_units_have_mean_zero():
    model = deep()
    assert scale_by_data(model, batch(), center=True).done
    x = batch()
    for module in model:
        x = module(x)
        if isinstance(module, nn.Linear):
            assert x.mean(dim=0).abs().max() < 0.1


def test_normalization_and_dropout_and_random_state_come_back_as_they_were():
    model = deep(nn.ReLU, depth=4, normalize=True).train()
    model[3].eval()
    before = {name: value.clone() for name, value in model.named_buffers()}
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    scale_by_data(model, batch())
    assert all(torch.equal(before[name], value) for name, value in model.named_buffers())
    assert torch.equal(torch.random.get_rng_state(), state)
    assert [m.training for m in (model, model[2], model[3])] == [True, True, False]
    assert not any(m._forward_hooks for m in model)


def test_recurrent_layers_run_and_are_left_as_they_are():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.head = nn.LSTM(8, 16, batch_first=True), nn.Linear(16, 3)

        def forward(self, x):
            return self.head(self.rnn(x)[0][:, -1])

    model = Model()
    before = [p.detach().clone() for p in model.rnn.parameters()]
    report = scale_by_data(model, torch.randn(64, 5, 8))
    assert [s.layer for s in report.layers] == ["head"]
    assert all(torch.equal(a, b) for a, b in zip(before, model.rnn.parameters(), strict=True))


@pytest.mark.parametrize(
    ("change", "options", "match"),
    [
        (lambda m: m[2].weight.data.zero_(), {}, "layer '2' has the same output for every example"),
        (lambda m: m[2].weight.data.fill_(float("nan")), {}, "layer '2' gives NaN or infinity"),
        (lambda m: None, {"method": "best"}, "unknown method 'best': choose first-small or lsuv"),
        (lambda m: None, {"of": "gradients"}, "gradients need a loss"),
        (lambda m: None, {"target": 0.0}, "give target > 0"),
    ],
)
def test_what_cannot_be_scaled_is_refused_and_the_model_stays(change, options, match):
    model = deep()
    change(model)
    model[2].bias.data.zero_()
    before = [p.detach().clone() for p in model.parameters()]
    with pytest.raises(ValueError, match=match):
        scale_by_data(model, batch(), **options)
    for a, b in zip(before, model.parameters(), strict=True):
        torch.testing.assert_close(a, b.detach(), rtol=0, atol=0, equal_nan=True)
    with pytest.raises(ValueError, match="no dense or convolution layer runs"):
        scale_by_data(nn.Sequential(nn.ReLU()), batch())


def test_passes_have_a_limit_and_the_report_says_so():
    report = scale_by_data(deep(), batch(), passes=3)
    assert (report.done, report.passes) == (False, 3)
    assert "not all within bounds" in str(report)


def test_a_deep_sigmoid_network_that_does_not_train_trains():
    """Twenty layers on a task that two can do: by the old heuristic the loss stays where it was."""
    x = batch(256)
    y = (x[:, :3]).argmax(dim=1)

    def end(rescue):
        model = deep()
        if rescue:
            scale_by_data(model, x, center=True)
        optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
        for _ in range(150):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
        return loss.item()

    assert end(False) > 1.0
    assert end(True) < 0.6
