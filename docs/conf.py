"""The site: ``make docs`` builds it from the Markdown pages of this folder and the docstrings, into docs/_build."""

import re
from pathlib import Path
from typing import Any

import thalweg

project, author, copyright = "thalweg", "The thalweg developers", "The thalweg developers"
version = release = thalweg.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
html_theme = "furo"
html_title = "thalweg"
exclude_patterns = ["_build", "benchmarks"]
suppress_warnings = ["misc.highlighting_failure"]
nitpicky = False
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]
copybutton_prompt_text = r"\$ |>>> |\.\.\. "
copybutton_prompt_is_regexp = True
napoleon_google_docstring, napoleon_numpy_docstring = True, False
napoleon_use_ivar = True
napoleon_custom_sections = [("Source", "notes_style"), ("Constants", "params_style")]
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_member_order = "bysource"
add_module_names = False

REPOSITORY = "https://github.com/thalweg/thalweg/blob/main"
PAGES = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md", "SECURITY.md": "security.md"}


def _links(text: str, top: bool = False) -> str:
    """Returns the page with its links to files outside this folder led to their pages here, or to the repository."""

    def lead(found: re.Match[str]) -> str:
        path, _, anchor = found[1].partition("#")
        return f"]({PAGES.get(path) or f'{REPOSITORY}/{path}'}{'#' * bool(anchor)}{anchor})"

    outside = r"\]\((?!https?:|#|docs/)([^)\s]+)\)" if top else r"\]\(\.\./([^)\s]+)\)"
    return re.sub(outside, lead, text)


def _read(app: Any, page: str, source: list[str]) -> None:
    del app, page
    source[0] = _links(source[0])


def _included(app: Any, path: Path, page: str, source: list[str]) -> None:
    del app, path, page
    source[0] = _links(source[0], top=True)


def _names(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Puts a list of arguments that share a description on one line, where napoleon reads it."""
    del app, what, name, obj, options
    text = "\n".join(lines)
    lines[:] = re.sub(r"(?m)^( +(?:\w+, )*\w+),\n +(?=(?:\w+, )*\w+: )", r"\1, ", text).split("\n")


def _equations(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Makes a literal block of each indented block that stands alone, which is an equation; bars elsewhere are bars."""
    del app, what, name, obj, options
    done: list[str] = []
    literal, before = False, ""
    for line in lines:
        alone = not done or not done[-1].strip()
        if line.strip() and not line.startswith("    "):
            literal, before = False, line
        elif line.strip() and alone and before and not before.startswith((" ", ":", "..", "* ", "- ", ">>>")):
            done += ["::", ""]
            literal = True
        done.append(line if literal or ">>>" in line else re.sub(r"(?<!`)\|(?!`)", r"\\|", line))
    lines[:] = done


def setup(app: Any) -> None:
    """Is called by Sphinx."""
    app.connect("source-read", _read)
    app.connect("include-read", _included)
    app.connect("autodoc-process-docstring", _names, priority=400)
    app.connect("autodoc-process-docstring", _equations)
