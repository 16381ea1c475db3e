"""Every planted fault is found at its place, its line fixes it as printed, and sound models are not warned of."""

from importlib import import_module

import pytest
import torch
from torch import nn
from torch.nn import functional

import thalweg
from benchmarks.planted_faults import FAULTS
from benchmarks.sound_models import SOUND, transformer
from thalweg.diagnosis.observe import observe

QUICK = {"curvature_steps": 0, "noise_batches": 0, "range_steps": 0}
SPECIMENS = [(kind, name) for kind, specimens in FAULTS.items() for name in specimens]
CODE = {  # what only other code in the model's forward corrects: nothing is printed that would not
    ("softmax over the batch", "inner"),
    ("softmax over the batch", "centred"),
    ("a view that mixes examples", "images"),
    ("a view that mixes examples", "vectors"),
    ("a view that mixes examples", "sequence"),
    ("detached", "mlp"),
    ("normalized alone", "function"),
    ("all dropped", "function"),
    ("a cut gradient", "no_grad"),
    ("a cut gradient", "round"),
    ("a cut gradient", "comparison"),
    ("inputs that are not read", "crop"),
    ("inputs that are not read", "feature"),
    ("inputs that are not read", "argument"),
}


def look(case):
    return thalweg.diagnose(case.model, (case.inputs, case.target), case.loss, **QUICK)


def graver(diagnosis):
    return [f for f in diagnosis if f.severity != "note"]


@pytest.mark.filterwarnings("ignore:Using a target size")
@pytest.mark.parametrize(("kind", "name"), SPECIMENS)
def test_a_planted_fault_is_found_at_its_place_and_its_line_fixes_it(kind, name):
    torch.manual_seed(0)
    fault = FAULTS[kind][name]
    case = fault.build()
    found = graver(look(case))
    hit = next((f for f in found if f.kind in fault.findings and f.layer in fault.layers), None)
    assert hit is not None, [(f.kind, f.layer) for f in found]
    assert hit.threshold is not None or hit.kind == "not finite"
    assert bool(hit.fix_code) == ((kind, name) not in CODE)
    assert hit.fix_code or hit.kind != "mixed examples" or "; let " in hit.meaning or "; move " in hit.meaning
    if hit.fix_code:
        names = {**case._asdict(), "torch": torch, "thalweg": thalweg}
        exec(hit.fix_code, names)
        left = look(case._replace(**{key: names[key] for key in case._asdict()}))
        assert (hit.kind, hit.layer) not in [(f.kind, f.layer) for f in graver(left)], hit.fix_code


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_model_is_not_warned_of(name):
    torch.manual_seed(4)
    assert not graver(look(SOUND[name]()))


def test_every_line_of_a_note_runs_too():
    torch.manual_seed(0)
    case = SOUND["regression"]()
    batches = [(torch.randn(64, 20), torch.randn(64, 1)) for _ in range(16)]
    found = thalweg.diagnose(case.model, (case.inputs, case.inputs[:, :1]), case.loss, more=batches, curvature_steps=2)
    names = {**case._asdict(), "torch": torch, "thalweg": thalweg}
    lines = {f.kind: f.fix_code for f in found if f.fix_code}
    for line in lines.values():
        exec(line, names)
    assert "learning rate" in lines
    assert names["optimizer"].param_groups[0]["lr"] > 0


def test_a_large_model_is_given_fewer_steps_unless_they_are_asked_for(monkeypatch):
    asked, home = {}, import_module("thalweg.diagnosis.diagnose")
    monkeypatch.setattr(home, "curvature", lambda seen, loss, steps, *more: asked.update(c=steps) or "")
    monkeypatch.setattr(home, "gradient_noise", lambda *given: asked.update(n=given[-1]) or "")
    monkeypatch.setattr(home, "learning_rate", lambda *given: asked.update(r=given[-1]) or ([], None))
    x, y = torch.randint(50, (8, 4)), torch.arange(8)
    for layers, options, steps in (
        (2, {}, (20, 16, 100)),
        (24, {}, (8, 8, 48)),
        (24, {"curvature_steps": 20, "noise_batches": 16, "range_steps": 100}, (20, 16, 100)),
    ):
        thalweg.diagnose(transformer(layers), (x, y), functional.cross_entropy, **options)
        assert (asked["c"], asked["n"], asked["r"]) == steps


def test_dropout_within_attention_and_recurrence_is_off_while_a_model_is_watched():
    torch.manual_seed(0)
    net, x, y = transformer(1), torch.randint(50, (8, 4)), torch.arange(8)
    net.encoder.layers[0].self_attn.dropout = 0.9
    with_it = observe(net, (x, y), functional.cross_entropy).loss
    net.encoder.layers[0].self_attn.dropout = 0.0
    assert with_it == observe(net, (x, y), functional.cross_entropy).loss


def test_inputs_too_small_are_named():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 4))
    names = {"model": model, "inputs": 1e-6 * torch.randn(64, 16), "target": torch.randint(4, (64,)), "torch": torch}
    (hit,) = (f for f in looked(names) if f.kind == "input scale")
    assert hit.figure == pytest.approx(1e-6, rel=0.2)
    exec(hit.fix_code, names)
    assert not graver(looked(names))


def looked(names):
    batch = names["inputs"], names["target"]
    return thalweg.diagnose(names["model"], batch, functional.cross_entropy, **QUICK)
