"""The digits panel of scikit-learn's example "Compare stochastic learning strategies for MLPClassifier", reproduced.

The network (100 rectifiers), batches, penalty, epochs, schedules and Glorot's bounds are the same, with thalweg.optim
and thalweg.initialization in place of scikit-learn's own; each setting is run with ten seeds in both libraries.
"""

import warnings
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import MinMaxScaler
from torch import Tensor, nn

from benchmarks.measure import table
from thalweg import optim
from thalweg.tensors import generator

EPOCHS, BATCH, HIDDEN, ALPHA, SEEDS = 15, 200, 100, 1e-4, 10
# The settings of the example, in its order and words.
SETTINGS: dict[str, dict[str, Any]] = {
    "constant learning-rate": {"learning_rate": "constant", "momentum": 0, "learning_rate_init": 0.2},
    "constant with momentum": {
        "learning_rate": "constant",
        "momentum": 0.9,
        "nesterovs_momentum": False,
        "learning_rate_init": 0.2,
    },
    "constant with Nesterov's momentum": {
        "learning_rate": "constant",
        "momentum": 0.9,
        "nesterovs_momentum": True,
        "learning_rate_init": 0.2,
    },
    "inv-scaling learning-rate": {"learning_rate": "invscaling", "momentum": 0, "learning_rate_init": 0.2},
    "inv-scaling with momentum": {
        "learning_rate": "invscaling",
        "momentum": 0.9,
        "nesterovs_momentum": False,
        "learning_rate_init": 0.2,
    },
    "inv-scaling with Nesterov's momentum": {
        "learning_rate": "invscaling",
        "momentum": 0.9,
        "nesterovs_momentum": True,
        "learning_rate_init": 0.2,
    },
    "adam": {"solver": "adam", "learning_rate_init": 0.01},
}


def measure() -> dict[str, Any]:
    """Returns both sides' training score and loss: means and spreads over the seeds."""
    x, y = load_digits(return_X_y=True)
    x = MinMaxScaler().fit_transform(x)
    inputs, targets = torch.as_tensor(x), torch.as_tensor(y)
    found = {}
    for name, setting in SETTINGS.items():
        theirs = np.array([_theirs(x, y, setting, seed) for seed in range(SEEDS)])
        ours = np.array([_ours(inputs, targets, setting, seed) for seed in range(SEEDS)])
        found[name] = {
            which: {
                "scikit_learn": {"mean": float(theirs[:, i].mean()), "spread": float(theirs[:, i].std(ddof=1))},
                "thalweg": {"mean": float(ours[:, i].mean()), "spread": float(ours[:, i].std(ddof=1))},
                "within_its_spread": bool(abs(ours[:, i].mean() - theirs[:, i].mean()) <= theirs[:, i].std(ddof=1)),
            }
            for i, which in enumerate(("score", "loss"))
        }
    return found


def _theirs(x: Any, y: Any, setting: dict[str, Any], seed: int) -> tuple[float, float]:
    model = MLPClassifier(random_state=seed, max_iter=EPOCHS, **{"solver": "sgd", **setting})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fifteen epochs are not meant to converge
        model.fit(x, y)
    return model.score(x, y), model.loss_


def _ours(x: Tensor, y: Tensor, setting: dict[str, Any], seed: int) -> tuple[float, float]:
    draws = generator(seed, "mlp")
    model = nn.Sequential(nn.Linear(64, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 10)).double()
    for layer in (model[0], model[2]):
        bound = (6 / (layer.in_features + layer.out_features)) ** 0.5  # scikit-learn draws the biases alike
        for parameter in layer.parameters():
            nn.init.uniform_(parameter, -bound, bound, generator=draws)
    lr = setting["learning_rate_init"]
    optimizer: torch.optim.Optimizer
    if setting.get("solver") == "adam":
        optimizer = optim.Adam(model.parameters(), lr=lr)
    else:
        nesterov = setting.get("nesterovs_momentum", False)
        optimizer = optim.SGD(model.parameters(), lr=lr, momentum=setting["momentum"], nesterov=nesterov)
    weights = [model[0].weight, model[2].weight]
    total = 0.0
    for epoch in range(EPOCHS):
        total = 0.0
        for rows in torch.randperm(len(x), generator=draws).split(BATCH):
            optimizer.zero_grad()
            penalty = ALPHA / 2 * sum(w.square().sum() for w in weights) / len(rows)
            loss = nn.functional.cross_entropy(model(x[rows]), y[rows]) + penalty
            loss.backward()
            optimizer.step()
            total += loss.item() * len(rows)
        if setting.get("learning_rate") == "invscaling":
            # The book's velocity holds the learning rate, torch's does not: rescaled, it is the same velocity.
            new = lr / ((epoch + 1) * len(x) + 1) ** 0.5
            for group in optimizer.param_groups:
                for p in group["params"]:
                    if "momentum_buffer" in optimizer.state[p]:
                        optimizer.state[p]["momentum_buffer"] *= group["lr"] / new
                group["lr"] = new
    with torch.no_grad():
        score = float((model(x).argmax(dim=1) == y).double().mean())
    return score, total / len(x)


def show(found: dict[str, Any]) -> str:
    """Returns the table."""
    rows = []
    for name, one in found.items():
        cells = []
        for which in ("score", "loss"):
            for side in ("scikit_learn", "thalweg"):
                cells.append(f"{one[which][side]['mean']:.4f} ± {one[which][side]['spread']:.4f}")
        within = all(one[which]["within_its_spread"] for which in ("score", "loss"))
        rows.append([name, *cells, "yes" if within else "no"])
    return table(
        ["setting", "score, scikit-learn", "score, thalweg", "loss, scikit-learn", "loss, thalweg", "within spread"],
        rows,
    )
