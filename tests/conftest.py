"""What holds for every property test, a busy machine takes as long as it takes; and what processes are forked off.

Those of a forkserver have torch already, and what most of them load beside it, which otherwise takes seconds in each.
"""

import atexit
import gc
import multiprocessing
import os
import shutil
import tempfile

from hypothesis import HealthCheck, settings

import tests.no_accelerator  # noqa: F401

if "TORCHINDUCTOR_CACHE_DIR" not in os.environ:  # what an earlier run compiled could hide a failure to compile
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache = tempfile.mkdtemp(prefix="compiled-")
    atexit.register(shutil.rmtree, cache, ignore_errors=True)

settings.register_profile("thalweg", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("thalweg")

COMMAND = ["thalweg.cli.main", "thalweg.compare.run", "thalweg.diagnosis", "thalweg.optim"]
MORE = ["torch._dynamo", "sklearn.datasets", "thalweg.compare.report"]  # what nearly every command loads when it trains
RANKS = ["torch.distributed.fsdp", "torch.distributed.checkpoint.state_dict"]
multiprocessing.set_forkserver_preload([*COMMAND, *MORE, *RANKS])


def pytest_collection_finish():
    """Leaves what collecting has made, a million objects that stay, out of every search for garbage."""
    gc.collect()
    gc.freeze()
