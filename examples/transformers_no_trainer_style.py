"""A script in the style of transformers' run_*_no_trainer.py as a loop of one's own, with Accelerate.

Lines that end with ``# thalweg`` are those that were changed or added; ``get_scheduler`` of the script is left out,
since a strategy has its own schedule (``adamw@linear``).

The command is ``thalweg compare transformers_no_trainer_style.py:main --strategies adamw@linear,sgd --steps 60``.
"""

import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader
from transformers import BertConfig, BertForSequenceClassification, default_data_collator

num_train_epochs, per_device_batch_size, gradient_accumulation_steps, weight_decay = 3, 8, 2, 0.01


def make_dataset(count, seed):
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(1, 40, (count, 10), generator=generator)
    return [{"input_ids": row, "labels": int(row[0] > 20)} for row in tokens]


def evaluate(model, dataloader, device):
    model.eval()
    hits = []
    for batch in dataloader:
        batch = {key: value.to(device) for key, value in batch.items()}
        with torch.no_grad():
            outputs = model(**batch)
        hits.append(outputs.logits.argmax(dim=-1) == batch["labels"])
    model.train()
    return {"accuracy": torch.cat(hits).double().mean().item()}


def main(run):  # thalweg
    accelerator = Accelerator(cpu=run.device.type == "cpu", gradient_accumulation_steps=gradient_accumulation_steps)
    config = BertConfig(vocab_size=40, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
    model = BertForSequenceClassification(config)
    train_dataloader = DataLoader(
        make_dataset(400, 0), shuffle=True, collate_fn=default_data_collator, batch_size=per_device_batch_size
    )
    eval_dataloader = DataLoader(make_dataset(100, 1), collate_fn=default_data_collator, batch_size=20)
    test_dataloader = DataLoader(make_dataset(100, 2), collate_fn=default_data_collator, batch_size=20)

    no_decay = ["bias", "LayerNorm.weight"]
    named = list(model.named_parameters())
    optimizer_grouped_parameters = [
        {"params": [p for n, p in named if not any(nd in n for nd in no_decay)], "weight_decay": weight_decay},
        {"params": [p for n, p in named if any(nd in n for nd in no_decay)], "weight_decay": 0.0},
    ]
    optimizer = run.optimizer(optimizer_grouped_parameters)  # thalweg
    run.track(model=model)  # thalweg
    model, optimizer = accelerator.prepare(model, optimizer)

    for _ in range(num_train_epochs):
        for batch in run.batches(train_dataloader):  # thalweg
            with accelerator.accumulate(model):
                loss = model(**batch).loss
                accelerator.backward(loss)
                optimizer.step()
                optimizer.zero_grad()
            run.loss(loss)  # thalweg
            if run.due:  # thalweg
                run.report(valid=evaluate(model, eval_dataloader, run.device))  # thalweg
    run.report(test=evaluate(model, test_dataloader, run.device))  # thalweg
