"""Who is kept informed while a study runs."""

from collections.abc import Mapping


class Reporter:
    """Is informed of how the study goes; this one shows nothing."""

    def stage(self, title: str, steps: int, left: int) -> None:
        """A stage begins; ``steps`` in it and ``left`` in the study, this stage included."""

    def advance(self, steps: int) -> None:
        """Trial-steps were done."""

    def standing(self, best: Mapping[str, float]) -> None:
        """The best validation metric of each strategy so far."""

    def say(self, line: str) -> None:
        """Something that the user should know."""
