"""Draws the layers of the code, docs/layers.svg, from the contracts that ``lint-imports`` checks.

The command is ``python -m docs.layers``.
"""

import ast
import re
import tomllib
from html import escape
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).parent.parent
PICTURE = ROOT / "docs" / "layers.svg"
WIDTH, ROW, PAD, NAME = 960, 22, 8, 180  # pixels; NAME is where what a package is for begins


def layers(contract: dict) -> list[list[str]]:
    """Returns the names of a contract's layers, the uppermost first.

    >>> layers({"layers": ["thalweg.cli", "thalweg.optim | thalweg.diagnosis"]})
    [['thalweg.cli'], ['thalweg.optim', 'thalweg.diagnosis']]
    """
    inside = contract.get("containers", [""])[0]
    rows = [[name.strip(" ()") for name in line.replace(":", "|").split("|")] for line in contract["layers"]]
    return [[f"{inside}.{name}" if inside else name for name in row] for row in rows]


def purpose(module: str) -> str:
    """Returns what a module's docstring says first."""
    path = ROOT / "src" / Path(*module.split("."))
    source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    text = ast.get_docstring(ast.parse(source.read_text(encoding="utf-8"))) or ""
    return re.sub(r":\w+:`|`", "", text.partition("\n")[0])


def drawing() -> str:
    """Returns the picture: a band for each layer, a line for each package, arrows the way that imports run."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    shapes, y = [], 0
    for contract in project["tool"]["importlinter"]["contracts"]:
        if contract["type"] != "layers":
            continue
        shapes.append(f'<text x="0" y="{y + 18}" font-weight="bold">{escape(contract["name"])}</text>')
        bands, y = [], y + 30
        for names in layers(contract):
            height = len(names) * ROW + PAD
            shapes.append(f'<rect x="0" y="{y}" width="{WIDTH}" height="{height}" rx="4" fill="#eef3f8"/>')
            for i, name in enumerate(names):
                line = y + PAD / 2 + ROW * i + 15
                shapes.append(f'<text x="10" y="{line:g}" font-weight="bold">{escape(name.split(".")[-1])}</text>')
                shapes.append(f'<text x="{NAME}" y="{line:g}">{escape(purpose(name))}</text>')
            bands.append((y, y + height))
            y += height + 14
        middle = NAME // 2
        for (_, end), (begin, _) in pairwise(bands):
            shapes.append(f'<path d="M{middle} {end}V{begin - 1}" stroke="#456" marker-end="url(#arrow)"/>')
        y += 20
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-10 -10 {WIDTH + 20} {y + 10}" font-family="sans-serif"'
    arrow = '<marker id="arrow" markerWidth="8" markerHeight="8" refX="6" refY="3" orient="auto">'
    arrow += '<path d="M0 0L6 3L0 6Z" fill="#456"/></marker>'
    ground = '<rect x="-10" y="-10" width="100%" height="100%" fill="white"/>'
    return "\n".join([f'{head} font-size="13" fill="#123">', f"<defs>{arrow}</defs>", ground, *shapes, "</svg>\n"])


if __name__ == "__main__":
    PICTURE.write_text(drawing(), encoding="utf-8")
