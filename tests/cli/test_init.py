"""``thalweg init``: what it writes runs as it is, alone and with the models and data sets of a module."""

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import thalweg
from tests.command import command
from tests.schemas import printed
from thalweg.cli.starters.written import KINDS, TEMPLATES
from thalweg.compare.task import build_model, examples
from thalweg.compare.task.loading import load_task

os.environ["HF_HUB_OFFLINE"] = "1"  # before transformers is loaded: nothing is to be fetched
ROOT = Path(__file__).parents[2]
NEEDS = {"lightning": "pytorch_lightning", "transformers": "transformers"}
RUFF = [sys.executable, "-m", "ruff"]
RULES = ["--isolated", "--line-length", "120", "--target-version", "py311"]

HEADER = "import torch\nfrom torch import nn\nimport torch.nn.functional as F\nfrom torch.utils.data import Dataset\n"
LENET = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5)
        self.pool = nn.MaxPool2d(2, 2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(16 * 4 * 4, 20)
        self.fc2 = nn.Linear(20, 7)

    def forward(self, x):
        x = self.pool(F.relu(self.conv1(x)))
        x = self.pool(F.relu(self.conv2(x)))
        return self.fc2(F.relu(self.fc1(torch.flatten(x, 1))))
"""
GPT = """
from dataclasses import dataclass

class Block(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.mlp = nn.Linear(config.n_embd, config.n_embd)

    def forward(self, x):
        return x + self.mlp(x)

@dataclass
class GPTConfig:
    block_size: int = 12
    vocab_size: int = 65
    n_embd: int = 32

class GPT(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.block_size = config.block_size
        self.parts = nn.ModuleDict(dict(
            wte=nn.Embedding(config.vocab_size, config.n_embd),
            wpe=nn.Embedding(config.block_size, config.n_embd),
            h=nn.ModuleList([Block(config) for _ in range(2)]),
        ))
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size)

    def forward(self, idx, targets=None):
        assert idx.shape[1] <= self.block_size
        x = self.parts.wte(idx) + self.parts.wpe(torch.arange(idx.shape[1]))
        for block in self.parts.h:
            x = block(x)
        logits = self.lm_head(x)
        return logits, F.cross_entropy(logits.flatten(0, 1), targets.flatten()) if targets is not None else None
""".replace("return logits, F", "loss = F").replace(
    " if targets is not None else None", "\n        return logits, loss"
)
REGRESSOR = """
class Head(nn.Module):
    def __init__(self, n, outputs):
        super().__init__()
        self.linear = nn.Linear(n, outputs)

    def forward(self, x):
        return self.linear(x)

class Regressor(nn.Module):
    def __init__(self, in_dim: int, hidden: int, *, dropout: float):
        super().__init__()
        self.first, self.drop = nn.Linear(in_dim, hidden), nn.Dropout(dropout)
        self.head = Head(hidden, 1)

    def forward(self, x):
        return self.head(F.relu(self.drop(self.first(x))))
"""
DICTIONARIES = """
class Texts(Dataset):
    def __init__(self, root, split):
        self.count = {"train": 200, "val": 60, "test": 60}[split]

    def __len__(self):
        return self.count

    def __getitem__(self, i):
        ids = torch.randint(30, (6,), generator=torch.Generator().manual_seed(i))
        return {"ids": ids, "mask": ids > 0, "label": int(ids[0] > 15)}

class Model(nn.Module):
    def __init__(self, vocab=30, classes=2):
        super().__init__()
        self.embedding, self.out = nn.Embedding(vocab, 8), nn.Linear(8, classes)

    def forward(self, ids, mask):
        return self.out((self.embedding(ids) * mask.unsqueeze(-1)).mean(1))
"""
BAG = """
class Bag(nn.Module):
    def __init__(self, vocab_size, embed_dim, num_class):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, embed_dim)
        self.fc = nn.Linear(embed_dim, num_class)

    def forward(self, text):
        return self.fc(self.embedding(text).mean(1))
"""
CALLED = """
class task(nn.Sequential):
    def __init__(self, sizes, bias):
        super().__init__(nn.Linear(11, sizes[0], bias=bias), nn.ReLU(), nn.Linear(sizes[0], 4))

class Rows(Dataset):
    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, i):
        return torch.ones(11), i % 4

if __name__ == "__main__":
    print(task([5, 6], bias=False), Rows(400))
"""
LIT = """
import pytorch_lightning as pl

class Lit(pl.LightningModule):
    def __init__(self, lr: float):
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))

    def training_step(self, batch, index):
        x, y = batch
        return F.cross_entropy(self.net(x), y)
"""
TAGGER = """
from transformers import BertModel, BertPreTrainedModel

class TaggerOfTokensForTests(BertPreTrainedModel):
    def __init__(self, config):
        super().__init__(config)
        self.bert, self.head = BertModel(config), nn.Linear(config.hidden_size, 2)

    def forward(self, input_ids, labels=None):
        logits = self.head(self.bert(input_ids)[0][:, 0])
        return {"loss": F.cross_entropy(logits, labels), "logits": logits}
"""
CLASS = "class A(nn.Module):\n def "
# The module, the model that is to be taken, the kind, and what the file has to say.
MODULES = {
    "lenet": (LENET, "Net", "vision", ["CHANNELS = 1", "SIZE = 28", "CLASSES = 7", "Net()"]),
    "gpt": (GPT, "GPT", "text", ["VOCABULARY = 65", "LENGTH = 12", "GPT(config=GPTConfig())", "model(*batch)[1]"]),
    "regressor": (
        REGRESSOR,
        "Regressor",
        "tabular",
        ["(in_dim=FEATURES, hidden=32, dropout=0.1)", "mse_loss"],
    ),
    "dictionaries": (
        DICTIONARIES,
        "Model",
        "text",
        ['(root="data", split="val")', 'model(ids=batch["ids"], mask='],
    ),
    "bag": (BAG, "Bag", "text", ["Bag(vocab_size=VOCABULARY, embed_dim=32, num_class=CLASSES)", "(count,)"]),
    "called": (CALLED, "task", "tabular", ["task as Owntask", "Owntask(sizes=[5, 6], bias=False)", "Rows(count=400)"]),
    "lit": (LIT, "Lit", "lightning", ["CHANNELS = 1", "CLASSES = 5", "Lit(lr=0.001)", "adam,adamw@cosine\n"]),
    "tagger": (
        TAGGER,
        "TaggerOfTokensForTests",
        "transformers",
        [".config_class(\n            vocab_size=VOCABULARY", "max_steps=60"],
    ),
}


def skip_without(kind):
    if kind in NEEDS and importlib.util.find_spec(NEEDS[kind]) is None:
        pytest.skip(f"{NEEDS[kind]} is not installed")


def written(*words, cwd):
    """Returns what ``thalweg init --json`` says it has written, and the file's text, which ruff has nothing against."""
    done = command("init", *words, "--json", cwd=cwd)
    assert done.returncode == 0, done.stderr
    record = printed("init", done.stdout)
    for checks in (["check", "--select", "E,F,I,B,UP,RUF,C4,PIE", *RULES], ["format", "--check", *RULES]):
        checked = subprocess.run([*RUFF, *checks, record["file"]], cwd=cwd, capture_output=True, text=True)
        assert checked.returncode == 0, checked.stdout
    return record, (cwd / record["file"]).read_text()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Lightning's own, on workers
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_runs_with_the_command_that_is_printed(kind, tmp_path):
    skip_without(kind)
    record, text = written("--kind", kind, cwd=tmp_path)
    assert record["kind"] == kind
    assert f"    {record['command']}\n" in text
    words = shlex.split(record["command"])
    assert words[:2] == ["thalweg", "compare"]
    strategies = words[words.index("--strategies") + 1] if "--strategies" in words else "adam,sgd"
    small = {"trials": 1, "seeds": 2, "steps": 6, "engine": "auto" if kind == "loop" else "serial", "device": "cpu"}
    study = thalweg.compare(words[2], strategies, **small, here=tmp_path, out=tmp_path / "study")
    compared = study.results["strategies"]
    assert len(compared) == len(strategies.split(","))
    assert [s["name"] for s in compared if s["diverged"] or s["could_not_run"]] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", MODULES)
def test_a_module_gives_its_models_and_data(name, tmp_path):
    text, model, kind, parts = MODULES[name]
    skip_without(kind)
    (tmp_path / f"its_{name}.py").write_text(HEADER + text)
    record, made = written(f"its_{name}.py", "--out", f"my_{name}.py", cwd=tmp_path)
    assert (record["model"], record["kind"]) == (model, kind)
    assert [part for part in parts if part not in made] == []
    task = load_task(f"my_{name}.py:task", tmp_path)
    torch.manual_seed(0)
    net, data = build_model(task), examples(task)
    for part in (data.train, data.valid, data.test):
        batch = part.batch(next(iter(part.rows(0, 0, 1, task.batch_size))))
        found = task.step(net, batch) if task.step is not None else task.loss(net(batch[0]), batch[1])
        loss = found[0] if isinstance(found, tuple) else found
        assert loss.isfinite()
    assert loss.requires_grad


def test_what_it_does_is_said_and_nothing_that_is_there_is_overwritten(tmp_path):
    (tmp_path / "net.py").write_text(HEADER + GPT)
    done = command("init", "net.py", cwd=tmp_path)
    assert done.stdout.splitlines() == [
        "model: GPT (--model chooses another one: Block)",
        "wrote my.py; the next command:",
        "thalweg compare my.py:task",
    ]
    text = (tmp_path / "my.py").read_text()
    again = command("init", "--kind", "text", cwd=tmp_path)
    assert again.returncode == 2
    assert again.stderr == "thalweg: my.py is there already, and is left as it is: choose another --out\n"
    assert (tmp_path / "my.py").read_text() == text
    plain = command("init", "--out", "other.py", cwd=tmp_path)
    assert plain.stdout.startswith("kind: tabular (--kind chooses another one: vision, text, ")
    chosen = command("init", "net.py", "--model", "Block", "--out", "block.py", cwd=tmp_path)
    assert chosen.stdout.startswith("model: Block (--model chooses another one: GPT)")


@pytest.mark.parametrize(
    ("text", "words", "line"),
    [
        ("x = 1", ["net.py"], "net.py defines no class that derives from torch.nn.Module or LightningModule"),
        ("class A(", ["net.py"], "net.py cannot be read ('(' was never closed, line 1): correct it"),
        ("x = '\0'", ["net.py"], "net.py c?.*(null bytes).*: (correct it|name another one)"),
        (BAG, ["net.py", "--model", "Bags"], "net.py defines no model 'Bags': did you mean 'Bag'?"),
        (BAG, ["none.py"], "cannot read none.py (No such file or directory)"),
        (BAG, ["net.py", "--out", "below/my.py"], "net.py does not lie in or below the folder of my.py"),
        (BAG, ["net.py", "--out", "my"], "my is no name of a Python module"),
        (BAG, ["--model", "Bag"], "--model names a class of a module: name its file first"),
        (BAG, ["--kind", "audio"], "Invalid value for '--kind'"),
        (
            "class A(nn.Module):\n def forward(self, x, z): 0",
            ["net.py"],
            "A.forward takes x, z, and init can make up one",
        ),
        (
            "class A(nn.Module):\n def __init__(self): self.a = nn.GRU(3, 4)",
            ["net.py"],
            "A begins with GRU, which does not",
        ),
    ],
    ids=["none", "syntax", "null", "model", "missing", "elsewhere", "suffix", "no-module", "kind", "inputs", "stem"],
)
def test_what_it_cannot_do_is_one_line(text, words, line, tmp_path):
    (tmp_path / "net.py").write_text(text if "\0" in text or text == "class A(" else HEADER + text)
    (tmp_path / "below").mkdir()
    done = command("init", *words, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    pattern = line if "?.*" in line else re.escape(line)
    assert re.match(f"thalweg: {pattern}", done.stderr), done.stderr
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["below", "net.py"]


def test_every_template_is_listed_and_none_promises_to_be_finished_later():
    names = {path.stem for path in TEMPLATES.glob("*.py")}
    assert names == {*KINDS, "labelled_text"}
    for path in TEMPLATES.glob("*.py"):
        assert not re.search(r"TODO|FIXME|XXX|\.\.\.\n", path.read_text())
