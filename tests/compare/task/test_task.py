"""Bad input: one line that names the cause and the remedy, before anything is trained."""

import re

import pytest
import torch
from torch import nn
from torch.utils.data import Dataset, TensorDataset

from tests.compare.small import parts, small_task
from thalweg import Task
from thalweg.compare.strategy import Strategy
from thalweg.compare.task import materialize
from thalweg.compare.task.builtin import DESCRIPTIONS, TASKS
from thalweg.compare.task.judging import accuracy, r2
from thalweg.compare.task.loading import LoadError, load_object, load_task
from thalweg.compare.user_errors import TaskError


def broken(part=None, loss=nn.functional.cross_entropy, model=lambda: nn.Linear(6, 3), **options):
    data = parts()
    if part:
        data[("train", "valid", "test").index(part[0])] = part[1]
    return Task(model, *data, loss, **{"batch_size": 20, **options})


class Ragged(Dataset):
    def __len__(self):
        return 3

    def __getitem__(self, i):
        return torch.zeros(6 + i), 0


def frozen():
    return nn.Linear(6, 3).requires_grad_(False)


def raising():
    raise RuntimeError("no weights\nhere")


X, Y = torch.zeros(40, 6), torch.arange(40) % 3
NAN = X.clone()
NAN[7, 2] = float("nan")
CASES = {
    "empty": (broken(("train", TensorDataset(X[:0], Y[:0]))), "the train data is empty.*at least one"),
    "ragged": (broken(("valid", Ragged())), "of one shape .*: give collate_fn, or convert and pad"),
    "NaN": (broken(("train", TensorDataset(NAN, Y))), r"NaN or infinity in 1 examples \(first: 7\): clean"),
    "infinite": (broken(("test", TensorDataset(X + float("inf"), Y))), "test inputs contain NaN or infinity in 40"),
    "single class": (broken(("train", TensorDataset(X, 0 * Y))), "single class .0.: nothing can be learned"),
    "label too large": (broken(("valid", TensorDataset(X, Y + 1))), "labels range from 1 to 3, .* 3 outputs.*0 … 2"),
    "label negative": (broken(("train", TensorDataset(X, Y - 1))), "labels range from -1"),
    "loss a vector": (
        broken(loss=lambda o, t: (o - t[:, None]).square()),
        "not a scalar tensor.*return the mean",
    ),
    "loss a number": (broken(loss=lambda o, t: 1.0), "not a scalar tensor"),
    "loss detached": (broken(loss=lambda o, t: o.detach().mean()), "does not depend on the parameters"),
    "loss raises": (broken(loss=lambda o, t: o @ o), "loss, on output .20, 3. and target .20,., raises .*test_task.py"),
    "loss infinite": (broken(loss=lambda o, t: o.mean() / 0), "untrained model is .*: check the loss"),
    "metric raises": (broken(metric=lambda o, t: o @ o), "the metric, on a batch, raises RuntimeError"),
    "metric a vector": (broken(metric=lambda o, t: o), "the metric is not a scalar"),
    "no parameter": (broken(model=frozen), "no trainable parameter: set requires_grad"),
    "model raises": (broken(model=raising), "model.. raises RuntimeError: no weights .test_task.py, line.*: correct"),
    "no model": (broken(model=lambda: 3), "gives a int: return a torch.nn.Module"),
    "wrong shape": (broken(model=lambda: nn.Linear(5, 3)), r"the model, on a batch of shape \(20, 6\), raises"),
    "batch too large": (broken(batch_size=101), r"batch \(101\) is larger than the training data \(100\): lower"),
    "batch zero": (broken(batch_size=0), "batch_size must be at least 1, not 0"),
    "steps zero": (broken(steps=0), "steps must be at least 1, not 0"),
}


@pytest.mark.parametrize(("task", "match"), CASES.values(), ids=CASES)
def test_bad_tasks(task, match):
    with pytest.raises(TaskError) as raised:
        materialize(task)
    message = str(raised.value)
    assert re.search(match, message), message
    assert "\n" not in message


def test_unknown_metric():
    with pytest.raises(TaskError, match="use accuracy, r2, loss or a function"):
        small_task(metric="f1")


def test_materialize_keeps_the_global_generator():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    data = materialize(small_task())
    assert torch.equal(torch.get_rng_state(), before)
    assert [len(t) for t in data.tensors()] == [100, 100, 40, 40, 40, 40]


def test_any_map_style_dataset_serves():
    class Pairs(Dataset):
        def __len__(self):
            return 40

        def __getitem__(self, i):
            return X[i].numpy(), int(Y[i])

    data = materialize(Task(lambda: nn.Linear(6, 3), Pairs(), Pairs(), Pairs(), nn.CrossEntropyLoss(), batch_size=8))
    assert data.train.input.shape == (40, 6)
    assert data.train.target.dtype == torch.int64


def test_metrics():
    output, target = torch.tensor([[0.0, 1.0], [2.0, 1.0]]), torch.tensor([1, 1])
    assert accuracy(output, target) == 0.5
    y = torch.tensor([[1.0], [2.0], [3.0]])
    assert r2(y, y) == 1
    assert r2(torch.full((3, 1), 2.0), y) == 0
    assert small_task().direction == "max"
    assert small_task(metric="loss").direction == "min"
    assert small_task(metric=lambda o, t: o.sum(), higher_is_better=False).direction == "min"


@pytest.mark.parametrize("name", [name for name in TASKS if not name.startswith(("mnist", "shakespeare"))])
def test_built_in_tasks_are_sound_and_always_the_same(name):
    one, two = materialize(TASKS[name]()), materialize(TASKS[name]())
    assert all(torch.equal(a, b) for a, b in zip(one.tensors(), two.tensors(), strict=True))
    if name.startswith("digits"):
        assert [len(one.train), len(one.valid), len(one.test)] == [1000, 300, 497]


def test_every_task_is_described():
    assert list(DESCRIPTIONS) == list(TASKS)
    assert all(DESCRIPTIONS.values())


@pytest.mark.data
@pytest.mark.parametrize("name", ["mnist", "mnist-conv", "shakespeare"])
def test_tasks_from_files(name):
    import os

    if not os.environ.get("THALWEG_DATA"):
        pytest.skip("needs the folder named in THALWEG_DATA")
    assert len(materialize(TASKS[name]()).train) > 50_000


def test_files_that_are_missing_or_damaged_say_so(monkeypatch, tmp_path):
    from thalweg.compare.task.builtin.mnist import read_idx

    monkeypatch.setenv("THALWEG_DATA", str(tmp_path))
    with pytest.raises(TaskError, match="train-images.* does not exist: put it there, or unset THALWEG_DATA"):
        TASKS["mnist"]()
    (tmp_path / "mnist").mkdir()
    (tmp_path / "mnist" / "t10k-labels-idx1-ubyte.gz").write_bytes(b"not gzip")
    with pytest.raises(TaskError, match="is damaged .*: download it again"):
        read_idx("t10k-labels-idx1-ubyte.gz")


def test_idx_files_are_read(monkeypatch, tmp_path):
    import gzip

    from thalweg.compare.task.builtin.mnist import read_idx

    (tmp_path / "mnist").mkdir()
    body = bytes([0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3]) + bytes(range(6))
    (tmp_path / "mnist" / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(body))
    monkeypatch.setenv("THALWEG_DATA", str(tmp_path))
    assert read_idx("t10k-labels-idx1-ubyte.gz").tolist() == [[0, 1, 2], [3, 4, 5]]


def test_names_that_lead_nowhere(tmp_path):
    with pytest.raises(LoadError, match="unknown task 'digts': did you mean 'digits'"):
        load_task("digts")
    with pytest.raises(LoadError, match="there is no file nowhere.py"):
        load_task("nowhere.py:task")
    with pytest.raises(LoadError, match="my.py does not name a task in the file: write my.py:NAME"):
        load_task("my.py")
    bad = tmp_path / "bad.py"
    bad.write_text("import torch\n\ndef task():\n    raise OSError('no such disk')\n\nboom = 1\n")
    with pytest.raises(TaskError, match=r"raises OSError: no such disk \(bad.py, line 4\)"):
        load_task(f"{bad}:task")
    with pytest.raises(LoadError, match="has no 'tas': did you mean 'task'"):
        load_task(f"{bad}:tas")
    with pytest.raises(TaskError, match="gives a int: return a thalweg.Task"):
        load_task(f"{bad}:boom")
    bad.write_text("1 / 0\n")
    with pytest.raises(LoadError, match=r"raises ZeroDivisionError: division by zero \(bad.py, line 1\)"):
        load_task(f"{bad}:task")
    bad.write_text("def task(:\n")
    with pytest.raises(LoadError, match="raises SyntaxError"):
        load_task(f"{bad}:task")
    with pytest.raises(LoadError, match="cannot import nowhere_at_all"):
        load_object("nowhere_at_all.Thing")


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("adm", "unknown strategy 'adm': did you mean 'adam'"),
        ("adam@cosin", "unknown schedule 'cosin': did you mean 'cosine'"),
        ("torch.optim.Adamm", "did you mean 'Adamax'|did you mean 'Adam"),
        ("math.pi", "neither a Strategy nor a callable"),
    ],
)
def test_unknown_strategies_name_the_nearest(text, match):
    with pytest.raises(LoadError, match=match):
        Strategy.parse(text)


def test_strategies_parse():
    s = Strategy.parse("adam+he@cosine")
    assert (s.name, s.initialization, s.schedule_name, s.space) == (
        "adam+he@cosine",
        "he",
        "cosine",
        {"lr": (1e-5, 0.1)},
    )
    muon = Strategy.parse("torch.optim.AdamW")
    assert muon.factory is torch.optim.AdamW
    assert muon.defaults == {"lr": 1e-3}
    with pytest.raises(ValueError, match="0 < low < high"):
        Strategy("x", factory=torch.optim.SGD, space={"lr": (1.0, 0.1)})
    with pytest.raises(ValueError, match="either a rule or a factory"):
        Strategy("x")


def test_a_part_is_evaluated_in_chunks_as_in_one_piece():
    split = materialize(small_task()).train
    model, calls = nn.Linear(6, 3), []

    def counted(x):
        calls.append(len(x))
        return model(x)

    found = split.evaluate(counted, nn.functional.cross_entropy, chunk=30)
    assert calls == [30, 30, 30, 10]
    assert not found.requires_grad
    torch.testing.assert_close(found, nn.functional.cross_entropy(model(split.input), split.target).detach())
