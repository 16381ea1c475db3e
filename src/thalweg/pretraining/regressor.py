"""What brings a student's layer to the shape of a teacher's: linear between units, a convolution between maps."""

from torch import Tensor, nn

from thalweg.architecture.linear_start import linear_start

CONVOLUTIONS = {3: nn.Conv1d, 4: nn.Conv2d, 5: nn.Conv3d}


def regressor_for(guided: Tensor, hint: Tensor, seed: int) -> nn.Module:
    """Returns the regressor r from the student's layer to the teacher's, drawn from N(0, 1/fan-in), bias 0.

    ================ ======================= =============================================================
    student          teacher                 regressor
    ================ ======================= =============================================================
    ``(N, d)``       ``(N, D)``              ``Linear(d, D)``
    ``(N, T, d)``    ``(N, T, D)``           ``Linear(d, D)`` at each of the T places
    ``(N, c, s, …)`` ``(N, C, S, …)``, S ≤ s convolution without padding, whose kernel s − S + 1 leaves S
    ================ ======================= =============================================================

    Signals of as many channels ``(N, c, s)``, which look like sequences, need a regressor of your own.

    Raises:
        ValueError: shapes that neither joins.

    >>> import torch
    >>> regressor_for(torch.zeros(1, 8, 12, 12), torch.zeros(1, 32, 10, 10), seed=0)
    Conv2d(8, 32, kernel_size=(3, 3), stride=(1, 1))

    Source: Romero et al. 2014, §2.2: a convolution has far fewer parameters than a linear layer between maps.
    """
    student, teacher = tuple(guided.shape[1:]), tuple(hint.shape[1:])
    dimensions, same = guided.dim(), guided.dim() == hint.dim()
    module: nn.Module
    if same and dimensions == 2:
        module = nn.Linear(student[0], teacher[0])
    elif same and dimensions == 3 and student[0] == teacher[0]:
        module = nn.Linear(student[1], teacher[1])
    elif same and dimensions in CONVOLUTIONS and all(s >= t for s, t in zip(student[1:], teacher[1:], strict=True)):
        kernel = tuple(s - t + 1 for s, t in zip(student[1:], teacher[1:], strict=True))
        module = CONVOLUTIONS[dimensions](student[0], teacher[0], kernel)  # type: ignore[arg-type]
    else:
        raise ValueError(
            f"no linear or convolutional regressor maps the student's {student} to the teacher's {teacher}: name "
            "layers of as many dimensions, the student's no smaller, or pass regressor="
        )
    weight, bias = module.weight, module.bias
    assert isinstance(weight, nn.Parameter)
    assert isinstance(bias, nn.Parameter)
    weight.data.copy_(linear_start(tuple(weight.shape), seed))
    bias.data.zero_()
    return module.to(guided.device, guided.dtype)
