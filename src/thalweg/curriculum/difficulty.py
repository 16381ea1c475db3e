"""Where an example's difficulty comes from: a model's loss on it, its length, or any function of it."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

Data = Dataset[Any]


def losses(
    model: nn.Module, data: Data, loss: Callable[..., Tensor], *, batch_size: int = 1024, **loader: Any
) -> Tensor:
    """Returns the loss of each example under a model, ℓ_i = L(f(x_i), y_i), as a teacher's judgment.

    The model runs in eval mode, without gradients, on the device of its first parameter; modes come back as they were.

    Arguments:
        model: a teacher, or the model that is trained.
        data: examples ``(*inputs, target)``, with a length.
        loss: ``(output, target) -> scalar``, the mean over a batch; it is mapped over the examples.
        batch_size: examples at a time.
        loader: further options of the ``DataLoader``, such as ``num_workers``.

    Returns:
        float tensor ``(n,)`` on the CPU.

    >>> data = torch.utils.data.TensorDataset(torch.tensor([[1.0], [2.0]]), torch.tensor([[1.0], [0.0]]))
    >>> losses(nn.Identity(), data, nn.functional.mse_loss).tolist()
    [0.0, 4.0]

    Source: Weinshall, Cohen & Amir 2018 (transfer teacher).
    """
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    modes = [(module, module.training) for module in model.modules()]
    found = []
    try:
        model.eval()
        with torch.no_grad():
            for batch in DataLoader(data, batch_size=batch_size, **loader):
                *inputs, target = (part.to(device) for part in batch)
                output = model(*inputs)
                one = torch.vmap(lambda o, t: loss(o[None], t[None]))  # a batch of one each
                found.append(one(output, target).flatten().cpu())
    finally:
        for module, training in modes:
            module.training = training
    return torch.cat(found)


def scores(data: Data, function: Callable[[Any], float]) -> Tensor:
    """Returns the difficulty of each example by a function of it.

    Arguments:
        data: examples in any form, with a length.
        function: from an example to a number, larger for harder.

    Returns:
        float64 tensor ``(n,)``.

    >>> scores(["a b", "a"], lambda text: text.count(" ")).tolist()
    [1.0, 0.0]
    """
    return torch.tensor([float(function(data[i])) for i in range(len(data))], dtype=torch.float64)  # type: ignore[arg-type]


def lengths(data: Data) -> Tensor:
    """Returns the length of each example, of its first part where it is a pair: long sequences are hard.

    >>> lengths([(torch.zeros(3), 1), (torch.zeros(2), 0)]).tolist(), lengths(["abc", "d"]).tolist()
    ([3.0, 2.0], [3.0, 1.0])

    Source: Deep Learning, §8.7.6; Zaremba & Sutskever 2014.
    """
    return scores(data, lambda example: len(example[0] if isinstance(example, (tuple, list)) else example))
