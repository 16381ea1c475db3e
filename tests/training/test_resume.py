"""A run that is cut off at any moment and resumed ends as one that never was, bit for bit."""

import os
import pickle
import random
import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, RandomSampler, Sampler, TensorDataset

from tests.command import script
from tests.training.small import LOSS, Cut, CutAfter, copy, data, equal, net, stage
from thalweg import optim
from thalweg.averaging import EMA, Average
from thalweg.rules import Schedule
from thalweg.stages import Batches, EarlyStopping, Measures
from thalweg.training import CheckpointError, Diverged, train

pytestmark = pytest.mark.slow


class Noisy(Dataset):
    """Augments with NumPy's and Python's global draws as well as torch's."""

    def __len__(self):
        return 50

    def __getitem__(self, i):
        x, y = data()
        noise = np.random.normal() + random.random() + torch.rand(()).item()  # noqa: NPY002
        return x[i] * (1 + 0.1 * noise), y[i]


class Drawn(Sampler):
    """A sampler that keeps its own place, and changes with the step that it is told."""

    def __init__(self):
        self.place, self.step, self.steps_seen = 0, 0, []

    def __len__(self):
        return 50

    def __iter__(self):
        while self.place < 50:
            self.place += 1
            yield (self.place * (1 + self.step)) % 50
        self.place = 0

    def advance(self, step):
        self.step = step
        self.steps_seen.append(step)

    def state_dict(self):
        return {"place": self.place, "step": self.step}

    def load_state_dict(self, state):
        self.place, self.step = state["place"], state["step"]


class StepSampler(Drawn):
    """One that cannot say where it stands."""

    state_dict = load_state_dict = None


def generator():
    return torch.Generator().manual_seed(7)


LOADERS = {
    "batches": lambda: Batches(*data(), batch_size=16),
    "shuffled": lambda: DataLoader(TensorDataset(*data()), batch_size=16, shuffle=True),
    "own generator": lambda: DataLoader(TensorDataset(*data()), batch_size=16, shuffle=True, generator=generator()),
    "sampler's generator": lambda: DataLoader(
        TensorDataset(*data()), batch_size=16, sampler=RandomSampler(range(50), generator=generator())
    ),
    "augmented": lambda: DataLoader(Noisy(), batch_size=16, shuffle=True),
    "stateful sampler": lambda: DataLoader(TensorDataset(*data()), batch_size=16, sampler=Drawn()),
    "stateful sampler, own generator": lambda: DataLoader(
        TensorDataset(*data()), batch_size=16, sampler=Drawn(), generator=generator()
    ),
    "told sampler": lambda: DataLoader(TensorDataset(*data()), batch_size=16, sampler=StepSampler()),
}


def resumed(make_model, make_stages, path, cuts, every=1):
    """Cuts a run off after each of the numbers of steps and goes on; returns the last sitting's model and history."""
    for steps in [*cuts, 10**9]:
        model = make_model()
        try:
            history = train(
                model, make_stages(), checkpoint=path, checkpoint_every=every, resume=True, callback=CutAfter(steps)
            )
        except Cut:
            continue
        return model, history
    raise AssertionError


def without_time(history):
    return [{name: value for name, value in row.items() if name != "seconds"} for row in history]


@pytest.mark.parametrize("name", LOADERS)
@pytest.mark.parametrize("accumulate", [1, 3])
def test_every_kind_of_loader_goes_on_in_the_middle_of_an_epoch(name, accumulate, tmp_path):
    def stages():
        return [stage(data=LOADERS[name](), accumulate=accumulate, steps=11, evaluate_every=4)]

    whole = net()
    history = train(whole, stages())
    model, again = resumed(net, stages, tmp_path / "run.pt", [1, 2, 4, 1, 0, 2])
    assert equal(copy(model), copy(whole))
    assert without_time(again) == without_time(history)


def test_workers_go_on_too(tmp_path):
    def stages():
        loader = DataLoader(Noisy(), batch_size=16, shuffle=True, num_workers=2)
        return [stage(data=loader, steps=7)]

    whole = net()
    train(whole, stages())
    model, _ = resumed(net, stages, tmp_path / "run.pt", [2, 4])
    assert equal(copy(model), copy(whole))


def everything():
    """Stages with all that a stage can have."""
    judge = Measures([data()], loss=LOSS)
    return [
        stage(name="first", trainable=["0", "6"], steps=5, schedule=Schedule("cosine")),
        stage(name="goes on", optimizer=None, trainable=["0", "6"], steps=4, accumulate=2),
        stage(
            name="average",
            optimizer=partial(optim.RMSProp, lr=0.01),
            rates={"0": 0.1},
            average=lambda m: Average(m, EMA(0.7), buffers="average"),
            schedule=Schedule("linear", warmup=0.3),
            steps=9,
            validate=judge,
            evaluate_every=2,
        ),
        stage(
            name="stops",
            optimizer=partial(torch.optim.SGD, lr=0.3, momentum=0.9),
            data=DataLoader(TensorDataset(*data()), batch_size=16, shuffle=True),
            precision=torch.bfloat16,
            steps=30,
            validate=judge,
            evaluate_every=2,
            early_stopping=EarlyStopping(2),
        ),
    ]


@pytest.mark.parametrize("every", [1, 3, None])
def test_a_plan_cut_off_at_random_steps_time_and_again(every, tmp_path):
    whole = net()
    history = train(whole, everything())
    draws = random.Random(0)
    least = 0 if every == 1 else 3
    cuts = [draws.randint(least, 3) for _ in range(50)] if every else [5] * 10
    model, again = resumed(net, everything, tmp_path / "run.pt", cuts, every)
    assert equal(copy(model), copy(whole))
    assert without_time(again) == without_time(history)


def test_an_average_within_the_optimizer_is_kept_and_is_where_the_stage_ends(tmp_path):
    models = []

    def model():
        models.append(net())
        return models[-1]

    def stages():
        average = Average(models[-1], EMA(0.8))
        make = partial(optim.AdamW, lr=0.05, clip_norm=0.5, average=average)
        return [stage(optimizer=make, validate=Measures([data()], loss=LOSS), evaluate_every=5)]

    whole = model()
    history = train(whole, stages())
    end, again = resumed(model, stages, tmp_path / "run.pt", [3, 4])
    assert equal(copy(end), copy(whole))
    assert without_time(again) == without_time(history)
    apart = net()
    kept = Average(apart, EMA(0.8))
    train(apart, [stage(optimizer=partial(optim.AdamW, lr=0.05, clip_norm=0.5), average=lambda _: kept)])
    torch.testing.assert_close(copy(apart), copy(whole))
    with pytest.raises(ValueError, match="averages twice, because its optimizer averages too"):
        train(model(), [stage(average=lambda m: Average(m, EMA(0.8)), optimizer=stages()[0].optimizer)])


def test_a_stateful_objective_is_kept(tmp_path):
    class Smoothed:
        def __init__(self):
            self.generator = torch.Generator().manual_seed(3)

        def __call__(self, model, batch, step):
            return LOSS(model(batch[0] + torch.randn(batch[0].shape, generator=self.generator)), batch[1])

        def state_dict(self):
            return {"generator": self.generator.get_state()}

        def load_state_dict(self, state):
            self.generator.set_state(state["generator"])

    def stages():
        return [stage(objective=Smoothed())]

    whole = net()
    train(whole, stages())
    model, _ = resumed(net, stages, tmp_path / "run.pt", [3, 4])
    assert equal(copy(model), copy(whole))


@pytest.mark.parametrize("make", [torch.optim.LBFGS, optim.LBFGS, partial(torch.optim.Adam, lr=torch.tensor(0.01))])
def test_optimizers_of_every_kind(make, tmp_path):
    def stages():
        return [stage(optimizer=make, data=[data()], steps=6, schedule=Schedule("linear"))]

    whole = net(dropout=0)
    train(whole, stages())
    model, _ = resumed(partial(net, dropout=0), stages, tmp_path / "run.pt", [1, 3])
    assert equal(copy(model), copy(whole))


SCRIPT = '''
import os, random, signal, sys
import torch
from tests.training.small import copy, equal, net
from tests.training.test_resume import everything
from thalweg.training import train
from pathlib import Path

path, torch_threads = Path(sys.argv[1]), torch.set_num_threads(1)
draws, kills, folder = random.Random(0), 0, path.parent

def run(end):
    model = net()
    train(model, everything(), checkpoint=path, checkpoint_every=1, resume=True)
    torch.save(copy(model), end)

def counted(last=None):
    """Counts the calls of functions from here on; ends all at the last of them."""
    calls = 0

    def count(*_):
        nonlocal calls
        calls += 1
        if calls == last:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.setprofile(count)
    return lambda: calls

whole, calls = net(), counted()
train(whole, everything(), checkpoint=folder / "whole.pt", checkpoint_every=1)
sys.setprofile(None)
while kills < 50:
    path.unlink(missing_ok=True)
    ended = False
    while not ended:
        last = draws.randrange(1, calls() // 10) if kills < 50 else None
        child = os.fork()
        if not child:
            counted(last)
            run(folder / "end.pt")
            os._exit(0)
        _, status = os.waitpid(child, 0)
        assert status in (0, signal.SIGKILL)
        kills += status == signal.SIGKILL
        ended = status == 0
    assert equal(torch.load(folder / "end.pt", weights_only=True), copy(whole))
print(kills)
'''


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_fifty_kills_at_random_moments_lose_nothing(tmp_path):
    done = script(SCRIPT, str(tmp_path / "run.pt"), cwd=Path(__file__).parents[2])
    assert done.stdout.strip() == "50", done.stderr


def test_a_run_that_had_ended_is_given_back(tmp_path):
    model, again = net(), net()
    history = train(model, [stage()], checkpoint=tmp_path / "run.pt")

    def objective(m, batch, step):
        raise AssertionError

    back = train(again, [stage(objective=objective)], checkpoint=tmp_path / "run.pt", resume=True)
    assert equal(copy(model), copy(again))
    assert list(back) == list(history)
    assert [p.name for p in tmp_path.iterdir()] == ["run.pt"]


@pytest.mark.parametrize("lost", ["loss", "parameter"])
def test_a_model_that_is_lost_does_not_take_the_place_of_a_good_one(lost, tmp_path):
    def objective(m, batch, step):
        loss = LOSS(m(batch[0]), batch[1])
        if step == 6 and lost == "parameter":
            m[6].bias.register_hook(lambda grad: grad * float("nan"))
        return loss * float("inf") if step == 6 and lost == "loss" else loss

    words = "the training loss is inf in steps 7 to 7" if lost == "loss" else "6.bias is not finite after step 7"
    with pytest.raises(Diverged, match=words):
        train(net(), [stage(objective=objective, evaluate_every=2)], checkpoint=tmp_path / "run.pt", checkpoint_every=1)
    model, whole = net(), net()
    train(model, [stage()], checkpoint=tmp_path / "run.pt", resume=True)
    train(whole, [stage()])
    assert equal(copy(model), copy(whole))


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("it was run",))


def spoilt(kind, path):
    if kind == "code":
        path.write_bytes(pickle.dumps(Bomb(), protocol=2))
    elif kind == "code in torch's format":
        torch.save({"format": Bomb()}, path)
    elif kind == "text":
        path.write_text("hello")
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "weights":
        torch.save(net().state_dict(), path)
    else:
        path.write_bytes(path.read_bytes()[: int(len(path.read_bytes()) * float(kind))])


@pytest.mark.parametrize(
    "kind", ["code", "code in torch's format", "text", "empty", "weights", "0.01", "0.3", "0.7", "0.999"]
)
def test_a_file_that_is_no_whole_checkpoint_is_refused_in_one_line(kind, tmp_path):
    path = tmp_path / "run.pt"
    train(net(), [stage()], checkpoint=path)
    spoilt(kind, path)
    before = path.read_bytes()
    model = net()
    start = copy(model)
    with pytest.raises(CheckpointError, match="cannot resume") as caught:
        train(model, [stage()], checkpoint=path, resume=True)
    assert "\n" not in str(caught.value)
    assert equal(copy(model), start)
    assert path.read_bytes() == before


def other(change):
    torch.manual_seed(1)
    model = net()
    change(model)
    return model


@pytest.mark.parametrize(
    ("model", "options", "words"),
    [
        (lambda: other(lambda m: m.pop(6)), {}, "of another model, with float32 (3, 8) '6.weight', not none"),
        (lambda: net(torch.float64), {}, "of another model, with float32 (8, 6) '0.weight', not float64 (8, 6)"),
        (net, {"seed": 1}, "of another run, its seed 0, not 1: resume with the same"),
        (net, {"stages": [stage(steps=13)]}, "its stages [['training', 12, None, 1]], not [['training', 13, None, 1]]"),
        (
            net,
            {"stages": [stage(optimizer=partial(torch.optim.SGD, lr=0.1))]},
            "cannot resume: the optimizer was Adam(lr=0.01,",
        ),
        (net, {"resume": False}, "run.pt contains a run: resume it, or choose another checkpoint"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused_and_nothing_changes(model, options, words, tmp_path):
    path = tmp_path / "run.pt"
    with pytest.raises(Cut):
        train(net(), [stage()], checkpoint=path, checkpoint_every=2, callback=CutAfter(5))
    before, model = path.read_bytes(), model()
    start = copy(model)
    settings = {"stages": [stage()], "resume": True, **options}
    with pytest.raises(CheckpointError, match=re.escape(words)):
        train(model, **settings, checkpoint=path)
    assert equal(copy(model), start)
    assert path.read_bytes() == before


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match="cannot write .*nowhere/run.pt .No such file or directory.: choose another"):
        train(net(), [stage()], checkpoint=tmp_path / "nowhere" / "run.pt")
