"""Tasks with a step of their own: nested batches in lanes and serially, their evaluation, and what is refused."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, TensorDataset

from tests.compare.task.test_data import Examples, crop
from thalweg.compare.execution.context import TaskContext
from thalweg.compare.execution.job import Job
from thalweg.compare.execution.lanes import Lanes
from thalweg.compare.execution.serial import Serial
from thalweg.compare.execution.stackable import Unstackable
from thalweg.compare.strategy import Strategy
from thalweg.compare.task import Task, materialize, with_metric
from thalweg.compare.user_errors import TaskError

GENERATOR = torch.Generator().manual_seed(0)
IDS = torch.randint(8, (70, 5), generator=GENERATOR)
LABELS = (IDS.float().mean(1) > 3.5).long()


class Dicts(Dataset):
    def __init__(self, start, stop):
        self.start, self.stop = start, stop

    def __len__(self):
        return self.stop - self.start

    def __getitem__(self, index):
        return {"input_ids": IDS[self.start + index], "labels": LABELS[self.start + index]}


class Output:
    def __init__(self, loss, logits):
        self.loss, self.logits = loss, logits


class Classifier(nn.Module):
    """It returns its loss, as those of Hugging Face do."""

    def __init__(self):
        super().__init__()
        self.embedding, self.head = nn.Embedding(8, 6), nn.Linear(6, 2)

    def forward(self, input_ids, labels=None):
        logits = self.head(torch.tanh(self.embedding(input_ids)).mean(1))
        return Output(None if labels is None else F.cross_entropy(logits, labels), logits)


def loss_of(model, batch):
    return model(**batch).loss


def accuracy(model, batches):
    hits = [(model(**batch).logits.argmax(1) == batch["labels"]) for batch in batches]
    return {"accuracy": torch.cat(hits).double().mean(), "count": len(torch.cat(hits))}


def task(**options):
    parts = [Dicts(0, 40), Dicts(40, 57), Dicts(57, 70)]
    names = dict(zip(("train", "valid", "test"), parts, strict=True))
    return Task(**{"model": Classifier, **names, "step": loss_of, "batch_size": 8, "steps": 12, **options})


def context_of(given):
    data = materialize(given)
    return TaskContext(with_metric(given, data), data, torch.device("cpu"))


def jobs(*names, seeds=(0, 1), **options):
    found = []
    for name in names:
        strategy = Strategy.parse(name)
        hyper = strategy.stepping(strategy.default_configuration())
        found += [replace(Job(f"{name}/{s}", strategy, hyper, s, 0, 12, 12, 5, test=True), **options) for s in seeds]
    return found


def ignore(steps):
    return None


@pytest.mark.parametrize("evaluate", [None, accuracy])
def test_nested_batches_train_in_lanes_as_serially(evaluate):
    context = context_of(task(evaluate=evaluate))
    some = jobs("sgd", "adam")
    lanes, serial = Lanes(context, 4, compile_=False).run(some, ignore), Serial(context).run(some, ignore)
    for one, two in zip(lanes, serial, strict=True):
        assert one.status == two.status == "finished"
        torch.testing.assert_close(one.snapshot["params"], two.snapshot["params"], rtol=1e-4, atol=1e-6)
        assert one.test == pytest.approx(two.test, abs=1e-5)
        assert one.curve.valid_loss == pytest.approx(two.curve.valid_loss, rel=1e-4)


def test_a_step_that_is_a_loss_of_outputs_gives_what_the_loss_gives():
    data = [TensorDataset(IDS[a:b].float(), LABELS[a:b]) for a, b in ((0, 40), (40, 57), (57, 70))]

    def model():
        return nn.Linear(5, 2)

    plain = Task(model, *data, F.cross_entropy, metric="loss", batch_size=8, steps=12)
    own = Task(model, *data, step=lambda m, b: F.cross_entropy(m(b[0]), b[1]), batch_size=8, steps=12)
    for one, two in zip(
        Serial(context_of(plain)).run(jobs("momentum", "lbfgs"), ignore),
        Serial(context_of(own)).run(jobs("momentum", "lbfgs"), ignore),
        strict=True,
    ):
        assert one.test == pytest.approx(two.test, rel=1e-6)
        assert one.first_loss == two.first_loss


def test_the_default_evaluation_is_the_mean_over_examples_not_over_batches():
    context = context_of(task(valid=DataLoader(Dicts(40, 57), batch_size=8)))  # batches of 8, 8 and 1
    model = context.fresh_model("default", 0)
    whole = {"input_ids": IDS[40:57], "labels": LABELS[40:57]}
    loss, metric = context.evaluate(model, context.data.valid)
    assert loss == metric == pytest.approx(float(loss_of(model, whole)), rel=1e-6)


def test_an_evaluation_gets_the_batches_of_the_loader_also_of_data_in_memory():
    def sizes(model, batches):
        return {"error": 0.0, **{f"batch {i}": len(b["labels"]) for i, b in enumerate(batches)}}

    given = task(valid=DataLoader(Dicts(40, 57), batch_size=8), evaluate=sizes, metric="error")
    found = given.evaluate(None, given.split("valid").chunks())
    assert found == {"error": 0.0, "batch 0": 8, "batch 1": 8, "batch 2": 1}


@pytest.mark.parametrize("strategy", ["adam@cosine", "nesterov+ema", "torch.optim.AdamW"])
def test_a_trial_that_is_cut_goes_on_bit_for_bit_with_augmentation_and_workers(strategy):
    loader = DataLoader(Examples(crop), batch_size=10, shuffle=True, num_workers=2)
    held = TensorDataset(*torch.utils.data.default_collate([Examples()[i] for i in range(30)]))

    def model():
        return nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.2), nn.Linear(8, 2))

    given = Task(model, loader, held, held, step=lambda m, b: F.cross_entropy(m(b[0] / 240), b[1]), steps=12)
    context = context_of(given)
    (whole,) = jobs(strategy, seeds=(3,), evaluate_every=6)
    (straight,) = Serial(context).run([whole], ignore)
    (first,) = Serial(context).run([replace(whole, stop=6, test=False)], ignore)
    rest = replace(whole, start=6, snapshot=first.snapshot, first_loss=first.first_loss)
    (cut,) = Serial(context_of(given)).run([rest], ignore)
    assert cut.test == straight.test
    for name, tensor in straight.snapshot.items():
        assert torch.equal(tensor, cut.snapshot[name]), name


def test_a_model_that_draws_trains_in_lanes():
    class Noisy(Classifier):
        def forward(self, input_ids, labels=None):
            logits = super().forward(input_ids).logits
            logits = logits + 0.1 * torch.randn_like(logits)
            return Output(F.cross_entropy(logits, labels), logits)

    context = context_of(task(model=Noisy))
    assert context.is_random()
    results = Lanes(context, 4, compile_=False).run(jobs("adam"), ignore)
    assert all(result.status == "finished" for result in results)
    model = context.fresh_model("default", 0)
    assert context.evaluate(model, context.data.valid) == context.evaluate(model, context.data.valid)


def test_batches_that_differ_in_shape_train_serially_with_the_reason():
    def short(examples):
        cut = 3 + int(examples[0]["labels"]) + len(examples) % 2
        return {
            "input_ids": torch.stack([e["input_ids"][:cut] for e in examples]),
            "labels": torch.stack([e["labels"] for e in examples]),
        }

    context = context_of(task(collate_fn=short))
    assert all(r.status == "finished" for r in Serial(context).run(jobs("adam"), ignore))
    with pytest.raises((Unstackable, ValueError), match="the batches differ in shape"):
        Lanes(context, 8, compile_=False).run(jobs("adam", seeds=range(8)), ignore)


def detached(model, batch):
    return loss_of(model, batch).detach()


def in_place(model, batch):
    batch["input_ids"] += 1
    return model.embedding.weight.mean()


def differentiated(model, batch):
    loss = loss_of(model, batch)
    loss.backward()
    return loss


def halving(model, batches):
    with torch.no_grad():
        model.head.weight.mul_(0.5)
    return accuracy(model, batches)


def freezing(model, batches):
    model.requires_grad_(False)
    return accuracy(model, batches)


calls = iter(range(100))
BAD = {
    "differentiated": ({"step": differentiated}, "the gradient of the loss .* raises RuntimeError: Trying to backward"),
    "changes": ({"evaluate": halving}, r"the task's evaluate changes the model \(head.weight\)"),
    "freezes": ({"evaluate": freezing}, "the task's evaluate changes the model"),
    "vector": ({"step": lambda m, b: m(**b).logits}, r"the loss that the task's step returns is not a scalar tensor"),
    "detached": ({"step": detached}, "does not depend on the parameters"),
    "raises": ({"step": lambda m, b: m(b).loss}, "the task's step, on a batch of input_ids .*, raises"),
    "in place": ({"step": in_place}, "the task's step modifies its input in place"),
    "not finite": ({"step": lambda m, b: loss_of(m, b) * torch.inf}, "of the untrained model is inf"),
    "list": ({"evaluate": lambda m, bs: {"accuracy": [1]}}, "gives 'accuracy' as a list: return a number"),
    "none": ({"evaluate": lambda m, bs: None}, "gives 'metric' as a NoneType"),
    "empty": ({"evaluate": lambda m, bs: {}}, "returns nothing"),
    "another": ({"evaluate": lambda m, bs: {"f1": next(calls)}}, "returns something else each time"),
    "unknown": ({"evaluate": lambda m, bs: {"zeal": 1.0}}, "nothing says whether a larger 'zeal' is better"),
    "percent": ({"evaluate": lambda m, bs: {"accuracy": 55.0}}, "accuracy of the untrained model is 55, outside of 0"),
    "other name": ({"evaluate": accuracy, "metric": "f1"}, "gives accuracy, count, and no 'f1'"),
    "both": ({"loss": F.cross_entropy}, "give either loss"),
    "neither": ({"step": None}, "give either loss"),
    "metric": ({"metric": F.cross_entropy}, "metric is a function of outputs, which step does not give"),
}


@pytest.mark.parametrize(("options", "match"), BAD.values(), ids=BAD)
def test_bad_steps(options, match):
    with pytest.raises(TaskError, match=match) as raised:
        context_of(task(**options))
    assert len(str(raised.value).splitlines()) == 1


def settings(strategy="momentum", **options):
    """Returns a trial of 12 steps serially, and the context it ran in."""
    context = context_of(task(**options))
    (result,) = Serial(context).run(jobs(strategy, seeds=(3,)), ignore)
    return result, context


@pytest.mark.parametrize("strategy", ["momentum", "torch.optim.SGD"])
def test_accumulated_minibatches_are_one_large_batch_of_them(strategy):
    result, context = settings(strategy, accumulate=4, batch_size=2)
    rows = context.batches(3, 0, 12)
    assert rows.shape == (12, 4, 2)
    large = context_of(task(batch_size=8))
    large.batches = lambda seed, start, stop: rows[start:stop].flatten(1)  # the same examples
    (whole,) = Serial(large).run(jobs(strategy, seeds=(3,)), ignore)
    assert result.test == pytest.approx(whole.test, rel=1e-5)
    assert result.first_loss == pytest.approx(whole.first_loss, rel=1e-6)


@pytest.mark.parametrize("strategy", ["momentum", "torch.optim.SGD", "adam"])
def test_a_clipped_step_is_what_torch_clips(strategy):
    result, context = settings(strategy, clip_norm=0.05)
    (job,) = jobs(strategy, seeds=(3,))
    model = context.fresh_model("default", 3)
    rates = {"momentum": {"lr": job.hyper["lr"], "momentum": 0.9}}.get(strategy, {"lr": job.hyper["lr"]})
    optimizer = (torch.optim.Adam if strategy == "adam" else torch.optim.SGD)(model.parameters(), **rates)
    for row in context.batches(3, 0, 12):
        optimizer.zero_grad()
        loss_of(model, context.data.train.batch(row)).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.05)
        optimizer.step()
    assert result.test == pytest.approx(context.evaluate(model, context.data.test)[1], rel=1e-5)


@pytest.mark.parametrize("options", [{"accumulate": 3}, {"clip_norm": 0.05}, {"precision": "bf16"}])
def test_what_a_step_does_beside_its_optimizer_is_the_same_in_lanes(options):
    context = context_of(task(**options))
    some = jobs("momentum", "adam")
    lanes, serial = Lanes(context, 4, compile_=False).run(some, ignore), Serial(context).run(some, ignore)
    for one, two in zip(lanes, serial, strict=True):
        tolerance = 2e-2 if "precision" in options else 1e-4
        assert one.test == pytest.approx(two.test, rel=tolerance)


def test_half_precision_is_what_autocast_gives_and_a_loss_in_float16_is_scaled():
    plain, _ = settings()
    half, context = settings(precision="bf16")
    assert half.test != plain.test
    assert half.test == pytest.approx(plain.test, rel=0.05)
    context = context_of(task(precision="fp16"))
    (whole,) = jobs("adam", seeds=(3,), evaluate_every=6)
    (straight,) = Serial(context).run([whole], ignore)
    assert float(straight.snapshot["scale"]) > 1
    (first,) = Serial(context).run([replace(whole, stop=6, test=False)], ignore)
    rest = replace(whole, start=6, snapshot=first.snapshot, first_loss=first.first_loss)
    (cut,) = Serial(context).run([rest], ignore)
    assert all(torch.equal(tensor, cut.snapshot[name]) for name, tensor in straight.snapshot.items())
    with pytest.raises(Unstackable, match="scales its loss"):
        Lanes(context, 2)


def test_torchs_batch_normalization_trains_in_lanes_with_the_same_values():
    data = [TensorDataset(IDS[a:b].double(), LABELS[a:b]) for a, b in ((0, 40), (40, 57), (57, 70))]
    net = Task(
        lambda: nn.Sequential(nn.Linear(5, 6, bias=False), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 2)).double(),
        *data,
        F.cross_entropy,
        metric="loss",
        batch_size=8,
    )
    context = context_of(net)
    some = jobs("momentum", "adam+ema")
    lanes, serial = Lanes(context, 4, compile_=False).run(some, ignore), Serial(context).run(some, ignore)
    for one, two in zip(lanes, serial, strict=True):
        assert one.test == pytest.approx(two.test, rel=1e-4)
        for name, tensor in two.snapshot.items():
            torch.testing.assert_close(one.snapshot[name], tensor, rtol=1e-3, atol=1e-5)


def clearing(model, batch):
    loss = loss_of(model, batch)
    loss.backward()  # as for a worst case of the inputs
    model.zero_grad()
    return loss_of(model, batch)


@pytest.mark.parametrize("strategy", ["momentum", "torch.optim.SGD"])
def test_a_step_that_clears_gradients_is_trained(strategy):
    some = jobs(strategy)
    for one, two in zip(
        Serial(context_of(task(step=clearing))).run(some, ignore),
        Serial(context_of(task())).run(some, ignore),
        strict=True,
    ):
        assert one.test == pytest.approx(two.test, rel=1e-6)
        assert one.curve.train_loss == pytest.approx(two.curve.train_loss, rel=1e-6)


def test_a_step_may_differentiate_by_its_inputs():
    def slope(model, batch):
        x = batch[0].clone().requires_grad_()
        (found,) = torch.autograd.grad(model(x).sum(), x, create_graph=True)
        return (found - 1).square().mean()

    data = TensorDataset(IDS.float(), LABELS)
    context = context_of(Task(lambda: nn.Linear(5, 1), data, data, data, step=slope, batch_size=8, steps=12))
    assert context.usual_loss() > 0
    assert not context.is_random()
    (result,) = Serial(context).run(jobs("adam", seeds=(0,)), ignore)
    assert result.curve.valid_loss[-1] < result.first_loss


class Features(Classifier):
    """Its embedding is drawn, and not trained."""

    def __init__(self):
        super().__init__()
        self.embedding.requires_grad_(False)


class Counting(Classifier):
    """It scales by what it has seen."""

    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, input_ids, labels=None):
        self.seen = self.seen + self.training
        found = super().forward(input_ids, labels)
        return Output(found.loss / (1 + self.seen), found.logits)


@pytest.mark.parametrize(
    ("model", "match"),
    [
        (Features, "embedding.weight is not trained, and each seed draws it anew"),
        (Counting, "keeps seen from batch to"),
    ],
)
def test_models_that_have_not_all_in_common_train_serially(model, match):
    context = context_of(task(model=model))
    with pytest.raises(Unstackable, match=match):
        Lanes(context, 2, compile_=False).probe()


def test_a_model_that_has_learned_its_task_does_not_diverge_where_it_is_less_sure():
    model = Classifier()
    optimizer = torch.optim.Adam(model.parameters(), 0.05)
    whole = {"input_ids": IDS, "labels": LABELS}
    for _ in range(300):
        optimizer.zero_grad()
        loss_of(model, whole).backward()
        optimizer.step()
    context = context_of(task(model=model))
    first = float(loss_of(model, whole).detach())
    assert context.usual_loss() > 100 * first
    results = Serial(context).run(jobs("sgd", "momentum", seeds=range(4)), ignore)
    assert all(result.status == "finished" for result in results)


def test_rules_step_parameters_of_one_type():
    class Mixed(Classifier):
        def __init__(self):
            super().__init__()
            self.head.double()

        def forward(self, input_ids, labels=None):
            logits = self.head(torch.tanh(self.embedding(input_ids)).mean(1).double())
            return Output(F.cross_entropy(logits, labels), logits)

    context = context_of(task(model=Mixed))
    with pytest.raises(TaskError, match="'sgd' steps real parameters of one type, and these are float32, float64"):
        Serial(context).run(jobs("sgd"), ignore)
    assert all(result.status == "finished" for result in Serial(context).run(jobs("torch.optim.SGD"), ignore))
