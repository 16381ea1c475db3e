"""Each fault once or a few times; `make chaos` tries them by the hundred."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.thorough]  # each fault has a test of its own beside what it hits


def test_nothing_is_lost_and_nothing_is_wrong():
    words = [sys.executable, "-m", "tests.chaos", "--scale", "0.01", "--seed", "1"]
    done = subprocess.run(words, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    tallies = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(tallies) == 12, done.stderr
    for tally in tallies:
        assert tally["survived"] == tally["tried"], tally
        assert tally["records_lost"] == tally["wrong_results"] == 0, tally
    assert done.returncode == 0, done.stderr
