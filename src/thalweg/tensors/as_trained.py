"""A model run as in training without its leaving a trace: modes, buffers and draws come back as they were."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from thalweg.tensors.draws import seed_torch
from thalweg.tensors.private import DropoutBase, own_buffers

WITHIN = (nn.MultiheadAttention, nn.RNNBase)  # drop out by a number of their own, with no module for it


@contextmanager
def as_trained(model: nn.Module) -> Iterator[None]:
    """Runs its body as in training, dropout off and draws from seed 0, and puts modes, buffers and draws back.

    Where the model is in training mode its parts keep theirs; one in eval mode is put into training mode as a whole.

    >>> net = nn.Sequential(nn.Dropout(), nn.BatchNorm1d(2)).eval()
    >>> with as_trained(net):
    ...     _ = net(torch.ones(4, 2))
    ...     print(net[1].training, net[0].training, int(net[1].num_batches_tracked))
    True False 1
    >>> net[1].training, int(net[1].num_batches_tracked)
    (False, 0)
    """
    modes = [(m, m.training) for m in model.modules()]
    rates = [(m, m.dropout) for m in model.modules() if isinstance(m, WITHIN)]
    buffers = [
        (m, name, b, b.detach().clone()) for m in model.modules() for name, b in own_buffers(m).items() if b is not None
    ]
    try:
        if not model.training:
            model.train()
        for module, _ in modes:
            if isinstance(module, DropoutBase):
                module.training = False
            elif isinstance(module, WITHIN):
                module.dropout = 0.0
        with torch.random.fork_rng(), torch.inference_mode(False), torch.enable_grad():
            seed_torch(0)
            yield
    finally:
        for module, training in modes:
            module.training = training
        for within, rate in rates:
            within.dropout = rate
        with torch.no_grad():
            for module, name, buffer, value in buffers:
                buffer.copy_(value)
                own_buffers(module)[name] = buffer


@contextmanager
def put_back(params: Sequence[Tensor]) -> Iterator[None]:
    """Runs its body and puts the parameters' values and gradients back.

    >>> w = torch.ones(2, requires_grad=True)
    >>> with put_back([w]), torch.no_grad():
    ...     _ = w.zero_()
    >>> w.tolist()
    [1.0, 1.0]
    """
    values, grads = [p.detach().clone() for p in params], [p.grad for p in params]
    try:
        for p in params:
            p.grad = None
        yield
    finally:
        with torch.no_grad():
            for p, value, grad in zip(params, values, grads, strict=True):
                p.copy_(value)
                p.grad = grad


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Runs its body with the model in eval mode and without gradients, and puts the modes back."""
    modes = [(m, m.training) for m in model.modules() if m.training]
    try:
        for module, _ in modes:
            module.training = False
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training
