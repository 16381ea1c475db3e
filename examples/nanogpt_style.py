"""A script in the style of nanoGPT as a loop of one's own: settings at the top, get_batch, estimate_loss.

Lines that end with ``# thalweg`` are those that were changed or added; the learning-rate schedule of the script is left
out, since a strategy has its own (``adamw@warmup-cosine``).

The command is ``thalweg compare nanogpt_style.py:train --strategies adamw@warmup-cosine,sgd --steps 300``.
"""

import torch
from torch import nn
from torch.nn import functional as F

# -----------------------------------------------------------------------------
block_size, batch_size, n_embd, n_head, n_layer, dropout = 16, 16, 32, 2, 1, 0.1
eval_iters, grad_clip, weight_decay = 8, 1.0, 0.1
text = "the quick brown fox jumps over the lazy dog and the dog sleeps on while the fox runs home again " * 40
# -----------------------------------------------------------------------------
letters = sorted(set(text))
data = torch.tensor([letters.index(letter) for letter in text])
parts = {"train": data[:3000], "val": data[3000:3400], "test": data[3400:]}


def get_batch(split, generator=None):
    ix = torch.randint(len(parts[split]) - block_size, (batch_size,), generator=generator)
    x = torch.stack([parts[split][i : i + block_size] for i in ix])
    y = torch.stack([parts[split][i + 1 : i + 1 + block_size] for i in ix])
    return x, y


class GPT(nn.Module):
    def __init__(self):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(len(letters), n_embd), nn.Embedding(block_size, n_embd)
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(n_embd, n_head, 4 * n_embd, dropout, batch_first=True, norm_first=True)
            for _ in range(n_layer)
        )
        self.lm_head = nn.Linear(n_embd, len(letters))

    def forward(self, idx, targets):
        x = self.wte(idx) + self.wpe(torch.arange(idx.shape[1], device=idx.device))
        mask = nn.Transformer.generate_square_subsequent_mask(idx.shape[1], device=idx.device)
        for block in self.blocks:
            x = block(x, mask, is_causal=True)
        return F.cross_entropy(self.lm_head(x).flatten(0, 1), targets.flatten())

    def groups(self):
        decay = [p for p in self.parameters() if p.dim() >= 2]
        rest = [p for p in self.parameters() if p.dim() < 2]
        return [{"params": decay, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]


@torch.no_grad()
def estimate_loss(model, split, device):
    model.eval()
    losses, generator = torch.zeros(eval_iters), torch.Generator().manual_seed(1)
    for k in range(eval_iters):
        x, y = get_batch(split, generator)
        losses[k] = model(x.to(device), y.to(device)).item()
    model.train()
    return losses.mean()


def batches(seed):  # thalweg
    while True:
        yield get_batch("train")


def train(run):  # thalweg
    device = run.device
    model = GPT().to(device)
    optimizer = run.optimizer(model.groups())  # thalweg
    run.track(model=model)  # thalweg
    for x, y in run.batches(batches):  # thalweg
        loss = model(x, y)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), grad_clip)
        optimizer.step()
        run.loss(loss)  # thalweg
        if run.due:  # thalweg
            run.report(valid={"loss": estimate_loss(model, "val", device)})  # thalweg
    run.report(test={"loss": estimate_loss(model, "test", device)})  # thalweg
