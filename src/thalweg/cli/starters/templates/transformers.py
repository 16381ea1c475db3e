"""A model of transformers, and what its Trainer would be given: which strategy trains it best?

    thalweg compare my.py:task --strategies adamw@linear,adam,sgd

The data are made up and the model is new and small, so that the file runs as it is and downloads nothing: put your own
into ``parts`` and ``model``.
"""

from typing import Any

import thalweg
import torch
from transformers import BertConfig, BertForSequenceClassification, TrainingArguments

VOCABULARY = 50
LENGTH = 8  # tokens of an example
CLASSES = 2


def model() -> Any:
    """Returns a new model: a Trainer's ``model_init``."""
    # Your own: AutoModelForSequenceClassification.from_pretrained("...", num_labels=CLASSES)
    sizes: Any = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    return BertForSequenceClassification(BertConfig(vocab_size=VOCABULARY, num_labels=CLASSES, **sizes))


def made_up(count: int, seed: int) -> list[dict[str, Any]]:
    """Returns examples as a tokenizer gives them; a data set of the package datasets fits as well."""
    tokens = torch.randint(VOCABULARY, (count, LENGTH), generator=torch.Generator().manual_seed(seed))
    return [{"input_ids": row, "labels": int(row[0] * CLASSES) // VOCABULARY} for row in tokens]


def parts() -> tuple[Any, Any, Any]:
    """Returns the examples to learn from, those that tuning looks at, and those that judge once, at the end."""
    return made_up(400, seed=1), made_up(100, seed=2), made_up(100, seed=3)


def compute_metrics(prediction: Any) -> dict[str, float]:
    return {"accuracy": float((prediction.predictions.argmax(-1) == prediction.label_ids).mean())}


def task() -> thalweg.Task:
    # Learning rate and schedule are a strategy's; the rest of the arguments holds.
    arguments = TrainingArguments("trained", per_device_train_batch_size=16, max_steps=60, use_cpu=True)
    return thalweg.adapters.transformers(model, *parts(), compute_metrics=compute_metrics, args=arguments)
