"""What a Trainer of transformers is given: model_init, data sets, a collator, compute_metrics and TrainingArguments.

The command is ``thalweg compare transformers_trainer.py:task --strategies adamw@linear,sgd``.
"""

import torch
from transformers import BertConfig, BertForSequenceClassification, TrainingArguments

import thalweg


def examples(count, seed):
    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(count):
        ids = torch.randint(1, 50, (int(torch.randint(4, 12, (), generator=generator)),), generator=generator)
        found.append({"input_ids": ids, "labels": int(ids[0] > 25), "text": f"{len(ids)} tokens"})
    return found


def padded(examples):
    ids = torch.nn.utils.rnn.pad_sequence([example["input_ids"] for example in examples], batch_first=True)
    labels = torch.tensor([example["labels"] for example in examples])
    return {"input_ids": ids, "attention_mask": (ids > 0).long(), "labels": labels}


def compute_metrics(prediction):
    return {"accuracy": (prediction.predictions.argmax(-1) == prediction.label_ids).mean()}


def model_init():
    config = BertConfig(vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
    return BertForSequenceClassification(config)


def task():
    arguments = TrainingArguments("trained", per_device_train_batch_size=16, max_steps=60, use_cpu=True)
    parts = [examples(320, 0), examples(100, 1), examples(100, 2)]
    return thalweg.adapters.transformers(
        model_init, *parts, data_collator=padded, compute_metrics=compute_metrics, args=arguments
    )
