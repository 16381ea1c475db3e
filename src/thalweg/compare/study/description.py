"""What a study is, by which a folder with another one is refused, and in which circumstances it was run."""

import hashlib
import math
import platform
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import torch
from torch import Tensor, nn

from thalweg.compare.design import Budget
from thalweg.compare.execution.context import TaskContext
from thalweg.compare.names import printable
from thalweg.compare.strategy.variants import Variant
from thalweg.compare.study.config import StudyConfig
from thalweg.compare.task import Task
from thalweg.compare.task.loop import TrainingLoop, source_of
from thalweg.compare.task.task import GuidanceInputs

FROM_PYTHON = "thalweg.compare(...) from Python"  # in place of a command line


def task_of(contexts: Mapping[Variant, TaskContext]) -> dict[str, Any]:
    """Returns what makes a task what it is."""
    context = contexts[Variant()]
    task, data = context.task, context.data
    starts = [own.start("default", 0) for own in contexts.values()]
    own = [] if task.step is None else [source_of(task.step), source_of(task.evaluate)]
    return {
        **described(task),
        "train_size": data.train.count,
        "valid_size": data.valid.count,
        "test_size": data.test.count,
        "parameters": context.layout.size,
        "is_given": task.is_given,
        "batch_size": task.batch_size,
        **task.stepping,
        **task.grouping.described,
        "model": str(context.model),
        "guides": _names(task.guidance_inputs),
        "digest": digest_of([*data.known_by(), *starts, *_tensors(task.guidance_inputs)], own),
    }


def described(task: Task | TrainingLoop) -> dict[str, Any]:
    """Returns what a task or a training loop says of itself."""
    return {
        "name": task.name,
        "description": task.description,
        "metric": task.metric_name,
        "direction": task.direction,
        "range": [bound if math.isfinite(bound) else None for bound in task.metric_range],
        "target": task.target,
    }


def digest_of(tensors: Iterable[Tensor], texts: Iterable[str] = ()) -> str:
    """Returns a digest of tensors and texts."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(repr((tuple(tensor.shape), tensor.dtype)).encode())
        digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    for text in texts:
        digest.update(text.encode())
    return digest.hexdigest()


def study_of(task: Mapping[str, Any], config: StudyConfig, budget: Budget, device: str) -> dict[str, Any]:
    """Returns what makes the study of a task what it is; a folder with another one is refused."""
    return {
        "task": dict(task),
        "protocol": budget.protocol,
        "strategies": [s.describe() for s in config.strategies],
        "budget": budget.stated(),
        "decay": config.decay,
        "within": config.within,
        "judge": config.judge,
        "seed": config.seed,
        "engine": config.engine,
        "device": device,
        "torch": torch.__version__,
    }


def loss_of(task: Task) -> str:
    """Returns the name of what a task minimizes."""
    made = task.loss or task.step
    return printable(getattr(made, "__qualname__", None) or type(made).__name__)


def circumstances(device: torch.device, command: str | None, task: Any) -> dict[str, Any]:
    """Returns where and when the study of a task, or of one by its name, is run, and by which versions."""
    import numpy
    import scipy

    from thalweg import __version__

    return {
        "task": task if isinstance(task, str) else None,
        "command": command or FROM_PYTHON,
        "versions": {
            "thalweg": __version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "numpy": numpy.__version__,
            "scipy": scipy.__version__,
        },
        "machine": {
            "system": platform.platform(),
            "processor": platform.processor() or platform.machine(),
            "threads": torch.get_num_threads(),
            "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        },
        "device": str(device),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": sys.executable.rsplit("/", 1)[-1],
    }


def _tensors(inputs: GuidanceInputs) -> list[Tensor]:
    """Returns the numbers in guidance inputs: difficulties, and the weights of a teacher that is trained already."""
    difficulty = [] if inputs.difficulty is None else [torch.as_tensor(inputs.difficulty)]
    return [*difficulty, *(inputs.teacher.state_dict().values() if isinstance(inputs.teacher, nn.Module) else [])]


def _names(inputs: GuidanceInputs) -> dict[str, str]:
    """Returns what else is in a task's guidance inputs, in words."""
    made = {name: getattr(inputs, name) for name in ("teacher", "source")}
    words = {name: getattr(value, "__qualname__", str(value)) for name, value in made.items() if value is not None}
    return words | {name: str(getattr(inputs, name)) for name in ("hint", "guided", "blocks", "parts")}
