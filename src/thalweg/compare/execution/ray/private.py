"""The name of Ray's that it does not publish, and that this package stands on: here alone."""

from ray._private import worker


def omit_findings() -> None:
    """Keeps out of the output what Ray finds out about nodes; what matters of it is reported here, in a line.

    ``log_to_driver=False`` does not reach it. In place of this: a setting, where a version of Ray has one.
    """
    worker.print_to_stdstream = lambda *data, **options: None
