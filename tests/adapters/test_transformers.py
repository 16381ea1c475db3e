"""What a Trainer of transformers is given, as a task: measured as the Trainer measures, with what its arguments say."""

import os

import pytest
import torch

import thalweg
from thalweg.compare.execution.context import TaskContext
from thalweg.compare.task import materialize, with_metric
from thalweg.compare.user_errors import TaskError

os.environ["HF_HUB_OFFLINE"] = "1"  # before transformers is loaded: nothing is to be fetched
transformers = pytest.importorskip("transformers", reason="transformers is not installed")
pytest.importorskip("accelerate", reason="accelerate is not installed")

pytestmark = pytest.mark.slow
CONFIG = {"vocab_size": 30, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}


def examples(count, seed=0):
    """Returns examples of lengths 3 to 8, with a label for each token and what the model does not take."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(3, 9, (count,), generator=generator).tolist()
    tokens = [torch.randint(1, 30, (length,), generator=generator) for length in lengths]
    return [{"input_ids": row, "labels": (row > 15).long(), "text": "not a tensor"} for row in tokens]


def padded(rows):
    def pad(name, value):
        return torch.nn.utils.rnn.pad_sequence([row[name] for row in rows], batch_first=True, padding_value=value)

    ids = pad("input_ids", 0)
    assert "text" not in rows[0]
    return {"input_ids": ids, "attention_mask": (ids > 0).long(), "labels": pad("labels", -100)}


def tagger():
    return transformers.BertForTokenClassification(transformers.BertConfig(**CONFIG, num_labels=2))


def hits(prediction):
    known = prediction.label_ids != -100
    right = (prediction.predictions.argmax(-1) == prediction.label_ids)[known]
    return {"accuracy": right.mean(), "count": float(known.sum())}


def arguments(folder, **options):
    quiet = {"use_cpu": True, "report_to": "none", "disable_tqdm": True, "max_grad_norm": 0.5}
    sizes = {"per_device_train_batch_size": 6, "per_device_eval_batch_size": 5}
    return transformers.TrainingArguments(str(folder), **{**quiet, **sizes, **options})


def task(model=tagger, args=None, **options):
    parts = examples(40), examples(17, 1), examples(9, 2)
    return thalweg.adapters.transformers(model, *parts, padded, hits, args, **options)


def context_of(given):
    data = materialize(given)
    return TaskContext(with_metric(given, data), data, torch.device("cpu"))


def test_what_is_measured_is_what_the_trainer_measures(tmp_path):
    args = arguments(tmp_path)
    context = context_of(task(args=args))
    model = context.fresh_model("default", 0).eval()
    ours = context.task.evaluate(model, context.data.valid.chunks())
    trainer = transformers.Trainer(model, args, data_collator=padded, compute_metrics=hits)
    theirs = trainer.evaluate(examples(17, 1))
    assert {f"eval_{name}": pytest.approx(value, rel=1e-6) for name, value in ours.items()}.items() <= theirs.items()
    assert context.evaluate(model, context.data.test)[1] == pytest.approx(
        trainer.evaluate(examples(9, 2))["eval_accuracy"]
    )


def test_what_compute_metrics_gets_besides_is_what_the_trainer_gives(tmp_path):
    seen = []

    def kept(prediction):
        seen.append(prediction)
        return hits(prediction)

    args = arguments(tmp_path, include_for_metrics=["inputs", "loss"])
    parts = examples(40), examples(17, 1), examples(9, 2)
    before = {"preprocess_logits_for_metrics": lambda logits, labels: logits.softmax(-1)}
    given = thalweg.adapters.transformers(tagger, *parts, padded, kept, args, **before)
    model = tagger().eval()
    given.evaluate(model, given.split("valid").chunks())
    transformers.Trainer(model, args, data_collator=padded, compute_metrics=kept, **before).evaluate(parts[1])
    for name in ("predictions", "label_ids", "inputs", "losses"):
        one, two = (torch.as_tensor(getattr(prediction, name)) for prediction in seen[-2:])
        known = two != -100 if name != "inputs" else two > 0  # the Trainer pads inputs by another number
        torch.testing.assert_close(one[known], two[known])


def test_the_arguments_say_how_a_step_is_made_and_how_many_there_are(tmp_path):
    args = arguments(tmp_path, gradient_accumulation_steps=3, max_steps=7, bf16=True)
    given = task(args=args)
    assert (given.batch_size, given.accumulate, given.clip_norm, given.precision, given.steps) == (6, 3, 0.5, "bf16", 7)
    epochs = task(args=arguments(tmp_path, num_train_epochs=2, max_grad_norm=0))
    assert (epochs.steps, epochs.clip_norm, epochs.accumulate) == (12, None, 1)  # 6 whole batches of 40 examples
    assert task(args=args, steps=5, precision="fp32").steps == 5
    best = task(args=arguments(tmp_path, metric_for_best_model="eval_count", greater_is_better=False))
    assert (best.metric, best.direction) == ("count", "min")
    assert context_of(task(batch_size=8)).task.direction == "max"


def test_without_compute_metrics_the_loss_is_measured_and_without_test_data_half_of_the_others_tests(tmp_path):
    rows = [{"input_ids": row["input_ids"][:3], "label": int(row["labels"][0])} for row in examples(50)]
    config = transformers.BertConfig(**CONFIG)

    def build(trial):
        return transformers.BertForSequenceClassification(config)

    with pytest.warns(UserWarning, match="there is no test_dataset: every second example of eval_dataset tests"):
        given = thalweg.adapters.transformers(build, rows[:40], rows[40:], args=arguments(tmp_path))
    context = context_of(given)
    assert (context.data.valid.count, context.data.test.count) == (5, 5)
    model = context.fresh_model("default", 0)
    trainer = transformers.Trainer(model, arguments(tmp_path))
    theirs = trainer.evaluate(rows[40::2])["eval_loss"]
    assert context.evaluate(model, context.data.valid)[1] == pytest.approx(theirs, rel=1e-6)


def test_a_study_of_a_trainers_task(tmp_path):
    args = arguments(tmp_path, gradient_accumulation_steps=2, max_steps=8)
    found = thalweg.compare(task(args=args), "adamw,sgd", trials=1, seeds=2, out=tmp_path / "study")
    assert found.results["task"]["metric"] == "accuracy"


def test_what_is_not_carried_over_is_told(tmp_path):
    with pytest.warns(UserWarning, match="not carried over from TrainingArguments: weight_decay=0.1; give it to a str"):
        task(args=arguments(tmp_path, weight_decay=0.1))


@pytest.mark.parametrize(
    ("settings", "options", "match"),
    [
        ({"label_smoothing_factor": 0.1}, {}, "label_smoothing_factor=0.1 changes the loss"),
        ({"batch_eval_metrics": True}, {}, "batch_eval_metrics=True changes the loss or how it is evaluated"),
        ({}, {"metric": "zeal"}, "gives accuracy, count, loss, and no 'zeal'"),
    ],
)
def test_what_is_no_task_is_one_line(tmp_path, settings, options, match):
    with pytest.raises(TaskError, match=match) as raised:
        context_of(task(args=arguments(tmp_path, **settings), **options))
    assert len(str(raised.value).splitlines()) == 1


def test_data_that_give_no_loss_or_cannot_be_divided_are_refused():
    unlabelled = [{"input_ids": row["input_ids"][:3]} for row in examples(20)]
    with pytest.raises(TaskError, match="the model returns logits, and no loss: give examples with labels"):
        context_of(thalweg.adapters.transformers(tagger, *[unlabelled] * 3, batch_size=8))
    with pytest.raises(TaskError, match="cannot be divided into validation and test data: give test_dataset"):
        thalweg.adapters.transformers(tagger, examples(20), examples(1), data_collator=padded)
