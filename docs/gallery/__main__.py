"""``python -m docs.gallery [NAME ...]``: draws the figures into docs/gallery and prints their numbers."""

import importlib
import sys
from pathlib import Path

import matplotlib

FIGURES = [
    "comparison",
    "adagrad_rates",
    "rmsprop_forgets",
    "adam_bias",
    "coordinate_descent",
    "photo_dictionary",
    "newton_quadratic",
    "newton_saddle",
    "conjugate_directions",
    "bfgs_inverse",
    "orders",
    "performance_profile",
    "signals",
    "symmetry",
    "chaos",
    "rescue",
    "gradient_depth",
    "polyak_valley",
    "batch_norm_product",
    "batch_norm_rates",
    "greedy_blocks",
    "hints_depth",
    "curriculum_order",
    "smoothed_descent",
]


def main() -> None:
    """Draws the figures that are asked for, all by default."""
    matplotlib.use("svg")
    matplotlib.rcParams |= {
        "svg.hashsalt": "thalweg",  # the same figure gives the same file
        "font.size": 9,
        "axes.grid": True,
        "grid.alpha": 0.3,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "legend.frameon": False,
        "figure.constrained_layout.use": True,
    }
    for name in sys.argv[1:] or FIGURES:
        if name not in FIGURES:
            sys.exit(f"no figure {name!r}: choose among {', '.join(FIGURES)}")
        figure = importlib.import_module(f"docs.gallery.{name}").draw()
        path = Path(__file__).with_name(f"{name}.svg")
        figure.savefig(path, metadata={"Date": None}, facecolor="white")
        print(f"-> {path}\n")


if __name__ == "__main__":
    main()
