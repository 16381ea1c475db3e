"""The device that is asked for, if it can be used here."""

import torch

from thalweg.compare.user_errors import brief


def usable_device(asked: str | None) -> torch.device:
    """Returns the device of that name, by default CUDA where there is one.

    Raises:
        ValueError: it cannot be used here.

    >>> usable_device("cpu")
    device(type='cpu')
    """
    try:
        device = torch.device(asked or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.zeros(1, device=device).item()  # meta tensors can be made, but hold nothing
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device {asked!r} cannot be used here ({brief(error)}): use --device cpu") from error
    return device
