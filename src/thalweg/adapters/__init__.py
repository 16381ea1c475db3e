"""What other libraries train, as tasks of :func:`thalweg.compare`: Lightning modules, models of transformers."""

from thalweg.adapters.hugging_face import transformers
from thalweg.adapters.lightning_module import lightning
from thalweg.adapters.lightning_optimizer import lightning_strategy

__all__ = ["lightning", "lightning_strategy", "transformers"]
