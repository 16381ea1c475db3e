"""Measured seconds on a machine that is busy with other things."""

import itertools
import os
import subprocess
import sys

from thalweg.compare.execution.timing import now


def test_no_step_takes_less_than_nothing():
    busy = [subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"]) for _ in range(os.cpu_count() + 1)]
    try:
        moments = [now(1) for _ in range(20_000)]
    finally:
        for process in busy:
            process.kill()
            process.wait()
    # 1 ms, since two clocks of the system are read.
    assert min(later - moment for moment, later in itertools.pairwise(moments)) > -1e-3
