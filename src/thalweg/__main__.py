"""``thalweg`` and ``python -m thalweg``: the command line, or the line that says how to install it."""

import sys

from thalweg.extras import MissingExtraError, needs


def run() -> None:
    """Runs the command line; ends with exit code 2 where its packages are not installed."""
    try:
        with needs("compare", "the command thalweg"):
            from thalweg.cli import main
    except MissingExtraError as error:
        print(f"thalweg: {error}", file=sys.stderr)
        sys.exit(2)
    main.run()


if __name__ == "__main__":
    run()
