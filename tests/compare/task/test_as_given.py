"""Models and examples as their user gives them: nothing is redrawn, frozen, shared or left out without a word."""

import copy

import pytest
import torch
from torch import nn
from torch.utils.data import Dataset, TensorDataset

import thalweg
from thalweg.compare.execution.context import TaskContext
from thalweg.compare.strategy import Strategy
from thalweg.compare.study.reporter import Reporter
from thalweg.compare.task import Task, build_model, materialize, unshared
from thalweg.compare.user_errors import LoadError, TaskError

GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(120, 4, generator=GENERATOR)
Y = (X[:, 0] > 0).long()


def network():
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))


def parts(*tensors):
    return [TensorDataset(*(t[a:b] for t in tensors)) for a, b in ((0, 80), (80, 100), (100, 120))]


def task_of(model, data=None, loss=nn.functional.cross_entropy, **options):
    return Task(model, *(data or parts(X, Y)), loss, batch_size=20, steps=6, **options)


def starts(task):
    context = TaskContext(task, materialize(task), torch.device("cpu"))
    return [context.start("default", seed) for seed in (0, 1)]


def test_a_module_keeps_its_weights_and_a_seed_draws_them_where_that_is_asked_for():
    net = network()
    weights = torch.cat([p.detach().reshape(-1) for p in net.parameters()])
    one, two = starts(task_of(net))
    assert torch.equal(one, two)
    assert torch.equal(one.sort().values, weights.sort().values)
    one, two = starts(task_of(net, start="anew"))
    assert not torch.equal(one, two)
    assert not torch.equal(one.sort().values, weights.sort().values)
    with pytest.raises(TaskError, match="start is 'fresh': use 'as given' or 'anew'"):
        task_of(net, start="fresh")


def test_a_study_of_a_trained_model_says_how_its_runs_start_and_none_of_them_failed(tmp_path):
    net = network()
    optimizer = torch.optim.Adam(net.parameters(), 0.05)
    for _ in range(200):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(X), Y).backward()
        optimizer.step()
    before, said = copy.deepcopy(net.state_dict()), []

    class Listening(Reporter):
        def say(self, line):
            said.append(line)

    done = thalweg.compare(task_of(net), "sgd,adam", trials=1, seeds=2, out=tmp_path / "s", reporter=Listening())
    assert any("start from the weights that the model has" in line for line in said)
    assert [s["failed"]["count"] for s in done.results["strategies"]] == [0, 0]
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())


@pytest.mark.parametrize("same", ["module", "parameters"])
def test_a_function_that_gives_the_same_parameters_twice_does_not_let_trials_train_each_other(same):
    net = network()
    task = unshared(task_of(lambda: net if same == "module" else nn.Sequential(*net)))
    one, two = build_model(task), build_model(task)
    assert not {*map(id, one.parameters())} & {*map(id, two.parameters())}
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), net.parameters(), strict=True))
    own = task_of(network)
    assert unshared(own).model is own.model


class Noisy(Dataset):
    def __len__(self):
        return 80

    def __getitem__(self, i):
        return X[i] + torch.randn(4), Y[i]


def test_augmentation_is_not_frozen_without_a_word():
    whole = parts(X, Y)
    train = materialize(task_of(network, [Noisy(), *whole[1:]])).train
    assert train.draws
    assert train.how == "read anew for each batch, since examples differ each time that they are read"
    assert not torch.equal(*[train.batch(row)[0].sort(dim=0).values for row in train.rows(0, 0, 5, 20)[[0, 4]]])
    assert len(materialize(task_of(network, [Noisy(), *whole[1:]], resident=True)).train) == 80


@pytest.mark.parametrize("kind", ["tensors", "items"])
def test_a_third_part_of_an_example_is_not_left_out_without_a_word(kind):
    data = parts(X, Y, torch.rand(120))
    if kind == "items":
        data = [[part[i] for i in range(len(part))] for part in data]
    with pytest.raises(TaskError, match=r"the train data has 3 parts: give pairs \(input, target\)"):
        materialize(task_of(network, data))


def test_a_target_that_would_be_broadcast_is_refused():
    with pytest.raises(TaskError, match=r"output \(20, 1\) and target \(20,\): give the target the shape of the"):
        materialize(task_of(lambda: nn.Linear(4, 1), parts(X, X[:, 0]), nn.functional.mse_loss))


def test_weights_that_are_given_are_not_drawn_anew_without_a_confirmation(tmp_path):
    with pytest.raises(TaskError, match=r"'adam\+he' draws the weights anew, .*: confirm it with Task\(start='anew'\)"):
        thalweg.compare(task_of(network()), "sgd, adam+he", out=tmp_path / "study")
    assert not (tmp_path / "study").exists()


MINE = """
import torch
import thalweg
strategy = thalweg.Strategy("mine", factory=torch.optim.SGD, defaults={"lr": 0.1})
averaged = thalweg.Strategy("averaged", factory=torch.optim.SGD, averaging="ema")
"""


def test_words_behind_the_name_of_a_strategy_object_are_heeded(tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    found = Strategy.parse("mine.py:strategy+ema+he@cosine", tmp_path)
    assert (found.name, found.averaging, found.initialization) == ("mine+ema+he@cosine", "ema", "he")
    assert (found.schedule_name, found.defaults["lr"]) == ("cosine", 0.1)
    assert Strategy.parse("mine.py:strategy", tmp_path).name == "mine"
    with pytest.raises(LoadError, match="names two of averaging: ema and polyak; omit one"):
        Strategy.parse("mine.py:averaged+polyak", tmp_path)
