"""The rungs of a study: under which names what is trained together is stored, and how they are called in words."""

from typing import NamedTuple

TITLES = {  # of the rungs, in their order
    "tune-1": "tuning, first rung",
    "tune-2": "tuning, configurations near the best",
    "tune-3": "tuning, the best to the end",
    "final": "final runs on fresh seeds",
}
ADDED_TITLES = {  # of those of each batch that is added
    "tune-4": "more tuning, first rung",
    "tune-5": "more tuning, the best to the end",
    "final": TITLES["final"],
}


class Stage(NamedTuple):
    """What is trained together.

    Attributes:
        rung: under which its records are stored.
        look: at which they are first judged, from 1.
        runs: of each strategy that is in question.
        steps: of each run.
    """

    rung: str
    look: int
    runs: int
    steps: int

    @property
    def title(self) -> str:
        """What it is, in words."""
        return TITLES[self.rung] if self.look == 1 else f"{ADDED_TITLES[self.rung]} (batch {self.look})"
