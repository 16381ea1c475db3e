"""Self-paced learning: what is easy is what the model itself, as it stands, does well."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.utils.data import Dataset

from thalweg.curriculum.difficulty import losses
from thalweg.tensors.ranges import is_whole


class SelfPaced:
    """The model's own losses as difficulty, measured again every so many steps: ℓ_i = L(f(x_i; θ_t), y_i).

    Each refresh is a pass of the model over the data without gradients, and begins a new pass of the sampler. Worked
    out when the batch is drawn: workers that fetch ahead see the model a few steps earlier, so that resuming is exact
    without workers only. On several ranks the losses have to be equal, as they are where buffers are.

    Arguments:
        model: the one that is trained.
        data: examples ``(input, target)``, with a length.
        loss: ``(output, target) -> scalar``, the mean over a batch.
        every: steps from one refresh to the next.
        options: of :func:`losses`.

    Raises:
        ValueError: ``every`` that is no whole number of at least 1.

    Source: Kumar, Packer & Koller 2010.
    """

    def __init__(
        self, model: nn.Module, data: Dataset[Any], loss: Callable[..., Tensor], *, every: int, **options: Any
    ) -> None:
        if not is_whole(every):
            raise ValueError(f"every must be at least 1 step, not {every}")
        self.model, self.data, self.loss, self.every, self.options = model, data, loss, every, options

    def __len__(self) -> int:
        return len(self.data)  # type: ignore[arg-type]

    def __call__(self) -> Tensor:
        """Returns the losses ``(n,)`` of the model as it stands."""
        return losses(self.model, self.data, self.loss, **self.options)
