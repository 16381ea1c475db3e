"""What holds for every property test, a busy machine takes as long as it takes; and what processes are forked off.

Those of a forkserver have torch already, which otherwise takes seconds to import in each.
"""

import multiprocessing

from hypothesis import HealthCheck, settings

settings.register_profile("thalweg", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("thalweg")

multiprocessing.set_forkserver_preload(
    ["thalweg.cli.main", "thalweg.compare.run", "thalweg.diagnosis", "thalweg.optim"]
)
