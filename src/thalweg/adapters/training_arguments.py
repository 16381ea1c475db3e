"""``TrainingArguments`` of transformers as arguments of a task, and what of them is not carried over."""

import warnings
from collections.abc import Mapping
from typing import Any

from thalweg.compare.user_errors import TaskError

CHANGING: Mapping[str, Any] = {"label_smoothing_factor": 0.0, "neftune_noise_alpha": None, "batch_eval_metrics": False}
NOT_CARRIED: Mapping[str, Any] = {  # beside what is a strategy's; with the values that change nothing
    "weight_decay": 0.0,
    "gradient_checkpointing": False,
    "group_by_length": False,
    "deepspeed": None,
    "fsdp": [],
    "torch_compile": False,
}


def options_of(args: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns arguments of a task, with ``epochs`` where the steps follow from them, and the metric with its direction.

    Raises:
        TaskError: an argument changes the loss or the evaluation.
    """
    if args is None:
        return {}, {}
    for name, neutral in CHANGING.items():
        if (value := getattr(args, name, neutral)) != neutral:
            raise TaskError(f"{name}={value} changes the loss or how it is evaluated, inside of the Trainer: omit it")
    ignored = [f"{name}={value}" for name, neutral in NOT_CARRIED.items() if (value := getattr(args, name, neutral))]
    if ignored:
        warnings.warn(f"not carried over from TrainingArguments: {', '.join(ignored)}{_remedy(args)}", stacklevel=3)
    found: dict[str, Any] = {
        "batch_size": args.per_device_train_batch_size,
        "accumulate": args.gradient_accumulation_steps,
        "clip_norm": args.max_grad_norm or None,
        "precision": "bf16" if args.bf16 else "fp16" if args.fp16 else "fp32",
    }
    found |= {"steps": args.max_steps} if args.max_steps > 0 else {"epochs": float(args.num_train_epochs)}
    return found, {"metric": args.metric_for_best_model, "higher_is_better": args.greater_is_better}


def reading_of(args: Any, part: str) -> dict[str, Any]:
    """Returns how a loader reads the ``"train"`` or the ``"eval"`` part, with the batch size of the latter."""
    if args is None:
        return {} if part == "train" else {"batch_size": 64}
    found = {"num_workers": args.dataloader_num_workers}
    return found if part == "train" else {**found, "batch_size": args.per_device_eval_batch_size}


def _remedy(args: Any) -> str:
    return "; give it to a strategy, as --set adamw.weight_decay=… does" if args.weight_decay else ""
